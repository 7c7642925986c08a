//! The kernel layer: the real probe in the real kernel, met by real connects.

mod accounts;
mod adoption;
mod attribution;
mod brake;
mod cgroup_life;
mod cgroup_rules;
mod containers;
mod exceptions;
mod full;
mod level_storms;
mod levels;
mod life;
mod limits;
mod local;
mod message_limits;
mod messages;
mod people;
mod pipe;
mod recipient_limits;
mod redirect;
mod root;
mod sessions;
mod ways;
mod wires;

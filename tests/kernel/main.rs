//! The kernel layer: the real probe in the real kernel, met by real connects.

mod accounts;
mod adoption;
mod brake;
mod containers;
mod full;
mod life;
mod limits;
mod local;
mod message_limits;
mod messages;
mod pipe;
mod recipient_limits;
mod root;
mod sessions;
mod ways;
mod wires;

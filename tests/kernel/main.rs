//! The kernel layer: the real probe in the real kernel, met by real connects.

mod accounts;
mod containers;
mod full;
mod life;
mod limits;
mod root;
mod ways;

//! From a record of the ring buffer to a story a person can read.

pub mod process;
pub mod story;

//! From configuration to the rules the kernel reads. Nothing here touches the kernel.
#![forbid(unsafe_code)]

pub mod compile;
pub mod explain;

pub use compile::{Compiled, compile};

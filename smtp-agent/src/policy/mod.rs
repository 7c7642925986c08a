//! From configuration to the rules the kernel reads. Nothing here touches the kernel.
#![forbid(unsafe_code)]

pub mod cgroups;
pub mod compile;
pub mod exceptions;
pub mod explain;
pub mod ledger;
pub mod limits;
pub mod patterns;

pub use compile::{Circumstances, Compiled, Said, Whom, by_hand, compile};

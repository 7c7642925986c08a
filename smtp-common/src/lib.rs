//! The pure core of smtp-agent.
//!
//! Three programs run this code and none of them repeats it: the kernel probe, `smtp-agent explain`
//! and the property tests. It is plain `no_std` Rust without `unsafe`, allocation, clock or I/O; what it
//! needs from the world (windows) it asks for through a trait.
//!
//! Types that cross into a BPF map or the ring buffer are `repr(C)` with explicit padding and a size
//! assert. Changing one of them means raising [`names::LAYOUT_VERSION`].
#![no_std]
#![forbid(unsafe_op_in_unsafe_fn)]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

#[cfg(test)]
extern crate std;

pub mod automaton;
pub mod choice;
pub mod command;
pub mod connection;
pub mod counter;
pub mod decide;
pub mod dialogue;
pub mod event;
pub mod level;
pub mod names;
pub mod portrait;
#[cfg(test)]
mod reference;
pub mod reply;
pub mod rule;
pub mod saved;
pub mod session;
pub mod tally;
pub mod window;

/// Implements `aya::Pod` where the agent asks for it. The listed types are `repr(C)`, have no padding
/// the compiler added (their size asserts say so) and are valid for every bit pattern.
macro_rules! pod {
    ($($t:ty),+ $(,)?) => {
        $(
            // SAFETY: `repr(C)`, `Copy`, made of integers only, padding explicit and asserted.
            #[cfg(feature = "user")]
            unsafe impl aya::Pod for $t {}
        )+
    };
}
pub(crate) use pod;

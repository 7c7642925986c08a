//! The history: what was attempted, by whom, and what became of it, in an embedded database (SQLite) of bounded size and age.
//!
//! Totals are the growth of the kernel's counters and exact. What breaks them down comes from events, of which the kernel
//! tells so many a second: [`read`] gives both, and reports say how many of the total they could attribute.
//!
//! One thread writes ([`writer`]), in batches and never waited for. Whatever happens to the file (full disk, loss of power,
//! rot, another program's or a later version's database) costs history and nothing else.
#![forbid(unsafe_code)]

pub mod actor;
mod backlog;
mod clock;
pub mod counts;
pub mod file;
mod hosts;
mod names;
pub mod prune;
mod purse;
pub mod read;
pub mod record;
mod rollup;
pub mod saved;
pub mod schema;
pub mod write;
pub mod writer;

pub use counts::Counts;
pub use file::{NAME, Trouble};
pub use prune::Limits;
pub use read::Reader;
pub use record::{Attempt, Counter, CounterId, Host, Millis, Named, Record, SessionEnd, Target, Who};
pub use schema::{Dimension, Level};
pub use write::{Gate, Writing};
pub use writer::{Cause, History, now};

#[cfg(test)]
pub(crate) mod tests;

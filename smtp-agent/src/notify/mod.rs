//! From something that somebody should know of to those who want to be told: mail, webhook, Alertmanager, command, journal.
//!
//! In the order a [`Notice`] walks through them: `gather` says what is news, `outlet` what waits for others and what would be
//! too much for a sink; `spool` keeps each message on the disk until its sink has taken it; `text` fills in the templates; `sink` delivers.
//! `desk` is the thread that does all this, so that whoever has a notice never waits. `baseline` is what is usual for each
//! account. Nothing here knows of the kernel or of the store.

pub mod baseline;
mod desk;
mod gather;
mod notice;
mod outlet;
mod sink;
mod spool;
mod text;

pub use desk::{Desk, Totals};
pub use gather::Shares;
pub use notice::{HOST, Message, Notice};
pub use sink::{Outcome, problems, test};

pub use crate::config::{Kind, Kinds};

/// Seconds since the epoch.
pub type Seconds = u64;

pub fn now() -> Seconds {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

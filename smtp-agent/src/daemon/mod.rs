//! The long-running agent: start, watch, reload, stop, in a fixed order.

pub mod by_hand;
pub mod destinations;
pub mod events;
pub mod following;
pub mod history;
pub mod logging;
pub mod notices;
pub mod quotas;
pub mod reboot;
pub mod reload;
pub mod run;
pub mod schedule;
pub mod shared;
pub mod sweep;
pub mod watch;

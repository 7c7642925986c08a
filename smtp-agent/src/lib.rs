//! smtp-agent: who is sending mail from this host, and how it is stopped at the limit.
//!
//! The rooms, in the order data walks through them: `config` and `policy` lead to `kernel`; from there events
//! go through `stream` to `control`, and counts to `metrics`. `daemon` and `cli` are the only rooms that know
//! many others. See ARCHITECTURE.md.

pub mod accounts;
pub mod attribution;
pub mod by_hand;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod destinations;
pub mod dns;
pub mod doctor;
pub mod exit;
pub mod import;
pub mod kernel;
pub mod metrics;
pub mod neighbours;
pub mod notify;
pub mod overview;
pub mod page;
pub mod policy;
pub(crate) mod program;
pub mod rehearse;
pub mod relay;
pub mod report;
pub mod store;
pub mod stream;
pub mod top;

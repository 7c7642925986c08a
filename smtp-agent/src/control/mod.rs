//! The control socket: how commands reach the running agent.
//!
//! One request, a line of JSON, per connection; answers are lines of JSON. Only root, the agent's own user and the members
//! of `[control] group` are listened to, and whatever they change is written down.

pub mod audit;
pub mod client;
pub mod request;
pub mod rights;
pub mod server;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use request::{Order, Request};
pub use server::bind;

use crate::{by_hand::Entry, daemon::shared::Shared, stream::Line};

/// Name of the socket in `[paths] run`.
pub const SOCKET: &str = "control.sock";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The agent listens; what was asked for follows.
    Listening,
    Reloaded {
        generation: u64,
    },
    /// It holds from now on. The notes are sentences for whoever said it.
    Taken {
        entry: Entry,
        notes: Vec<String>,
    },
    Released {
        deeds: Vec<Deed>,
        notes: Vec<String>,
    },
    Said {
        said: Vec<Entry>,
    },
    Failed {
        code: u8,
        message: String,
    },
}

/// One thing that a release did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum Deed {
    /// What was said does not hold any more.
    TookBack { entry: Entry },
    /// A failure brake that held.
    LetGo { brake_of: String },
    /// Windows in which something was charged.
    Emptied { windows_of: String },
}

/// Hands an event to every listener.
pub fn publish(shared: &Shared, line: &Line) {
    match serde_json::to_string(line) {
        // An error means that nobody listens any more.
        Ok(line) => drop(shared.events.send(Arc::from(line))),
        Err(e) => tracing::error!("an event cannot be written as JSON: {e}"),
    }
}

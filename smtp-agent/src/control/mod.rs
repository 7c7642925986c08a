//! The control socket: how commands reach the running agent.
//!
//! One request, a line of JSON, per connection; answers are lines of JSON. Only root and the agent's own user
//! are listened to.

pub mod client;
pub mod server;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use server::bind;

use crate::{daemon::shared::Shared, stream::Line};

/// Name of the socket in `[paths] run`.
pub const SOCKET: &str = "control.sock";

/// Longest request, in bytes.
const REQUEST_LIMIT: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Every event from now on, one line each, until the connection closes.
    Events,
    /// Load the configuration anew.
    Reload,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// The agent listens; what was asked for follows.
    Listening,
    Reloaded {
        generation: u64,
    },
    Failed {
        code: u8,
        message: String,
    },
}

/// Hands an event to every listener.
pub fn publish(shared: &Shared, line: &Line) {
    match serde_json::to_string(line) {
        // An error means that nobody listens any more.
        Ok(line) => drop(shared.events.send(Arc::from(line))),
        Err(e) => tracing::error!("an event cannot be written as JSON: {e}"),
    }
}

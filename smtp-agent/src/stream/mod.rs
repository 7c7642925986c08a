//! From a record of the ring buffer to a story a person can read.

pub mod process;
pub mod session;
pub mod story;

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of `smtp-agent events`. New kinds may come: who reads the JSON passes over those it does not know.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    Connect(story::Story),
    Session(session::End),
    Stop(session::Stop),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(story) => story.fmt(f),
            Self::Session(end) => end.fmt(f),
            Self::Stop(stop) => stop.fmt(f),
        }
    }
}

//! From a record of the ring buffer to a story a person can read.

pub mod process;
pub mod session;
pub mod story;

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

/// One line of `smtp-agent events`. New kinds may come: who reads the JSON passes over those it does not know.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    Connect(story::Story),
    Session(session::End),
    Stop(session::Stop),
}

impl Line {
    pub fn account(&self) -> &str {
        match self {
            Self::Connect(story) => &story.account,
            Self::Session(end) => &end.session.account,
            Self::Stop(stop) => &stop.session.account,
        }
    }

    /// RFC 3339, UTC, milliseconds: in the order of time.
    pub fn time(&self) -> &str {
        match self {
            Self::Connect(story) => &story.time,
            Self::Session(end) => &end.session.time,
            Self::Stop(stop) => &stop.session.time,
        }
    }
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

/// The word of a closed list, for a number that may not be in it.
fn word(name: Option<&'static str>) -> String {
    name.unwrap_or("unknown").to_owned()
}

/// A time of the boot clock in RFC 3339, UTC, milliseconds. `boot_now` is that clock at `now`.
pub fn date(time: u64, boot_now: u64, now: SystemTime) -> String {
    let time = now - Duration::from_nanos(boot_now.saturating_sub(time));
    humantime::format_rfc3339_millis(time).to_string()
}

/// Address and port as they are written together.
fn endpoint(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

//! Somebody who follows the events of an agent with a command of it.

use crate::{
    Must, World, eventually,
    poll::{self, eventually_some},
    process::Running,
    scratch,
};
use serde_json::Value;
use std::{fs, path::PathBuf, time::Duration};
use tempfile::TempDir;

/// For what should happen at once: long enough for a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// The account whose attempts only show that somebody listens.
const MARKER: u32 = 61_099;

pub struct Listener {
    _running: Running,
    path: PathBuf,
    _dir: TempDir,
}

impl Listener {
    /// Returns when the agent is listened to.
    #[track_caller]
    pub fn start(world: &World) -> Self {
        let dir = scratch::dir();
        let path = dir.path().join("events");
        let running = Running::start_logged(&mut world.agent.command(&["events", "--json"]), &path);
        let listener = Self { _running: running, path, _dir: dir };
        // The command does not say when it is heard, so somebody must give it something to tell.
        eventually(SOON, "the listener hears something", || {
            world.dial().uid(MARKER).run();
            poll::holds_within(Duration::from_millis(50), || !listener.text().is_empty())
        });
        listener
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap_or_default()).into_owned()
    }

    /// Events of one kind so far, such as "session", but for those about the marker.
    #[track_caller]
    pub fn heard(&self, kind: &str) -> Vec<Value> {
        let text = self.text();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines = whole.lines().filter(|line| !line.is_empty());
        let events = lines.map(|line| -> Value { serde_json::from_str(line).must(format_args!("not JSON: {line:?}")) });
        events.filter(|event| event["event"] == kind && event["uid"] != MARKER).collect()
    }

    /// Waits for so many of them.
    #[track_caller]
    pub fn wait_for(&self, kind: &str, count: usize) -> Vec<Value> {
        eventually_some(SOON, "the events come", || {
            let events = self.heard(kind);
            (events.len() >= count).then_some(events)
        })
    }
}

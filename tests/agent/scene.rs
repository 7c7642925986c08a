//! What several modules need: a start that must fail, and someone who listens to events.

use crate::bpf;
use serde_json::Value;
use smtp_tests::{
    Agent, Must, World, eventually,
    poll::eventually_some,
    process::{self, Output, Running},
    scratch,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// For what should happen at once: long enough for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The account whose attempts only show that somebody listens.
const MARKER: u32 = 61_099;

/// Runs the agent where it cannot start. It must say why in one sentence and leave nothing behind.
#[track_caller]
pub(crate) fn refused_start(agent: &Agent, change: impl FnOnce(&mut Command)) -> Output {
    let output = failed_start(agent, change);
    assert!(!agent.pins_dir().exists(), "pins are left: {output:?}");
    assert_eq!(bpf::attached(agent.cgroup()), 0, "programs are left: {output:?}");
    assert!(!agent.run_dir().join("control.sock").exists(), "the socket is left: {output:?}");
    output
}

/// The same where something was there before.
#[track_caller]
pub(crate) fn failed_start(agent: &Agent, change: impl FnOnce(&mut Command)) -> Output {
    let mut command = agent.command(&["run"]);
    change(command.stdin(Stdio::null()));
    let output = process::output(&mut command, Duration::from_secs(20));
    assert_eq!(output.stdout, "");
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    assert!(output.stderr.contains("smtp-agent: "), "no sentence: {output:?}");
    output
}

/// Writes a configuration that has an error and still tells where the agent is.
#[track_caller]
pub(crate) fn break_config(agent: &Agent) {
    agent.rewrite_config("");
    let text = fs::read_to_string(agent.config_path()).must("the configuration");
    agent.rewrite_config_verbatim(&format!("{text}\n[broken]\n"));
}

#[track_caller]
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).must(format_args!("not JSON: {output:?}"))
}

#[track_caller]
pub(crate) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// The log is written by other threads than those that act: what is seen from outside can come before its line.
#[track_caller]
pub(crate) fn assert_logged(agent: &Agent, parts: &[&str]) {
    for part in parts {
        eventually(SOON, &format!("{part:?} is in the log"), || agent.stderr_so_far().contains(part));
    }
}

/// Somebody who follows the events of a world with a command of the agent.
pub(crate) struct Listener {
    pub(crate) running: Running,
    path: PathBuf,
    _dir: TempDir,
}

impl Listener {
    /// Returns when the agent is listened to.
    #[track_caller]
    pub(crate) fn start(world: &World, arguments: &[&str]) -> Self {
        let dir = scratch::dir();
        let path = dir.path().join("events");
        let mut command = world.agent.command(arguments);
        // Sessions have tests of their own; who wants to hear of them, too, says so.
        let running = Running::start_logged(command.args(["--only", "connect"]), &path);
        let listener = Self { running, path, _dir: dir };
        // The command does not say when it is heard, so somebody must give it something to tell.
        eventually(SOON, "the listener hears something", || {
            world.dial().uid(MARKER).run();
            !listener.bytes().is_empty()
        });
        listener
    }

    /// Everything it has printed.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap_or_default()
    }

    /// Every whole line it has printed, but for those about the marker.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.bytes()).must("the listener prints something else than UTF-8");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.split('\n').filter(|line| !line.is_empty() && !is_of_the_marker(line)).map(Into::into).collect()
    }

    /// The events it was told as JSON, but for those about the marker.
    #[track_caller]
    pub(crate) fn stories(&self) -> Vec<Value> {
        let story = |line: String| serde_json::from_str(&line).must(format_args!("not JSON: {line:?}"));
        self.lines().into_iter().map(story).collect()
    }

    /// Waits for so many events.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually_some(SOON, "the events come", || {
            let stories = self.stories();
            (stories.len() >= count).then_some(stories)
        })
    }
}

/// As JSON or for people. The marker's number alone can be a port, a time or an inode of any other line.
fn is_of_the_marker(line: &str) -> bool {
    line.contains(&format!("\"uid\":{MARKER},")) || line.split_whitespace().nth(2) == Some(&MARKER.to_string())
}

/// Says exactly what lies in a directory, sorted.
#[track_caller]
pub(crate) fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).must(format_args!("cannot list {}", dir.display()));
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

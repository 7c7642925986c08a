//! The log, for people, for the journal and for machines.

use crate::scene::{SOON, break_config};
use serde_json::Value;
use smtp_tests::{Agent, Must, World, eventually, process::Running, uid};
use std::{fs, os::unix::fs::MetadataExt};

/// Starts, reloads badly and ends an agent, for something of every level to be logged.
fn some_life(agent: &mut Agent) -> String {
    agent.start();
    break_config(agent);
    assert_eq!(agent.cli(&["reload"]).code, 2);
    agent.rewrite_config("");
    assert_eq!(agent.stop(), 0);
    agent.stderr_so_far()
}

#[test]
fn for_the_journal_lines_have_a_priority_and_no_time() {
    let agent = Agent::builder().config(|c| c.merge("[allow]\nusers = ['gone']")).stopped();
    let log = agent.config_path().with_file_name("journal");
    let file = fs::File::create(&log).must("cannot make a log").metadata().must("it exists");
    let mut command = agent.command(&["run"]);
    command.env("JOURNAL_STREAM", format!("{}:{}", file.dev(), file.ino()));
    let mut running = Running::start_logged(&mut command, &log);
    eventually(SOON, "it is ready", || agent.get("/-/ready").is_ok_and(|(status, _)| status == 200));
    break_config(&agent);
    assert_eq!(agent.cli(&["reload"]).code, 2);
    agent.rewrite_config("");
    assert_eq!(running.stop(SOON), Some(0));

    let text = running.log();
    assert!(!text.contains('\x1b'), "{text}");
    let lines: Vec<_> = text.lines().collect();
    // Those of a message with several lines too.
    for line in &lines {
        let rest = ["<3>", "<4>", "<6>"].iter().find_map(|prefix| line.strip_prefix(prefix));
        let rest = rest.must(format_args!("no priority: {line:?}"));
        let level = ["ERROR", "WARN", "INFO"].iter().any(|level| rest.trim_start().starts_with(level));
        assert!(!rest.starts_with("20") && !level, "a time or a level: {line:?}");
    }
    let has = |prefix: &str, part: &str| lines.iter().any(|line| line.starts_with(prefix) && line.contains(part));
    assert!(has("<6>", "the gate is in force"), "{text}");
    assert!(has("<4>", "user `gone`"), "{text}");
    assert!(has("<3>", "was not reloaded"), "{text}");
}

#[test]
fn a_stream_that_is_not_the_journal_gets_times_and_levels() {
    // As inherited by something that systemd started and that redirected its standard error.
    let mut agent = Agent::builder().env("JOURNAL_STREAM", "1:1").stopped();
    let log = some_life(&mut agent);
    let in_force = log.lines().find(|line| line.contains("the gate is in force")).must("a line");
    let year: String = in_force.chars().take(4).collect();
    assert!(year.parse::<u32>().is_ok() && in_force.contains("INFO"), "{in_force}");
    assert!(!log.contains('\x1b'), "no colour in a file: {log}");
}

#[test]
fn as_json_each_line_is_one_object() {
    let mut agent = Agent::builder().config(|c| c.merge("log.format = 'json'\n[allow]\nusers = ['gone']")).stopped();
    let log = some_life(&mut agent);
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).must(format_args!("not JSON: {line:?}"))).collect();
    for line in &lines {
        for key in ["timestamp", "level", "message"] {
            assert!(line[key].is_string(), "{key} is missing in {line}");
        }
    }
    let message = |part: &str| {
        let found = lines.iter().find(|l| l["message"].as_str().is_some_and(|m| m.contains(part)));
        found.must(format_args!("no {part:?} in {log}"))
    };
    assert_eq!(message("the gate is in force")["level"], "INFO");
    assert_eq!(message("the gate is in force")["generation"], 1);
    assert_eq!(message("user `gone`")["level"], "WARN");
    assert_eq!(message("was not reloaded")["level"], "ERROR");
}

#[test]
fn the_level_keeps_quiet_what_is_below_it() {
    let mut agent = Agent::builder().config(|c| c.merge("log.level = 'error'")).stopped();
    let log = some_life(&mut agent);
    assert!(log.contains("was not reloaded") && !log.contains("INFO") && !log.contains("WARN"), "{log}");
    let mut agent = Agent::builder().config(|c| c.merge("log.level = 'debug'")).stopped();
    let log = some_life(&mut agent);
    assert!(log.contains("DEBUG") && log.contains("armed"), "{log}");
}

#[test]
fn the_probe_speaks_only_when_asked() {
    for (level, speaks) in [("", false), ("log.probe = 'debug'\n", true)] {
        let world = World::with(&format!("log.level = 'info'\n{level}"));
        world.dial().uid(uid::DENIED).count(3).run();
        let heard = || world.agent.stderr_so_far().contains("61003");
        if speaks {
            eventually(SOON, "the probe tells of the attempts", heard);
        } else {
            std::thread::sleep(std::time::Duration::from_millis(500));
            assert!(!heard(), "{}", world.agent.stderr_so_far());
        }
    }
}

#[test]
fn where_nothing_is_wrong_nothing_is_logged_as_an_error() {
    let mut world = World::with("");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
    assert_eq!(world.agent.stop(), 0);
    let log = world.agent.stderr_so_far();
    assert!(log.contains("the gate is in force") && !log.contains("ERROR"), "{log}");
}

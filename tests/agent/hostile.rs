//! Names chosen by an attacker: of processes, of files, of users.

use crate::scene::{Listener, SOON, assert_has, json};
use serde_json::Value;
use smtp_tests::{Cgroup, Etc, Must, World, eventually, process, prometheus::promtool, scratch, tools, uid};
use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

/// Fits into a comm, a file name and an argument, and would move the cursor, forge a line or break UTF-8.
const HOSTILE: [&[u8]; 6] = [
    b"a\n2026 refused",
    b"\x1b[31m\x1b[2J",
    b"\xff\xfe\xc3(",
    b"\"},{\"a\":\"b",
    b"\\x1b\\n\r\x07\t",
    "\u{202e}x\u{2028}\u{9b}".as_bytes(),
];

#[track_caller]
fn assert_harmless(text: &str) {
    let harmful =
        |c: &char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c) || ('\u{2028}'..='\u{2029}').contains(c);
    assert_eq!(text.chars().find(harmful), None, "in {text:?}");
}

/// A copy of `smtp-dial` under each of the names, called by that name with that argument.
fn attempts(world: &World, each: impl Fn(&mut Command)) {
    let dir = scratch::dir();
    let program = tools::program("smtp-dial", "CARGO_BIN_EXE_smtp-dial");
    for name in HOSTILE {
        let path = dir.path().join(OsStr::from_bytes(name));
        fs::hard_link(&program, &path)
            .or_else(|_| fs::copy(&program, &path).map(drop))
            .must("cannot copy smtp-dial under another name");
        let told = world.dial().uid(uid::SENDER).comm(name).command();
        let mut command = Command::new(&path);
        command.arg0(OsStr::from_bytes(name)).args(told.get_args()).stdin(Stdio::null());
        each(&mut command);
    }
}

fn run(command: &mut Command) {
    process::output(command, Duration::from_secs(20)).expect_ok("smtp-dial");
}

#[test]
fn events_are_one_line_each_and_harmless_whatever_a_process_calls_itself() {
    let world = World::with("");
    let listener = Listener::start(&world, &["events"]);
    // Alive until the event is read, so that its executable and arguments are told too.
    attempts(&world, |command| {
        let before = listener.lines().len();
        let mut running = process::Running::start(command.arg("--hold").stdin(Stdio::piped()).stdout(Stdio::null()));
        eventually(SOON, "it is told", || listener.lines().len() > before);
        drop(running.child().stdin.take());
        running.wait(SOON).must("smtp-dial ends");
    });
    let lines = listener.lines();
    assert_eq!(lines.len(), HOSTILE.len(), "{lines:#?}");
    for line in &lines {
        assert_harmless(line);
        assert_has(line, &["allowed", "61001", "pid "]);
    }
    assert_has(&lines[0], &["/a\\n2026 refused"]);
    assert_has(&lines[1], &["\\u{1b}[31m"]);
    assert_has(&lines[2], &["\\xff\\xfe"]);
}

#[test]
fn events_as_json_are_one_object_a_line_with_the_names_escaped() {
    let world = World::with("");
    let listener = Listener::start(&world, &["events", "--json"]);
    attempts(&world, run);
    let stories = listener.wait_for(HOSTILE.len());
    assert_eq!(stories.len(), HOSTILE.len());
    for (line, name) in listener.lines().iter().zip(HOSTILE) {
        assert_harmless(line);
        let story: Value = serde_json::from_str(line).must("JSON");
        assert_eq!(story["comm"], smtp_agent::accounts::label::printable(name), "{line}");
        let strings = story.as_object().must("an object").values().filter_map(Value::as_str);
        strings.for_each(assert_harmless);
    }
    assert_eq!(stories[0]["comm"], "a\\n2026 refused");
    assert_eq!(stories[1]["comm"], "\\u{1b}[31m\\u{1b}[2J");
}

#[test]
fn a_cgroup_with_a_hostile_name_is_escaped_too() {
    let world = World::with("");
    let listener = Listener::start(&world, &["events", "--json"]);
    let inner: Cgroup = world.cgroup().child("a\u{1b}[31m\u{202e}.service");
    let far = std::net::SocketAddr::new(world.veth.far.v4.into(), 25);
    smtp_tests::Dial::to(far).cgroup(&inner).uid(uid::SENDER).run();
    let stories = listener.wait_for(1);
    let line = &listener.lines()[0];
    assert_harmless(line);
    assert_has(stories[0]["cgroup"].as_str().must("a cgroup"), &["/a\\u{1b}[31m\\u{202e}.service"]);
    stories[0].as_object().must("an object").values().filter_map(Value::as_str).for_each(assert_harmless);
}

#[test]
fn user_names_of_any_kind_are_labels_that_prometheus_reads_and_nobody_takes_for_another() {
    const FIRST: u32 = 61_200;
    let names = [
        "with space",
        "quote\"d",
        "back\\slash",
        "back\\\\slash",
        "line\\nbreak",
        "other",
        "kernel",
        "container:web",
        "61207",
        "a=b,c{d}",
        "\u{202e}bidi",
        "esc\u{1b}[31m",
        "tür",
        "'single'",
        "x".repeat(200).leak(),
        "+Inf",
    ];
    let users: Vec<_> = (FIRST..).zip(names).map(|(uid, name)| (name, uid, uid)).collect();
    let etc = Etc::with_users(&users);
    let world = World::built("", |agent| agent.etc(&etc));
    for (_, uid, _) in &users {
        assert_eq!(world.dial().uid(*uid).run().ok(), 1);
    }
    let (status, text) = world.agent.get("/metrics").must("it answers");
    assert_eq!(status, 200, "{text}");
    let checked = promtool(&["check", "metrics"], &text);
    assert_eq!((checked.code, checked.stdout.as_str(), checked.stderr.as_str()), (0, "", ""), "{text}");
    text.lines().for_each(assert_harmless);

    let metrics = world.agent.metrics();
    let counted: Vec<_> = metrics.series("smtp_connections_total").into_iter().filter(|s| s.value > 0.0).collect();
    assert!(counted.iter().all(|s| s.value == 1.0), "two accounts share a label: {counted:#?}");
    let labels: BTreeSet<_> = counted.iter().map(|s| s.label("user")).collect();
    assert_eq!(labels.len(), users.len(), "{labels:#?}");
    for reserved in ["other", "kernel", "container:web"] {
        assert!(!labels.contains(reserved), "a user poses as {reserved}");
    }
    assert!(labels.contains("with space") && labels.contains("quote\"d") && labels.contains("tür"), "{labels:#?}");

    let status = world.agent.cli(&["status"]).expect_ok("status").stdout;
    status.lines().for_each(assert_harmless);
    let said = json(&world.agent.cli(&["status", "--json"]).expect_ok("status"));
    assert_eq!(said["accounts"].as_array().map(Vec::len), Some(users.len()));
    let told = world.agent.cli(&["explain", "--user", "esc\u{1b}[31m"]).stdout;
    told.lines().for_each(assert_harmless);
}

#[test]
fn a_name_that_is_not_utf_8_does_no_harm() {
    let etc = Etc::with_users(&[]);
    let mut line = OsString::from("root:x:0:0::/:/bin/sh\n").as_bytes().to_vec();
    line.extend(b"bad\xff\xfe:x:61300:61300::/:/bin/sh\nshop:x:61301:61301::/:/bin/sh\n");
    fs::write(etc.path("passwd"), line).must("cannot write");
    let world = World::built("[deny]\nusers = ['shop']\n", |agent| agent.etc(&etc));
    assert_eq!(world.dial().uid(61_300).run().ok(), 1);
    assert_eq!(world.dial().uid(61_301).run().eperm(), 1, "names behind it are read");
    let (_, text) = world.agent.get("/metrics").must("it answers");
    let checked = promtool(&["check", "metrics"], &text);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{text}");
    assert_eq!(world.agent.metrics().value("smtp_connections_total", &[("verdict", "allowed")]), 1.0);
}

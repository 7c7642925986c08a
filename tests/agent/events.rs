//! Events tell every attempt truly, within a budget, and account for what they leave out.

use crate::scene::{Listener, SOON, assert_has};
use nix::sys::signal::Signal;
use smtp_tests::{Must, World, eventually, process, tools, uid};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Sums of what became of events, and attempts in all.
fn balance(world: &World) -> (u64, u64) {
    let metrics = world.agent.metrics();
    let lost = |cause| metrics.find("smtp_agent_events_lost_total", &[("cause", cause)]).must(cause) as u64;
    let told = metrics.value("smtp_agent_events_total", &[("of", "connections")]) as u64;
    let attempts = metrics.value("smtp_connections_total", &[]) as u64;
    (told + lost("rate_limited") + lost("ring_full"), attempts)
}

#[test]
fn every_field_of_an_event_is_true() {
    const GID: u32 = 61_500;
    let world = World::with("");
    let listener = Listener::start(&world, &["events", "--json"]);
    let before = SystemTime::now();
    let dial = world.dial().uid(uid::SENDER).gid(GID).comm(b"formail");
    let (held, tally) = dial.hold();
    assert_eq!(tally.ok(), 1);
    let stories = listener.wait_for(1);
    let after = SystemTime::now();
    let story = &stories[0];
    let program = tools::program("smtp-dial", "CARGO_BIN_EXE_smtp-dial").canonicalize().must("it exists");
    for (key, wanted) in [
        ("account", "61001".into()),
        ("uid", uid::SENDER.into()),
        ("gid", GID.into()),
        ("tgid", held.pid().into()),
        ("tid", held.pid().into()),
        ("comm", "formail".into()),
        ("exe", program.display().to_string().into()),
        ("destination", world.veth.far.v4.to_string().into()),
        ("port", 25.into()),
        ("route", "remote".into()),
        ("verdict", "allowed".into()),
        ("reason", "within_limits".into()),
        ("kernel_thread", false.into()),
        ("container", false.into()),
        ("subordinate_uid", false.into()),
        ("policy", 1.into()),
    ] {
        let wanted: serde_json::Value = wanted;
        assert_eq!(story[key], wanted, "{key} in {story}");
    }
    let command = story["command"].as_array().must("a command");
    assert!(command[0].as_str().is_some_and(|c| c.ends_with("smtp-dial")), "{story}");
    assert!(command.iter().any(|c| *c == format!("--uid={}", uid::SENDER)), "{story}");
    assert!(story["cgroup"].as_str().is_some_and(|c| c.ends_with(&world.cgroup().name())), "{story}");
    let time = story["time"].as_str().must("a time");
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let date = process::output(Command::new("date").args(["-d", time, "+%s"]), SOON).expect_ok("date").stdout;
    let told: u64 = date.trim().parse().must("a number");
    assert!((seconds(before)..=seconds(after)).contains(&told) && time.ends_with('Z'), "{time}");
    held.release();
}

#[test]
fn each_verdict_is_told_with_its_reason() {
    let world = World::with("[plan.standard]\nper_hour = 1\nsoft_percent = 200\n");
    let listener = Listener::start(&world, &["events", "--json"]);
    world.dial().uid(uid::SENDER).count(3).run();
    world.dial().uid(uid::DENIED).run();
    world.dial().uid(uid::EXEMPT).run();
    let told: Vec<_> = listener
        .wait_for(5)
        .iter()
        .map(|s| ["account", "verdict", "reason"].map(|key| s[key].as_str().unwrap_or_default().to_owned()))
        .collect();
    let wanted = [
        ["61001", "allowed", "within_limits"],
        ["61001", "deferred", "account_hour"],
        ["61001", "refused", "account_hour"],
        ["61003", "refused", "deny_user"],
        ["61004", "exempt", "exempt"],
    ];
    assert_eq!(told, wanted);
}

#[test]
fn ipv6_and_local_attempts_are_told_as_such() {
    let world = World::with("");
    let listener = Listener::start(&world, &["events", "--json"]);
    world.dial_to(world.veth.far.v6.into(), 25).uid(uid::SENDER).run();
    world.dial_to("::1".parse().must("an address"), 587).uid(uid::SENDER).run();
    let stories = listener.wait_for(2);
    let told = |n: usize| ["destination", "port", "route"].map(|key| stories[n][key].to_string());
    assert_eq!(told(0), [format!("\"{}\"", world.veth.far.v6), "25".into(), "\"remote\"".into()]);
    assert_eq!(told(1), ["\"::1\"", "587", "\"local\""].map(str::to_owned));
}

#[test]
fn a_burst_is_told_in_a_handful_of_events_and_the_rest_is_accounted_for() {
    let world = World::with("[events]\nper_second = 5\n");
    let begin = Instant::now();
    assert_eq!(world.dial().uid(uid::SENDER).count(1_000).reset().run().ok(), 1_000);
    let seconds = begin.elapsed().as_secs() + 2;
    eventually(SOON, "every attempt is accounted for", || {
        let (told_or_lost, attempts) = balance(&world);
        assert!(told_or_lost <= attempts, "{told_or_lost} events of {attempts} attempts");
        told_or_lost == 1_000 && attempts == 1_000
    });
    let told = world.agent.metrics().value("smtp_agent_events_total", &[("of", "connections")]) as u64;
    assert!(told >= 5 && told <= 5 * seconds, "{told} events in {seconds} s");
}

#[test]
fn attempts_from_two_processors_are_accounted_for_to_the_last() {
    let world = World::with("[events]\nper_second = 50\n");
    std::thread::scope(|scope| {
        for sender in [uid::SENDER, uid::OTHER] {
            let world = &world;
            scope.spawn(move || world.dial().uid(sender).count(1_500).threads(2).reset().run());
        }
    });
    eventually(SOON, "every attempt is accounted for", || balance(&world) == (3_000, 3_000));
}

#[test]
fn the_first_refusal_is_not_hidden_by_a_flood_of_good_connections() {
    let world = World::with("[plan.standard]\nper_hour = 600\nsoft_percent = 100\n[events]\nper_second = 5\n");
    let listener = Listener::start(&world, &["events", "--json"]);
    let tally = world.dial().uid(uid::SENDER).count(601).reset().run();
    assert_eq!((tally.ok(), tally.eperm()), (600, 1));
    eventually(SOON, "the refusal is told", || {
        listener.stories().iter().any(|s| s["account"] == "61001" && s["verdict"] == "refused")
    });
    assert!(listener.stories().len() < 600, "it was a flood");
}

#[test]
fn the_budget_of_one_account_does_not_silence_another() {
    let world = World::with("[events]\nper_second = 5\n");
    let listener = Listener::start(&world, &["events", "--json"]);
    world.dial().uid(uid::SENDER).count(500).reset().run();
    world.dial().uid(uid::OTHER).run();
    eventually(SOON, "the quiet one is heard", || listener.stories().iter().any(|s| s["account"] == "61002"));
}

#[test]
fn two_listeners_hear_every_event_and_one_that_leaves_does_not_matter() {
    let world = World::with("");
    let one = Listener::start(&world, &["events", "--json"]);
    let mut two = Listener::start(&world, &["events", "--json"]);
    world.dial().uid(uid::SENDER).count(40).run();
    for listener in [&one, &two] {
        assert_eq!(listener.wait_for(40).len(), 40);
    }
    assert_eq!(one.stories(), two.stories());
    two.running.stop(SOON);
    world.dial().uid(uid::OTHER).count(10).run();
    assert_eq!(one.wait_for(50).len(), 50);
}

#[test]
fn a_session_is_told_of_after_its_connection_however_short_it_was() {
    const PROCESSES: usize = 60;
    let world = World::with("");
    let listener = Listener::start(&world, &["events", "--json", "--only", "session"]);
    // The conversation is over sooner than it is found out who leads it.
    for _ in 0..PROCESSES {
        world.dial().uid(uid::SENDER).reset().run();
    }
    let stories = listener.wait_for(2 * PROCESSES);
    let of = |kind: &str, told: &[serde_json::Value]| told.iter().filter(|story| story["event"] == kind).count();
    assert_eq!((of("connect", &stories), of("session", &stories)), (PROCESSES, PROCESSES));
    for (at, session) in stories.iter().enumerate().filter(|(_, story)| story["event"] == "session") {
        let before = stories[..at].iter().any(|story| story["event"] == "connect" && story["tgid"] == session["tgid"]);
        assert!(before, "told before its connection: {session}");
    }
    let who = world.agent.cli(&["who", "--user", &uid::SENDER.to_string(), "--json"]);
    assert!(!who.stdout.contains("\"exe\":null"), "{}", who.stdout);
}

#[test]
fn a_listener_whose_reader_leaves_ends_with_0() {
    let world = World::with("");
    let mut command = world.agent.command(&["events"]);
    let mut running =
        process::Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
    drop(running.child().stdout.take());
    let mut ended = None;
    eventually(SOON, "it ends", || {
        world.dial().uid(uid::SENDER).run();
        ended = running.ended();
        ended.is_some()
    });
    assert_eq!(ended.map(process::code), Some(0));
    // As people write it.
    let script = format!(
        "set -o pipefail; {} --config {} events | head -1",
        command.get_program().display(),
        world.agent.config_path().display()
    );
    let mut shell = Command::new("bash");
    let head = std::thread::scope(|scope| {
        let head = scope.spawn(|| process::output(shell.args(["-c", &script]), Duration::from_secs(20)));
        eventually(SOON, "head has had enough", || {
            world.dial().uid(uid::SENDER).run();
            head.is_finished()
        });
        head.join().expect("it does not panic")
    });
    assert_eq!((head.code, head.stderr.as_str()), (0, ""), "{head:?}");
    assert_eq!(head.stdout.lines().count(), 1);
}

#[test]
fn for_people_an_event_is_one_line_with_what_matters() {
    let world = World::with("");
    let listener = Listener::start(&world, &["events"]);
    let (held, _) = world.dial().uid(uid::DENIED).hold();
    eventually(SOON, "it is told", || !listener.lines().is_empty());
    let lines = listener.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let to = format!("{}:25", world.veth.far.v4);
    assert_has(
        &lines[0],
        &["refused", "61003", "deny_user", "remote", &to, &format!("pid {}", held.pid()), "smtp-dial"],
    );
    held.release();
}

#[test]
fn a_listener_that_does_not_read_loses_its_own_events_and_nobody_elses() {
    // More than the agent keeps for a listener and the socket holds, in parts that one who reads keeps up with.
    const PART: usize = 2_000;
    const ALL: usize = 3 * PART;
    let world = World::with("");
    let listener = Listener::start(&world, &["events", "--json"]);
    // Every connection is told of twice: when it is decided and when it has ended.
    let mut deaf = Listener::start(&world, &["events", "--json", "--only", "session"]);
    let lost = || world.agent.metrics().value("smtp_agent_events_lost_total", &[]) as usize;
    // What showed that they listen must not be among what the deaf one misses: it is left out of what is counted.
    eventually(SOON, "the connections so far have been told of as ended", || {
        let metrics = world.agent.metrics();
        let told = |of| metrics.value("smtp_agent_events_total", &[("of", of)]);
        let attempts = metrics.value("smtp_connections_total", &[]);
        told("connections") == attempts && told("sessions") == attempts
    });
    deaf.running.signal(Signal::SIGSTOP);
    for part in 1..=3 {
        assert_eq!(world.dial().uid(uid::SENDER).count(PART as u64).reset().run().ok(), PART as u64);
        eventually(SOON, "the one that reads hears all", || listener.lines().len() == part * PART);
    }
    assert_eq!(lost(), 0, "nobody has noticed yet");
    deaf.running.signal(Signal::SIGCONT);
    eventually(SOON, "what the other missed is counted", || lost() > 0 && deaf.lines().len() + lost() == 2 * ALL);
    assert_eq!(listener.lines().len(), ALL);
}

//! Usage, advice and exit codes of the commands where there is nothing to talk to.

use crate::scene::{SOON, assert_has, json};
use smtp_tests::{Agent, Must, World, process};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Command,
    time::Duration,
};

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let agent = Agent::builder().stopped();
    for arguments in [
        &["frobnicate"][..],
        &["check", "--yaml"],
        &["explain"],
        &["explain", "--user"],
        &["explain", "--user", "root", "--port", "70000"],
        &["explain", "--user", "root", "--to", "mail.example.org"],
        &["run", "extra"],
    ] {
        let output = agent.cli(arguments);
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{arguments:?}: {output:?}");
        assert_has(&output.stderr, &["--help"]);
    }
    for arguments in [&["--help"][..], &["--version"], &["help", "explain"], &["detach", "--help"]] {
        let output = agent.cli(arguments).expect_ok("help");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
    assert_has(&agent.cli(&["--version"]).stdout, &["smtp-agent 0."]);
}

#[test]
fn every_command_names_a_configuration_that_is_missing() {
    let agent = Agent::builder().stopped();
    fs::remove_file(agent.config_path()).must("it was there");
    let path = agent.config_path().display().to_string();
    for (arguments, advice) in [
        (&["run"][..], "--config PATH"),
        (&["check"], "--config PATH"),
        (&["explain", "--user", "root"], "--config PATH"),
    ] {
        let output = agent.cli(arguments);
        assert_eq!(output.code, 2, "{arguments:?}: {output:?}");
        assert_has(&output.stderr, &[&path, "no such file", advice]);
    }
    // Those that only look at the gate say where they look instead.
    for arguments in [&["status"][..], &["events"], &["reload"]] {
        let output = agent.cli(arguments);
        assert_has(&output.stderr, &[&path, "/sys/fs/bpf/smtp-agent"]);
    }
}

#[test]
fn without_an_agent_the_commands_say_how_to_start_one() {
    let agent = Agent::builder().stopped();
    for json in [false, true] {
        for command in ["status", "events", "reload"] {
            let arguments = [command, "--json"];
            let output = agent.cli(&arguments[..1 + usize::from(json)]);
            assert_eq!(output.code, 69, "{arguments:?}: {output:?}");
            let said = output.stdout + &output.stderr;
            assert_has(&said, &["smtp-agent run"]);
        }
    }
    let error = agent.cli(&["status"]);
    assert_has(&error.stderr, &["no gate is pinned", agent.pins_dir().to_str().must("UTF-8")]);
    let error = agent.cli(&["events"]);
    assert_has(&error.stderr, &["control.sock", "The gate itself may still stand", "smtp-agent status"]);
    let failed = json_of(&agent, &["reload", "--json"]);
    assert_eq!(failed["ok"], false);
}

#[track_caller]
fn json_of(agent: &Agent, arguments: &[&str]) -> serde_json::Value {
    json(&agent.cli(arguments))
}

#[test]
fn a_killed_agent_leaves_a_socket_that_is_no_agent() {
    let mut world = World::with("");
    world.agent.kill9();
    assert!(world.agent.run_dir().join("control.sock").exists());
    for command in ["events", "reload"] {
        let output = world.agent.cli(&[command]);
        assert_eq!(output.code, 69, "{output:?}");
        assert_has(&output.stderr, &["smtp-agent run"]);
    }
    world.agent.start();
    world.agent.cli(&["reload"]).expect_ok("reload");
}

#[test]
fn commands_find_the_gate_of_an_agent_whose_configuration_was_broken_since() {
    let world = World::with("");
    let text = fs::read_to_string(world.agent.config_path()).must("the configuration");
    for broken in [format!("mode = 7\n{text}"), format!("{text}\n[plan.x\n"), format!("{text}\n[smtp]\nports = 25\n")] {
        world.agent.rewrite_config_verbatim(&broken);
        let status = world.agent.cli(&["status", "--json"]).expect_ok("status");
        assert_eq!(json(&status)["agent_running"], true);
        assert_has(&status.stderr, &["smtp-agent check"]);
        world.agent.cli(&["explain", "--user", "61001"]).expect_ok("explain");
        assert_eq!(world.agent.cli(&["check"]).code, 2);
        assert_eq!(world.agent.cli(&["reload"]).code, 2);
    }
    world.agent.rewrite_config("");
}

#[test]
fn output_into_a_pipe_that_closes_is_no_error() {
    let world = World::with("");
    for arguments in ["status", "status --json", "explain --user root", "check"] {
        let mut shell = Command::new("bash");
        let program = world.agent.command(&[]);
        let config = world.agent.config_path();
        // The reader is gone before the first line is written.
        let script = format!(
            "set -o pipefail; {{ sleep 0.3; exec {} --config {} {arguments}; }} | true",
            program.get_program().display(),
            config.display()
        );
        let output = process::output(shell.args(["-c", &script]), Duration::from_secs(20));
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{arguments}: {output:?}");
    }
}

#[test]
fn status_shows_what_every_account_did() {
    let world = World::with("[plan.standard]\nper_hour = 4\nsoft_percent = 150\n[host]\nper_day = 50\n");
    let of = |user| world.dial().uid(user);
    of(smtp_tests::uid::SENDER).count(8).run();
    of(smtp_tests::uid::DENIED).count(2).run();
    of(smtp_tests::uid::EXEMPT).count(3).run();
    let said = json_of(&world.agent, &["status", "--json"]);
    let account = |name: &str| {
        let all = said["accounts"].as_array().expect("accounts");
        all.iter().find(|a| a["account"] == name).unwrap_or_else(|| panic!("no {name} in {said}")).clone()
    };
    let remote = |name: &str| account(name)["remote"].clone();
    assert_eq!(remote("61001"), serde_json::json!({"allowed": 4, "deferred": 2, "refused": 2}));
    assert_eq!(remote("61003"), serde_json::json!({"refused": 2}));
    assert_eq!(remote("61004"), serde_json::json!({"exempt": 3}));
    assert_eq!((&account("61003")["rule"], &account("61003")["hour"]), (&"[deny] users".into(), &().into()));
    assert_eq!(said["host"]["day"], serde_json::json!({"used": 7, "limit": 50}));
    assert_eq!((&said["mode"], &said["ports"]), (&"enforce".into(), &serde_json::json!([25, 465, 587])));
    for key in ["pins", "agent_running", "attached", "policy_generation", "lost"] {
        assert!(!said[key].is_null(), "{key} is missing in {said}");
    }
    let text = world.agent.cli(&["status"]).expect_ok("status").stdout;
    assert_has(&text, &["generation 1, mode enforce, ports 25 465 587", "7 of 50 this day", "4/4", "[allow] users"]);
}

#[test]
fn the_control_socket_answers_nonsense_with_a_sentence_and_lives_on() {
    let agent = Agent::builder().start();
    let path = agent.run_dir().join("control.sock");
    let mode = fs::metadata(&path).must("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody but root may connect");
    for nonsense in [&b"\n"[..], b"reload\n", b"{\"request\":\"shutdown\"}\n", b"\xff\xfe\0\n", b"[[[[[[[[[[\n"] {
        let mut stream = UnixStream::connect(&path).must("it listens");
        stream.set_read_timeout(Some(SOON)).must("a timeout");
        stream.write_all(nonsense).must("it takes anything");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).must("it answers");
        let answer: serde_json::Value = serde_json::from_str(&answer).must(format_args!("{nonsense:?}: {answer:?}"));
        assert_eq!((&answer["answer"], &answer["code"]), (&"failed".into(), &2.into()), "{answer}");
    }
    // One that never ends its request, and some that say nothing at all.
    let mut endless = UnixStream::connect(&path).must("it listens");
    endless.write_all(&[b'x'; 5_000]).must("it takes anything");
    let _silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).must("it listens")).collect();
    agent.cli(&["reload"]).expect_ok("reload");
    assert_eq!(agent.metrics().value("smtp_agent_policy_generation", &[]), 2.0);
}

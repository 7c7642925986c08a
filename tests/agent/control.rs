//! The control socket: who may use it, what it does with what is no request, and what is written down.

use crate::scene::{SOON, assert_has, assert_logged, failed_start, json};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde_json::Value;
use smtp_tests::{
    Agent, Etc, Must, World, eventually,
    process::{self, Output},
    uid,
};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
        process::CommandExt,
    },
    process::Stdio,
    time::Duration,
};

const ADM: u32 = 61_070;
const BOB: u32 = 61_051;
const EVE: u32 = 61_052;

/// Runs a command as somebody whose process has this group besides his own.
#[track_caller]
fn cli_in_group(agent: &Agent, uid: u32, group: u32, arguments: &[&str]) -> Output {
    let mut command = agent.command(arguments);
    let (uid, gid, group) = (Uid::from_raw(uid), Gid::from_raw(uid), Gid::from_raw(group));
    let become_him = move || {
        setgroups(&[group])?;
        setresgid(gid, gid, gid)?;
        Ok(setresuid(uid, uid, uid)?)
    };
    // SAFETY: the closure makes three system calls and allocates nothing.
    unsafe { command.pre_exec(become_him) };
    process::output(command.stdin(Stdio::null()), Duration::from_secs(20))
}

#[track_caller]
fn audit(agent: &Agent) -> Vec<Value> {
    let text = fs::read_to_string(agent.state_dir().join("audit.log")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).must(line)).collect()
}

fn mode(path: &std::path::Path) -> (u32, u32) {
    let data = fs::metadata(path).must("it is there");
    (data.permissions().mode() & 0o777, data.gid())
}

fn etc() -> Etc {
    let etc = Etc::with_users(&[("bob", BOB, BOB), ("eve", EVE, EVE)]);
    etc.append("group", &format!("smtpadm:x:{ADM}:bob"));
    etc
}

#[test]
fn members_of_the_group_are_let_in_and_former_ones_are_not() {
    let etc = etc();
    let world = World::built("[control]\ngroup = 'smtpadm'\n", |agent| agent.etc(&etc));
    let socket = world.agent.run_dir().join("control.sock");
    assert_eq!(mode(&socket), (0o660, ADM));
    cli_in_group(&world.agent, BOB, ADM, &["block", "61001", "--reason", "by a member"]).expect_ok("a member blocks");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    cli_in_group(&world.agent, BOB, ADM, &["reload"]).expect_ok("a member may use every request");
    let output = world.agent.cli_as(EVE, EVE, &["release", "61001"]);
    assert_eq!(output.code, 77, "who is in no such group cannot connect: {output:?}");

    // Her session still has the group, but she is not in it (any more).
    let output = cli_in_group(&world.agent, EVE, ADM, &["release", "61001"]);
    assert_eq!(output.code, 77, "{output:?}");
    assert_has(&output.stderr, &["only root and members of the group smtpadm may control smtp-agent"]);
    etc.replace("group", &etc.read("group").replace(&format!("smtpadm:x:{ADM}:bob"), &format!("smtpadm:x:{ADM}:eve")));
    let output = cli_in_group(&world.agent, BOB, ADM, &["release", "61001"]);
    assert_eq!(output.code, 77, "a removal holds from the next request on: {output:?}");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    cli_in_group(&world.agent, EVE, ADM, &["release", "61001"]).expect_ok("and so does joining");

    let lines = audit(&world.agent);
    let told: Vec<_> =
        lines.iter().map(|line| (line["user"].as_str(), line["what"].as_str(), line["outcome"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("bob"), Some("block"), Some("done")),
            (Some("bob"), Some("reload"), Some("done")),
            (Some("eve"), Some("connect"), Some("refused")),
            (Some("bob"), Some("connect"), Some("refused")),
            (Some("eve"), Some("release"), Some("done")),
        ]
    );
    assert_eq!((&lines[0]["uid"], &lines[0]["reason"]), (&BOB.into(), &"by a member".into()));
}

#[test]
fn a_reload_gives_the_socket_to_another_group_and_takes_it_back() {
    let etc = etc();
    let world = World::built("", |agent| agent.etc(&etc));
    let (run, socket) = (world.agent.run_dir(), world.agent.run_dir().join("control.sock"));
    let may = || cli_in_group(&world.agent, BOB, ADM, &["block", "--list"]).code == 0;
    fs::set_permissions(&run, fs::Permissions::from_mode(0o750)).must("a directory as systemd or the agent makes it");
    assert!(!may() && mode(&socket) == (0o600, 0));
    world.reload("[control]\ngroup = 'smtpadm'\n");
    assert_eq!((mode(&socket), mode(&run)), ((0o660, ADM), (0o750, ADM)));
    assert!(may());
    world.reload("");
    assert_eq!((mode(&socket), mode(&run)), ((0o600, 0), (0o750, 0)));
    assert!(!may());
    let output = {
        world.agent.rewrite_config("[control]\ngroup = 'smtpad'\n");
        world.agent.cli(&["reload"])
    };
    assert_eq!(output.code, 2, "{output:?}");
    assert_has(&output.stderr, &["not reloaded", "this host has no group `smtpad`", "config.toml:"]);
    assert_eq!(world.agent.cli(&["check"]).code, 2, "what `check` accepts, `run` accepts");
    world.agent.rewrite_config("");
    // A group that goes while the agent runs keeps its members out.
    world.reload("[control]\ngroup = 'smtpadm'\n");
    etc.replace("group", &etc.read("group").replace(&format!("smtpadm:x:{ADM}:bob\n"), ""));
    eventually(SOON, "the group is gone", || mode(&socket) == (0o600, 0));
}

#[test]
fn a_group_that_this_host_lacks_is_an_error_at_its_place() {
    let agent = Agent::builder().config(|config| config.merge("[control]\ngroup = 'no-such-group'\n")).stopped();
    let output = failed_start(&agent, |_| {});
    assert_eq!(output.code, 2, "{output:?}");
    let text = fs::read_to_string(agent.config_path()).must("the configuration");
    let line = 1 + text.lines().position(|line| line.contains("no-such-group")).must("its line");
    let place = format!("{}:{line}:", agent.config_path().display());
    assert_has(&output.stderr, &[&place, "this host has no group `no-such-group`", "groupadd"]);
    let output = agent.cli(&["check"]);
    assert_eq!(output.code, 2, "{output:?}");
    assert_has(&output.stderr, &[&place]);
}

#[test]
fn another_user_is_refused_even_where_the_file_lets_him_connect() {
    let world = World::with("");
    let socket = world.agent.run_dir().join("control.sock");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).must("as careless as can be");
    for arguments in [&["block", "61002"][..], &["reload"], &["events"], &["block", "--list"], &["release", "61001"]] {
        let output = world.agent.cli_as(uid::SENDER, uid::SENDER, arguments);
        assert_eq!(output.code, 77, "{arguments:?}: {output:?}");
        assert_has(&output.stderr, &["only root may control smtp-agent"]);
    }
    assert_eq!(world.agent.metrics().value("smtp_agent_policy_generation", &[]), 1.0);
    for _ in 0..20 {
        world.agent.cli_as(uid::SENDER, uid::SENDER, &["reload"]);
    }
    let lines = audit(&world.agent);
    assert_eq!(lines.len(), 10, "refusals are rate-limited: {lines:?}");
    for line in lines {
        assert_eq!((&line["uid"], &line["outcome"]), (&uid::SENDER.into(), &"refused".into()));
        assert!(line["pid"].as_u64().is_some(), "{line}");
    }
}

#[test]
fn every_change_is_written_down_with_who_and_why() {
    let world = World::with("");
    let agent = &world.agent;
    agent.cli(&["block", "61001", "--for", "90m", "--reason", "spam"]).expect_ok("block");
    agent.cli(&["allow", "--cgroup", "/x"]).expect_ok("allow");
    agent.cli(&["block", "no-such-user"]);
    agent.cli(&["release", "61002"]);
    agent.cli(&["release", "61001"]).expect_ok("release");
    agent.cli(&["block", "--list"]).expect_ok("looking is no change");
    agent.cli(&["reload"]).expect_ok("reload");
    let keys = ["what", "whom", "for", "reason", "outcome"];
    let told =
        || -> Vec<String> { audit(agent).iter().map(|line| keys.map(|key| line[key].to_string()).join(" ")).collect() };
    let expected = [
        r#""block" {"user":"61001"} 5400 "spam" "done""#,
        r#""allow" {"cgroup":"/x"} null null "done""#,
        r#""block" {"user":"no-such-user"} null null "failed""#,
        r#""release" {"user":"61002"} null null "nothing""#,
        r#""release" {"user":"61001"} null null "done""#,
        r#""reload" null null null "done""#,
    ];
    assert_eq!(told(), expected);
    for line in audit(agent) {
        assert_eq!((&line["uid"], &line["user"]), (&0.into(), &"root".into()), "{line}");
        assert!(
            line["pid"].as_u64().is_some() && line["time"].as_str().is_some_and(|time| time.starts_with("20")),
            "{line}"
        );
        assert_eq!(line["error"].is_null(), line["outcome"] != "failed", "{line}");
    }
    let path = agent.state_dir().join("audit.log");
    assert_eq!(mode(&path).0, 0o600);
    assert_logged(agent, &["block was asked for", "spam", "root (uid 0)"]);
    let mut world = world;
    world.agent.sighup();
    eventually(SOON, "the signal is written down", || audit(&world.agent).len() == expected.len() + 1);
    let last = audit(&world.agent).pop().must("a line");
    assert_eq!(
        (&last["what"], &last["uid"], &last["user"]),
        (&"reload".into(), &Value::Null, &"signal".into()),
        "{last}"
    );
}

fn connect(agent: &Agent) -> UnixStream {
    let stream = UnixStream::connect(agent.run_dir().join("control.sock")).must("it listens");
    stream.set_read_timeout(Some(SOON)).must("a timeout");
    stream
}

/// One line in, one line out.
#[track_caller]
fn says(agent: &Agent, bytes: &[u8]) -> Value {
    let mut stream = connect(agent);
    // It may have answered and closed before it has read all.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).must("it answers");
    serde_json::from_str(&line).must(format_args!("{line:?} to {bytes:?}"))
}

#[test]
fn what_is_no_request_changes_nothing() {
    let world = World::with("");
    let agent = &world.agent;
    let whole = br#"{"request":"block","whom":{"user":"61001"},"for_seconds":null,"reason":null,"force":true}"#;
    let mut hostile: Vec<Vec<u8>> = (0..=whole.len()).step_by(7).map(|cut| whole[..cut].to_vec()).collect();
    // The whole of it, without the line break that ends it.
    hostile.push(whole.to_vec());
    hostile.push([&whole[..], &[b' '; 8000], b"\n"].concat());
    hostile.push(vec![b'{'; 1 << 20]);
    hostile.push([&[0xff, 0xfe, 0, b'\n'][..], whole, b"\n"].concat());
    let deep = format!("{}1{}\n", "[".repeat(2000), "]".repeat(2000));
    hostile.push(deep.into_bytes());
    let mut seed = 1_u32;
    for _ in 0..200 {
        let mut bytes = [&whole[..], b"\n"].concat();
        for _ in 0..1 + seed % 3 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // In a name another digit is another name: only what holds them together is changed.
            let at = (seed >> 8) as usize % 20;
            bytes[at] = (seed >> 24) as u8 | 0x80;
        }
        hostile.push(bytes);
    }
    for bytes in hostile {
        let answer = says(agent, &bytes);
        assert_eq!((&answer["answer"], &answer["code"]), (&"failed".into(), &2.into()), "{bytes:?}: {answer}");
        assert_has(answer["message"].as_str().must("a sentence"), &["not a request: "]);
    }
    assert_eq!(agent.cli(&["block", "--list", "--json"]).expect_ok("list").stdout, "[]\n");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
    assert_eq!(audit(agent), Vec::<Value>::new());
    assert_eq!(says(agent, &[&whole[..], b"\n"].concat())["answer"], "taken");
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
}

#[test]
fn whoever_holds_connections_open_does_not_keep_root_out() {
    let etc = etc();
    let world = World::built("[control]\ngroup = 'smtpadm'\n", |agent| agent.etc(&etc));
    let agent = &world.agent;
    // More listeners than there is room for: those beyond are told so.
    let mut listeners = Vec::new();
    let refused = (0..40).filter(|_| {
        let mut stream = connect(agent);
        stream.write_all(b"{\"request\":\"events\"}\n").must("it takes it");
        let mut line = String::new();
        BufReader::new(stream.try_clone().must("a copy")).read_line(&mut line).must("it answers");
        listeners.push(stream);
        line.contains("too many connections")
    });
    assert_eq!(refused.count(), 40 - 24);
    // And idle ones, which are cut off after five seconds.
    let mut idle: Vec<_> = (0..60).map(|_| connect(agent)).collect();
    let begin = std::time::Instant::now();
    agent.cli(&["block", "61001"]).expect_ok("block");
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).must("its end");
    assert!(rest.is_empty());
    drop((listeners, idle));
    eventually(SOON, "there is room again", || agent.cli(&["reload", "--json"]).code == 0);
    let told = json(&agent.cli(&["block", "--list", "--json"]).expect_ok("list"));
    assert_eq!(told.as_array().map(Vec::len), Some(1));
}

#[test]
fn a_client_that_goes_away_does_not_undo_what_it_asked_for() {
    let world = World::with("");
    let mut stream = connect(&world.agent);
    stream.write_all(b"{\"request\":\"block\",\"whom\":{\"user\":\"61001\"}}\n").must("it takes it");
    drop(stream);
    eventually(SOON, "it is done all the same", || world.dial().uid(uid::SENDER).run().eperm() == 1);
    eventually(SOON, "and written down", || audit(&world.agent).len() == 1);
}

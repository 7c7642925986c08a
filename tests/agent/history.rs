//! The history of a real agent: what it holds of real connections, and what it survives.

use crate::scene::{SOON, assert_has, assert_logged, json};
use nix::mount::{MsFlags, mount};
use rusqlite::Connection;
use serde_json::Value;
use smtp_tests::{
    Agent, Metrics, Must, World, eventually,
    mountns::{MountNs, bind},
    poll::eventually_some,
    process::Output,
    scratch,
    told::ENDS,
    uid,
};
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

const NAME: &str = "history.db";

/// The kernel's counters are looked at each two seconds, the file as others see it each thirty.
const LOOKED: Duration = Duration::from_secs(60);

#[track_caller]
fn asked(agent: &Agent, arguments: &[&str]) -> Value {
    json(&agent.cli(arguments).expect_ok("a question to the history"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().must(format_args!("{key} is no number in {value}"))
}

/// The lines of a report by name, with one of their numbers.
#[track_caller]
fn rows(agent: &Agent, by: &str, key: &str) -> BTreeMap<String, u64> {
    let report = asked(agent, &["report", "--by", by, "--json"]);
    let rows = report["rows"].as_array().must("rows").iter();
    rows.map(|row| (row["name"].as_str().must("a name").to_owned(), number(row, key))).collect()
}

#[track_caller]
fn events(agent: &Agent) -> u64 {
    number(&asked(agent, &["report", "--json"]), "attributed")
}

#[track_caller]
fn check_integrity(agent: &Agent) {
    let db = Connection::open(agent.state_dir().join(NAME)).must("the history");
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).must("a check");
    assert_eq!(verdict, "ok");
}

/// Every number of a report that a metric has, too.
#[track_caller]
fn assert_as_metrics(world: &World, metrics: &Metrics) {
    let report = asked(&world.agent, &["report", "--json"]);
    let verdicts =
        ["allowed", "exempt", "deferred", "redirected", "refused", "would_defer", "would_redirect", "would_refuse"];
    let metric = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels) as u64;
    let lines = report["rows"].as_array().must("rows");
    let of = |line: &Value, user: &[(&str, &str)]| {
        for verdict in verdicts {
            let labels = [user, &[("verdict", verdict)]].concat();
            assert_eq!(number(line, verdict), metric("smtp_connections_total", &labels), "{verdict} of {user:?}");
        }
        for (what, family) in [("messages", "smtp_messages_total"), ("recipients", "smtp_recipients_total")] {
            for outcome in ["accepted", "deferred", "rejected"] {
                let labels = [user, &[("outcome", outcome)]].concat();
                assert_eq!(number(&line[what], outcome), metric(family, &labels), "{what} {outcome} of {user:?}");
            }
        }
        for (outcome, others) in [
            ("closed", &["closed"][..]),
            ("ended", &["ended"]),
            ("failed", &["reset", "refused", "timed_out", "unreachable", "aborted"]),
        ] {
            let all =
                others.iter().map(|outcome| metric("smtp_sessions_total", &[user, &[("outcome", *outcome)]].concat()));
            assert_eq!(number(&line["sessions"], outcome), all.sum::<u64>(), "sessions {outcome} of {user:?}");
        }
    };
    of(&report["totals"], &[]);
    for line in lines {
        let user = line["name"].as_str().must("a name");
        of(line, &[("user", user)]);
    }
    assert!(!lines.is_empty());
}

/// The metrics once every connection that was let through has ended: from then on nothing changes any more.
#[track_caller]
fn settled(world: &World) -> Metrics {
    eventually_some(SOON, "the sessions have ended", || {
        let metrics = world.metrics();
        let sum = |name: &str, label: &str, values: &[&str]| -> f64 {
            values.iter().map(|value| metrics.value(name, &[(label, value)])).sum()
        };
        let passed = sum("smtp_connections_total", "verdict", &["allowed", "exempt"]);
        (sum("smtp_sessions_total", "outcome", &ENDS) == passed).then_some(metrics)
    })
}

fn traffic(world: &World) {
    world.dial().uid(uid::SENDER).count(8).run();
    world.dial().uid(uid::DENIED).count(3).run();
    world.dial().uid(uid::EXEMPT).count(2).run();
    world.dial_to(world.veth.near.v4.into(), 587).uid(uid::OTHER).run();
    world.mailer(uid::OTHER).messages(3).recipients(2).run();
}

const LIMITED: &str = "[plan.standard]\nper_hour = 5\nsoft_percent = 120\n";

#[test]
fn a_report_says_what_the_metrics_say_with_and_without_an_agent() {
    let mut world = World::with(LIMITED);
    traffic(&world);
    let metrics = settled(&world);
    let all = metrics.value("smtp_connections_total", &[]) as u64;
    assert!(all >= 15);
    eventually(LOOKED, "the counters are in the history", || {
        let report = asked(&world.agent, &["report", "--json"]);
        let sessions = number(&report["totals"]["sessions"], "closed");
        number(&report["totals"], "attempts") == all
            && number(&report, "attributed") == all
            && sessions == metrics.value("smtp_sessions_total", &[("outcome", "closed")]) as u64
    });
    assert_as_metrics(&world, &metrics);
    assert_eq!(world.agent.stop(), 0);
    assert_as_metrics(&world, &metrics);
    assert_eq!(fs::metadata(world.agent.state_dir().join(NAME)).must("it").permissions().mode() & 0o7777, 0o600);
    check_integrity(&world.agent);
    // What the gate counts while nobody looks is booked when somebody does.
    world.dial().uid(uid::EXEMPT).count(7).run();
    world.agent.start();
    let metrics = settled(&world);
    world.agent.stop();
    assert_as_metrics(&world, &metrics);
}

#[test]
fn lines_say_what_was_behind_and_over_which_limit() {
    let world = World::with(LIMITED);
    traffic(&world);
    eventually(SOON, "the events are there", || events(&world.agent) >= 15);
    let over = rows(&world.agent, "user", "over_limit");
    assert_eq!((over["61001"], over.get("61003").copied().unwrap_or_default()), (3, 0), "a denied user has no limit");
    let to = rows(&world.agent, "destination", "attempts");
    assert_eq!(to[&world.veth.near.v4.to_string()], 1);
    let processes = rows(&world.agent, "process", "attempts");
    assert!(processes.iter().any(|(name, _)| name.contains("smtp-")), "{processes:?}");
    let plans = rows(&world.agent, "plan", "attempts");
    assert_eq!(plans["standard"], 8 + 1 + 1, "neither the exempt nor the denied");
    let only = asked(&world.agent, &["report", "--user", "61001", "--json"]);
    assert_eq!((number(&only, "attributed"), only["rows"].as_array().must("rows").len()), (8, 1));
    let left = &asked(&world.agent, &["report", "--json"])["rows"];
    let of_sender = left.as_array().must("rows").iter().find(|row| row["name"] == "61001").must("the sender");
    assert_eq!((number(&of_sender["left"][0], "left"), number(&of_sender["left"][0], "limit")), (0, 5));
}

#[test]
fn who_names_the_culprit_and_not_the_exempt_mta() {
    let world = World::with(LIMITED);
    world.dial().uid(uid::EXEMPT).count(50).run();
    let (held, _) = world.dial().uid(uid::SENDER).count(30).hold();
    eventually(SOON, "he is named", || world.agent.cli(&["who", "--json"]).code == 0);
    eventually(SOON, "all of it", || {
        let answer = asked(&world.agent, &["who", "--json"]);
        number(&answer["culprits"][0]["numbers"], "attempts") == 30 && answer["exempt"][0]["attempts"] == 50
    });
    let answer = asked(&world.agent, &["who", "--json"]);
    let culprits = answer["culprits"].as_array().must("culprits");
    assert_eq!((culprits.len(), &culprits[0]["user"], &culprits[0]["uid"]), (1, &"61001".into(), &uid::SENDER.into()));
    assert_eq!(answer["exempt"][0]["user"], "61004");
    let actor = &culprits[0]["actors"][0];
    assert_eq!(number(&actor["processes"][0], "pid"), held.pid() as u64);
    assert_eq!(actor["samples"].as_array().must("samples").len(), 5);
    assert_eq!(actor["samples"][0]["reason"], "account_hour");
    let text = world.agent.cli(&["who"]).expect_ok("who").stdout;
    let to = format!("{}:25", world.veth.far.v4);
    assert_has(
        &text,
        &["1. user 61001 (uid 61001)", "smtp-agent block 61001 --for 2h", &to, "unknown", "a limit was reached"],
    );
    assert_has(&text, &["exempt, so not named: 61004 (50)"]);
    let timeline = asked(&world.agent, &["timeline", "61001", "--since", "1h", "--json"]);
    let whats: Vec<_> = timeline["happenings"].as_array().must("them").iter().map(|one| one["what"].as_str()).collect();
    assert!(whats.iter().flatten().any(|what| what.contains("a limit was reached: account_hour")), "{whats:?}");
    held.release();
    world.agent.cli(&["block", "61001", "--for", "2h", "--reason", "bot"]).expect_ok("block");
    let shown = world.agent.cli(&["timeline", "61001"]).expect_ok("timeline").stdout;
    assert_has(&shown, &["block by hand", "for 2h: bot", "ATTEMPTS"]);
}

#[test]
fn a_page_and_a_spreadsheet_can_be_made_of_it() {
    let world = World::with(LIMITED);
    traffic(&world);
    eventually(SOON, "the events are there", || events(&world.agent) >= 15);
    let page = world.agent.cli(&["report", "--by", "process", "--html"]).expect_ok("html").stdout;
    assert_has(&page, &["<!doctype html>", "<svg", "default-src 'none'", "smtp-"]);
    assert!(!page.contains("<script"));
    let sheet = world.agent.cli(&["report", "--by", "process", "--csv"]).expect_ok("csv").stdout;
    assert!(sheet.starts_with("process,attempts,") && sheet.ends_with("\r\n"), "{sheet}");
}

#[track_caller]
fn fails(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{output:?}");
    assert_has(&output.stderr, parts);
}

#[test]
fn without_a_history_each_command_says_why() {
    let agent = Agent::builder().stopped();
    for command in [&["report"][..], &["who"], &["timeline", "root"]] {
        fails(&agent.cli(command), 69, &["there is no history yet", "smtp-agent run"]);
    }
    agent.rewrite_config("[history]\nenabled = false\n");
    fails(&agent.cli(&["who"]), 69, &["[history] enabled is false"]);
    fails(&agent.cli(&["report", "--since", "yesterday"]), 2, &["--since", "RFC 3339"]);
    fails(&agent.cli(&["report", "--since", "1h", "--until", "2h"]), 2, &["before --until"]);
    let world = World::with("");
    eventually(SOON, "it is begun", || world.agent.cli(&["report"]).code == 0);
    fails(&world.agent.cli(&["timeline", "nobody-at-all"]), 1, &["knows nothing of \"nobody-at-all\""]);
    let nobody = world.agent.cli(&["who"]);
    assert_eq!((nobody.code, nobody.stderr.as_str()), (1, ""));
    assert_has(&nobody.stdout, &["nobody"]);
    // The state directory of a test may be entered by everybody; the history is root's all the same.
    fs::set_permissions(world.agent.config_path(), fs::Permissions::from_mode(0o644)).must("readable");
    let other = world.agent.cli_as(61_001, 61_001, &["report"]);
    fails(&other, 77, &["run as root"]);
}

#[test]
fn an_agent_that_is_killed_loses_a_second_and_no_count() {
    let mut world = World::with("");
    let mut made = 0;
    for _ in 0..5 {
        made += world.dial().uid(uid::SENDER).count(300).threads(4).run().total();
        world.agent.kill9();
        check_integrity(&world.agent);
        made += world.dial().uid(uid::SENDER).count(20).run().total();
        world.agent.start();
    }
    world.agent.stop();
    let report = asked(&world.agent, &["report", "--json"]);
    assert_eq!(number(&report["totals"], "attempts"), made);
    check_integrity(&world.agent);
}

#[test]
fn a_full_disk_costs_history_and_nothing_else() {
    let dir = scratch::dir();
    let state = dir.path().to_owned();
    smtp_tests::bpffs::ensure();
    let view = MountNs::new(|| {
        let size = Some("size=1m");
        mount(Some("tmpfs"), &state, Some("tmpfs"), MsFlags::empty(), size).must("cannot mount a tmpfs");
    });
    let mut world = World::built(LIMITED, |agent| {
        agent.view(&view).config(|config| config.set("paths.state", dir.path().display().to_string()))
    });
    world.dial().uid(uid::SENDER).count(3).run();
    eventually(SOON, "they are there", || events(&world.agent) == 3);
    let filler = dir.path().join("filler");
    view.run(|| fs::write(&filler, vec![0; 2 << 20]).expect_err("the disk is full"));
    // Enforced and counted as ever.
    world.dial().uid(uid::DENIED).count(2_000).run();
    assert_eq!(world.dial().uid(uid::SENDER).count(10).run().ok(), 2);
    assert_eq!(world.counted_uid(uid::DENIED, "refused"), 2_000);
    eventually(SOON, "it is said", || world.agent.stderr_so_far().contains("no room on the disk"));
    let said = || world.agent.stderr_so_far().matches("no room on the disk").count();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(said(), 1, "once");
    view.run(|| fs::remove_file(&filler).must("room again"));
    let lost = || world.metrics().value("smtp_agent_history_lost_total", &[]) as u64;
    eventually(LOOKED, "it goes on by itself", || events(&world.agent) + lost() == 2_013);
    assert_logged(&world.agent, &["the history is written again"]);
    assert_eq!(world.agent.stop(), 0);
    let report = asked(&world.agent, &["report", "--json"]);
    assert_eq!(number(&report["totals"], "attempts"), 2_013);
}

/// Puts something at a path.
type Make<'a> = &'a dyn Fn(&Path);

#[test]
fn whatever_stands_at_its_path_the_gate_is_in_force() {
    let all: [(&str, Make<'_>); 3] = [
        ("is a directory", &|path| fs::create_dir(path).must("a directory")),
        ("is a symbolic link", &|path| std::os::unix::fs::symlink("/etc/passwd", path).must("a link")),
        ("a new one is begun", &|path| fs::write(path, "no database at all, whatever its name").must("a file")),
    ];
    for (said, make) in all {
        let mut world = World::stopped("");
        make(&world.agent.state_dir().join(NAME));
        world.agent.start();
        assert_eq!(world.dial().uid(uid::DENIED).count(4).run().eperm(), 4, "{said}");
        eventually(SOON, "it is said", || world.agent.stderr_so_far().contains(said));
        assert_eq!(world.agent.stop(), 0);
    }
    assert!(fs::read_to_string("/etc/passwd").must("it").contains("root:"), "nobody wrote through the link");
}

#[test]
fn a_broken_history_is_set_aside_while_the_agent_runs() {
    let mut world = World::with("");
    world.dial().uid(uid::SENDER).count(3).run();
    eventually(SOON, "they are there", || events(&world.agent) == 3);
    // So that it is not all in the journal, from which it would heal.
    world.agent.stop();
    world.agent.start();
    let path = world.agent.state_dir().join(NAME);
    let length = fs::metadata(&path).must("it").len();
    fs::write(&path, vec![0x5a; length as usize]).must("broken");
    eventually(LOOKED, "a new one is begun", || {
        world.dial().uid(uid::SENDER).run();
        let names = fs::read_dir(world.agent.state_dir()).must("the directory").flatten();
        let aside = names.filter(|entry| entry.file_name().to_string_lossy().contains(".corrupt-")).count();
        aside > 0 && world.agent.cli(&["report", "--json"]).code == 0
    });
    assert_logged(&world.agent, &["a new one is begun"]);
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
}

#[test]
fn limits_and_counts_go_on_over_a_reboot_and_begin_anew_after_detach() {
    let dir = scratch::dir();
    let boot = dir.path().join("boot_id");
    let reboot = |id: &str| fs::write(&boot, format!("{id}\n")).must("a boot id");
    reboot("first");
    smtp_tests::bpffs::ensure();
    // As far as the agent can tell: another boot id, and nothing pinned.
    let view = MountNs::new(|| bind(&boot, Path::new("/proc/sys/kernel/random/boot_id")));
    let mut world =
        World::built("[plan.standard]\nper_hour = 5\nsoft_percent = 100\n[host]\nper_day = 100\n", |agent| {
            agent.view(&view)
        });
    let sends = |world: &World| world.dial().uid(uid::SENDER).count(4).run().ok();
    assert_eq!(sends(&world), 4);
    world.dial().uid(uid::EXEMPT).count(3).run();
    let before = world.counted_in_all();
    assert_eq!(world.agent.stop(), 0);
    world.agent.cli(&["detach"]).expect_ok("detach");
    reboot("second");
    world.agent.start();
    assert_logged(&world.agent, &["go on where the boot before left them"]);
    assert_eq!(sends(&world), 1, "one of five was left");
    assert_eq!(world.counted_in_all(), before + 4);
    assert_eq!(world.metrics().value("smtp_host_usage", &[("unit", "connection"), ("window", "day")]), 8.0);
    let metrics = settled(&world);
    // As after a loss of power: what was saved last is from the beginning of this boot at the latest.
    eventually(LOOKED, "the counters are in the history", || {
        let totals = asked(&world.agent, &["report", "--json"])["totals"].clone();
        let sessions = metrics.value("smtp_sessions_total", &[("outcome", "closed")]) as u64;
        (number(&totals, "attempts"), number(&totals["sessions"], "closed")) == (before + 4, sessions)
    });
    assert_as_metrics(&world, &metrics);
    world.agent.kill9();
    world.agent.cli(&["detach"]).expect_ok("detach");
    reboot("third");
    world.agent.start();
    // Four were saved at the beginning of this boot, the fifth perhaps since.
    assert!(sends(&world) <= 1);
    assert_eq!(world.agent.stop(), 0);
    world.agent.cli(&["detach"]).expect_ok("detach");
    world.agent.start();
    assert_eq!(sends(&world), 4, "detach forgets");
    assert_eq!(world.counted_in_all(), 4);
}

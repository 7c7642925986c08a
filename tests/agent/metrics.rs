//! What Prometheus scrapes: complete from the first scrape on, well-formed, and never falling.

use crate::scene::{SOON, assert_has};
use smtp_tests::{
    Agent, Must, World, agent::Metrics, eventually, hostile::Hostile, prometheus::promtool, sink::Sink, uid,
};
use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
};

/// The contract, each family with the labels it has.
const FAMILIES: &[(&str, &[&str])] = &[
    ("smtp_connections_total", &["port", "route", "user", "verdict"]),
    ("smtp_sessions_total", &["outcome", "route", "user"]),
    ("smtp_messages_total", &["outcome", "route", "user"]),
    ("smtp_recipients_total", &["outcome", "route", "user"]),
    ("smtp_sessions_unseen_total", &["cause", "route", "user"]),
    ("smtp_message_verdicts_total", &["route", "unit", "user", "verdict"]),
    ("smtp_session_bytes_total", &["direction", "route", "user"]),
    ("smtp_session_retransmits_total", &["route", "user"]),
    ("smtp_session_exchanges_total", &["route", "user"]),
    ("smtp_session_duration_seconds_total", &["route", "user"]),
    ("smtp_limit", &["unit", "user", "window"]),
    ("smtp_usage", &["unit", "user", "window"]),
    ("smtp_host_limit", &["unit", "window"]),
    ("smtp_host_usage", &["unit", "window"]),
    ("smtp_failed_percent", &["user"]),
    ("smtp_brake", &["user"]),
    ("smtp_by_hand", &["says"]),
    ("smtp_agent_events_total", &["of"]),
    ("smtp_agent_events_lost_total", &["cause"]),
    ("smtp_agent_history_lost_total", &["cause"]),
    ("smtp_agent_map_full_total", &["map"]),
    ("smtp_agent_map_entries", &["map"]),
    ("smtp_agent_map_capacity", &["map"]),
    ("smtp_agent_gate_attached", &["hook"]),
    ("smtp_agent_mode", &["mode"]),
    ("smtp_agent_policy_generation", &[]),
    ("smtp_agent_config_reload_success", &[]),
    ("smtp_agent_config_reload_success_timestamp_seconds", &[]),
    ("smtp_agent_users_unresolved", &[]),
    ("smtp_agent_accounts", &[]),
    ("smtp_agent_notifications_total", &["result", "sink"]),
    ("smtp_agent_build_info", &["layout", "version"]),
];

#[track_caller]
fn assert_well_formed(agent: &Agent) -> Metrics {
    let (status, text) = agent.get("/metrics").must("the agent answers");
    assert_eq!(status, 200);
    let output = promtool(&["check", "metrics"], &text);
    let said = (output.code, output.stdout.as_str(), output.stderr.as_str());
    assert_eq!(said, (0, "", ""), "promtool check metrics\n{text}");
    let metrics = Metrics::parse(&text).must("the text format");
    for series in metrics.all() {
        let family = FAMILIES.iter().find(|(name, _)| *name == series.name);
        let (name, labels) = family.must(format_args!("{} is in no contract", series.name));
        assert_eq!(&series.labels.keys().map(String::as_str).collect::<Vec<_>>(), labels, "labels of {name}");
    }
    metrics
}

fn some_traffic(world: &World) {
    let of = |user| world.dial().uid(user);
    of(uid::SENDER).count(5).run();
    of(uid::DENIED).run();
    of(uid::EXEMPT).run();
    world.dial_to(world.veth.far.v6.into(), 25).uid(uid::OTHER).run();
    world.dial_to(world.veth.near.v4.into(), 587).uid(uid::OTHER).run();
}

const LIMITS: &str = "[plan.standard]\nper_hour = 2\nper_day = 10\nsoft_percent = 150\n[host]\nper_day = 500\n";

#[test]
fn every_family_is_there_at_the_first_scrape_and_promtool_has_nothing_to_say() {
    let world = World::with(LIMITS);
    let first = assert_well_formed(&world.agent);
    for (name, _) in FAMILIES {
        assert!(!first.series(name).is_empty(), "{name} is missing at the first scrape");
    }
    let values = |name: &str, label: &str| {
        let mut values: Vec<_> = first.series(name).into_iter().map(|s| s.label(label).to_owned()).collect();
        values.sort();
        values.dedup();
        values
    };
    let causes = [
        "cgroup_ring_full",
        "portrait_ring_full",
        "rate_limited",
        "ring_full",
        "session_ring_full",
        "sessions_rate_limited",
        "subscriber_slow",
    ];
    assert_eq!(values("smtp_agent_events_lost_total", "cause"), causes);
    assert_eq!(
        values("smtp_agent_gate_attached", "hook"),
        ["connect4", "connect6", "executed", "forked", "received", "sent", "session"],
        "messages are counted unless the configuration says otherwise"
    );
    assert_eq!(values("smtp_agent_mode", "mode"), ["enforce", "observe"]);
    for family in ["smtp_limit", "smtp_usage", "smtp_host_limit", "smtp_host_usage"] {
        assert_eq!(values(family, "window"), ["day", "hour"], "{family}");
        assert_eq!(values(family, "unit"), ["connection", "message", "recipient"], "{family}");
    }
    assert_eq!(values("smtp_connections_total", "port"), ["0", "25", "465", "587"]);
    assert_eq!(values("smtp_connections_total", "route"), ["local", "pipe", "remote"]);
    assert_eq!(values("smtp_connections_total", "user"), ["other"]);
    let verdicts =
        ["allowed", "deferred", "exempt", "redirected", "refused", "would_defer", "would_redirect", "would_refuse"];
    assert_eq!(values("smtp_connections_total", "verdict"), verdicts);
    // A pipe has no port, and nothing else has none.
    for series in first.series("smtp_connections_total") {
        assert_eq!(series.label("route") == "pipe", series.label("port") == "0", "{series:?}");
    }
    for (family, label, list) in [
        (
            "smtp_sessions_total",
            "outcome",
            &["aborted", "closed", "ended", "established", "refused", "reset", "timed_out", "unreachable"][..],
        ),
        ("smtp_messages_total", "outcome", &["accepted", "deferred", "rejected", "unknown"]),
        ("smtp_recipients_total", "outcome", &["accepted", "deferred", "rejected"]),
        ("smtp_sessions_unseen_total", "cause", &["encrypted", "joined_late", "no_memory", "unclear"]),
        ("smtp_message_verdicts_total", "verdict", &["allowed", "exempt", "refused", "would_refuse"]),
        ("smtp_message_verdicts_total", "unit", &["message", "recipient"]),
        ("smtp_session_bytes_total", "direction", &["received", "sent"]),
    ] {
        assert_eq!(values(family, label), list, "{family}");
        assert_eq!(values(family, "route"), ["local", "remote"], "{family}");
        assert_eq!(values(family, "user"), ["other"], "{family}");
        assert_eq!(first.value(family, &[]), 0.0, "{family}");
    }
    assert_eq!(first.value("smtp_connections_total", &[]), 0.0);

    some_traffic(&world);
    let later = assert_well_formed(&world.agent);
    assert_eq!(later.value("smtp_connections_total", &[]), 9.0);
}

#[test]
fn counts_limits_and_usage_are_those_of_the_traffic() {
    let world = World::with(LIMITS);
    some_traffic(&world);
    let metrics = world.agent.metrics();
    let connections = |user: u32, route, port, verdict| {
        let labels = [("user", &*user.to_string()), ("route", route), ("port", port), ("verdict", verdict)];
        metrics.find("smtp_connections_total", &labels)
    };
    for (user, route, port, verdict, wanted) in [
        (uid::SENDER, "remote", "25", "allowed", Some(2.0)),
        (uid::SENDER, "remote", "25", "deferred", Some(1.0)),
        (uid::SENDER, "remote", "25", "refused", Some(2.0)),
        (uid::SENDER, "remote", "25", "exempt", Some(0.0)),
        (uid::SENDER, "local", "25", "allowed", None),
        (uid::DENIED, "remote", "25", "refused", Some(1.0)),
        (uid::EXEMPT, "remote", "25", "exempt", Some(1.0)),
        (uid::OTHER, "remote", "25", "allowed", Some(1.0)),
        (uid::OTHER, "local", "587", "allowed", Some(1.0)),
    ] {
        assert_eq!(connections(user, route, port, verdict), wanted, "{user} {route} {port} {verdict}");
    }
    let of =
        |name, user: &str, window| metrics.find(name, &[("user", user), ("unit", "connection"), ("window", window)]);
    for (user, limit, usage) in [
        ("61001", Some((2.0, 10.0)), Some(2.0)),
        ("61002", Some((2.0, 10.0)), Some(1.0)),
        ("other", Some((2.0, 10.0)), Some(0.0)),
        ("61003", None, None),
        ("61004", None, None),
    ] {
        let limits = of("smtp_limit", user, "hour").zip(of("smtp_limit", user, "day"));
        assert_eq!(limits, limit, "limits of {user}");
        assert_eq!(of("smtp_usage", user, "hour"), usage, "usage of {user}");
        assert_eq!(of("smtp_usage", user, "day"), usage, "usage of {user}");
    }
    // Allowed and exempt ones to the outside.
    let host = |name, unit, window| metrics.find(name, &[("unit", unit), ("window", window)]);
    assert_eq!(host("smtp_host_usage", "connection", "day"), Some(4.0));
    assert_eq!(host("smtp_host_limit", "connection", "day"), Some(500.0));
    assert_eq!(host("smtp_host_limit", "connection", "hour"), Some(f64::INFINITY));
    assert_eq!(host("smtp_host_limit", "message", "day"), Some(f64::INFINITY));
    // No account is limited in anything but connections.
    let units: Vec<_> = metrics.series("smtp_limit").into_iter().filter(|s| s.label("user") != "other").collect();
    assert!(units.iter().all(|s| s.label("unit") == "connection"), "{units:?}");
}

#[test]
fn messages_recipients_and_sessions_are_those_the_client_and_the_sink_saw() {
    // Observed only: where messages are limited, a client that speaks so oddly would be ended.
    let limits = "mode = \"observe\"\n[plan.standard]\nmessages_per_hour = 1000\nrecipients_per_day = 9000\n";
    let world = World::with(limits);
    let sink = Hostile::opponent(Sink::at(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 587)).netns(&world.ns)).start();
    let to: SocketAddr = (world.veth.far.v4, 587).into();
    let client = Hostile::new(to).seed(11).sessions(12).uid(uid::SENDER).cgroup(world.cgroup());
    let wanted = client.run().tally();
    assert_eq!(sink.settled_tally(), wanted, "the witnesses agree");

    let user = uid::SENDER.to_string();
    let counted = |metrics: &Metrics, family: &str, outcome: &str| {
        metrics.find(family, &[("user", &user), ("route", "remote"), ("outcome", outcome)]).map(|n| n as u64)
    };
    eventually(SOON, "the last session has ended", || {
        let metrics = world.agent.metrics();
        let ended = metrics.series("smtp_sessions_total").into_iter();
        let ended = ended.filter(|s| s.label("user") == user && s.label("outcome") != "established");
        ended.map(|s| s.value as u64).sum::<u64>() >= 12
    });
    let metrics = assert_well_formed(&world.agent);
    let messages = ["accepted", "deferred", "rejected", "unknown"].map(|o| counted(&metrics, "smtp_messages_total", o));
    let (all, named) = (wanted.messages, wanted.recipients);
    let of_messages = [all.accepted, all.deferred, all.rejected, wanted.unknown];
    assert_eq!(messages, of_messages.map(Some), "{wanted:?}");
    let recipients = ["accepted", "deferred", "rejected"].map(|o| counted(&metrics, "smtp_recipients_total", o));
    assert_eq!(recipients, [named.accepted, named.deferred, named.rejected].map(Some), "{wanted:?}");
    assert_eq!(counted(&metrics, "smtp_sessions_total", "established"), Some(12));
    let of = |family, labels: &[(&str, &str)]| {
        metrics.value(family, &[&[("user", &*user), ("route", "remote")], labels].concat())
    };
    assert!(of("smtp_session_bytes_total", &[("direction", "sent")]) > 1000.0);
    assert!(of("smtp_session_bytes_total", &[("direction", "received")]) > 100.0);
    assert!(of("smtp_session_exchanges_total", &[]) >= 12.0);
    assert!(of("smtp_session_duration_seconds_total", &[]) > 0.0);
    assert_eq!(of("smtp_message_verdicts_total", &[("verdict", "refused")]), 0.0);

    // Held to both units, each in the one window that is set.
    let limits: BTreeMap<_, _> = metrics
        .series("smtp_limit")
        .into_iter()
        .filter(|s| s.label("user") == user)
        .map(|s| ((s.label("unit").to_owned(), s.label("window").to_owned()), s.value))
        .collect();
    for (unit, window, limit) in [("message", "hour", 1000.0), ("recipient", "day", 9000.0)] {
        assert_eq!(limits.get(&(unit.into(), window.into())), Some(&limit), "{limits:?}");
        let allowed = of("smtp_message_verdicts_total", &[("unit", unit), ("verdict", "allowed")]);
        let used = metrics.find("smtp_usage", &[("user", &user), ("unit", unit), ("window", window)]);
        assert_eq!(used, Some(allowed), "{unit}");
        assert!(allowed > 0.0, "{unit}");
    }
    assert_eq!(limits.get(&("message".into(), "day".into())), None);

    let said = world.agent.cli(&["status", "--json"]).expect_ok("status").stdout;
    let said: serde_json::Value = serde_json::from_str(&said).must("JSON");
    let account = said["accounts"].as_array().must("accounts").iter().find(|a| a["account"] == *user);
    let account = account.must(format_args!("{user} in {said}"));
    for (n, outcome) in ["accepted", "deferred", "rejected", "unknown"].into_iter().enumerate() {
        assert_eq!(account["messages"][outcome], of_messages[n], "{outcome}: {account}");
        assert_eq!(account["by_route"]["remote"]["messages"][outcome], account["messages"][outcome]);
        assert_eq!(said["host"]["messages"][outcome], account["messages"][outcome]);
    }
    assert_eq!(account["sessions"]["established"], 12);
    assert_eq!((&said["messages_wanted"], &said["messages_followed"]), (&true.into(), &true.into()));
    let text = world.agent.cli(&["status"]).expect_ok("status").stdout;
    assert_has(&text, &["\nmessages\n", "\nrecipients\n", "\nsessions\n", "ESTABLISHED", "/1000", "/9000"]);
}

#[test]
fn without_messages_the_followers_are_not_shown_and_status_says_so() {
    let world = World::with("[smtp]\nmessages = false\n");
    world.dial().uid(uid::SENDER).count(3).run();
    let metrics = assert_well_formed(&world.agent);
    let hooks: Vec<_> = metrics.series("smtp_agent_gate_attached").into_iter().map(|s| s.label("hook")).collect();
    assert_eq!(hooks, ["connect4", "connect6", "executed", "forked"]);
    assert_eq!(metrics.value("smtp_connections_total", &[("verdict", "allowed")]), 3.0);
    assert_eq!(metrics.value("smtp_sessions_total", &[]), 0.0);
    let text = world.agent.cli(&["status"]).expect_ok("status").stdout;
    assert_has(&text, &["messages are not followed ([smtp] messages = false)"]);
}

/// Every counter of the gate, which must outlive agents. (Events are counted by the agent itself.)
fn counters(metrics: &Metrics) -> Vec<(String, f64)> {
    let ours = |name: &str| name.ends_with("_total") && name != "smtp_agent_events_total";
    let mut all: Vec<_> = metrics
        .all()
        .iter()
        .filter(|s| ours(&s.name))
        .map(|s| (format!("{} {:?}", s.name, s.labels), s.value))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn counters_go_on_over_crashes_and_restarts_and_never_fall() {
    let mut world = World::with("[events]\nper_second = 1\n");
    let mut sent = 0;
    let mut before = Vec::new();
    for round in 0..4 {
        assert_eq!(world.dial().uid(uid::SENDER).count(20).run().ok(), 20);
        if round % 2 == 0 {
            world.agent.kill9();
        } else {
            assert_eq!(world.agent.stop(), 0);
        }
        // While nobody looks, the kernel counts.
        assert_eq!(world.dial().uid(uid::SENDER).count(10).run().ok(), 10);
        assert_eq!(world.dial().uid(uid::DENIED).count(3).run().eperm(), 3);
        sent += 30;
        world.agent.start();
        assert_eq!(world.counted_uid(uid::SENDER, "allowed"), sent);
        assert_eq!(world.counted_uid(uid::DENIED, "refused"), sent / 10);
        let now = counters(&world.agent.metrics());
        for (name, value) in &before {
            let later = now.iter().find(|(n, _)| n == name).must(format_args!("{name} has gone")).1;
            assert!(later >= *value, "{name} fell from {value} to {later}");
        }
        before = now;
    }
    let usage =
        world.agent.metrics().find("smtp_usage", &[("user", "61001"), ("unit", "connection"), ("window", "hour")]);
    assert_eq!(usage, Some(sent as f64), "the windows outlive it too");
}

#[test]
fn counts_are_exact_while_agents_come_and_go_under_load() {
    let mut world = World::with("");
    let dial = world.dial().uid(uid::SENDER).count(4_000).reset();
    let tally = std::thread::scope(|scope| {
        let dialler = scope.spawn(|| dial.run());
        for _ in 0..3 {
            world.agent.kill9();
            world.agent.start();
        }
        dialler.join().expect("the dialler does not panic")
    });
    assert_eq!(tally.ok(), 4_000, "{tally:?}");
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 4_000);
    assert_eq!(world.counted_in_all(), 4_000);
}

#[test]
fn there_is_a_page_for_people_and_one_for_supervisors() {
    let agent = Agent::builder().start();
    let get = |path| agent.get(path).must("the agent answers");
    let (status, page) = get("/");
    assert_eq!(status, 200);
    assert_has(&page, &["<title>smtp-agent</title>", "href=\"/metrics\"", "href=\"/-/healthy\"", "href=\"/-/ready\""]);
    assert_eq!(get("/-/healthy").0, 200);
    assert_eq!(get("/-/ready").0, 200);
    assert_eq!(get("/no-such-page").0, 404);
}

#[test]
fn metrics_can_be_switched_off() {
    let mut agent = Agent::builder().notify().config(|c| c.set("metrics.listen", "off")).stopped();
    agent.spawn();
    eventually(SOON, "it is ready", || agent.notifications().iter().any(|n| n.contains("READY=1")));
    assert!(agent.get("/metrics").is_err());
    assert_eq!(agent.cli(&["status"]).code, 0);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn scrapes_at_the_same_time_agree() {
    let world = World::with("");
    world.dial().uid(uid::SENDER).count(100).run();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 100)));
        }
    });
}

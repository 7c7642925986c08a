//! What Prometheus scrapes: complete from the first scrape on, well-formed, and never falling.

use crate::scene::{SOON, assert_has};
use smtp_tests::{Agent, Must, World, agent::Metrics, eventually, prometheus::promtool, uid};

/// The contract, each family with the labels it has. `smtp_sessions_total` and `smtp_messages_total` come with
/// the reading of replies.
const FAMILIES: &[(&str, &[&str])] = &[
    ("smtp_connections_total", &["port", "route", "user", "verdict"]),
    ("smtp_limit", &["user", "window"]),
    ("smtp_usage", &["user", "window"]),
    ("smtp_host_limit", &["window"]),
    ("smtp_host_usage", &["window"]),
    ("smtp_agent_events_total", &[]),
    ("smtp_agent_events_lost_total", &["cause"]),
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
    assert_eq!(values("smtp_agent_events_lost_total", "cause"), ["rate_limited", "ring_full", "subscriber_slow"]);
    assert_eq!(values("smtp_agent_mode", "mode"), ["enforce", "observe"]);
    assert_eq!(values("smtp_host_limit", "window"), ["day", "hour"]);
    assert_eq!(values("smtp_connections_total", "port"), ["25", "465", "587"]);
    assert_eq!(values("smtp_connections_total", "route"), ["local", "remote"]);
    assert_eq!(values("smtp_connections_total", "user"), ["other"]);
    let verdicts =
        ["allowed", "deferred", "exempt", "redirected", "refused", "would_defer", "would_redirect", "would_refuse"];
    assert_eq!(values("smtp_connections_total", "verdict"), verdicts);
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
    let of = |name, user: &str, window| metrics.find(name, &[("user", user), ("window", window)]);
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
    assert_eq!(metrics.find("smtp_host_usage", &[("window", "day")]), Some(4.0));
    assert_eq!(metrics.find("smtp_host_limit", &[("window", "day")]), Some(500.0));
    assert_eq!(metrics.find("smtp_host_limit", &[("window", "hour")]), Some(f64::INFINITY));
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
    let usage = world.agent.metrics().find("smtp_usage", &[("user", "61001"), ("window", "hour")]);
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

//! The cap on user labels: never more names than configured, never a count lost or moved.

use smtp_tests::{World, agent::Metrics};
use std::collections::BTreeMap;

const FIRST: u32 = 61_100;

/// Connections by user and verdict.
fn counts(metrics: &Metrics) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for series in metrics.series("smtp_connections_total").into_iter().filter(|s| s.value > 0.0) {
        *counts.entry((series.label("user").into(), series.label("verdict").into())).or_default() +=
            series.value as u64;
    }
    counts
}

fn row(user: &str, verdict: &str, count: u64) -> ((String, String), u64) {
    ((user.into(), verdict.into()), count)
}

#[test]
fn the_first_accounts_keep_their_names_and_the_others_are_summed_exactly() {
    let mut world = World::with("[metrics]\nmax_users = 3\n[plan.standard]\nper_hour = 9\nsoft_percent = 100\n");
    // 1, 2, … 6 connections, and the last account goes over its limit.
    for (n, uid) in (1..=6).zip(FIRST..) {
        assert_eq!(world.dial().uid(uid).count(n).run().ok(), n);
    }
    assert_eq!(world.dial().uid(FIRST + 5).count(5).run().eperm(), 2);
    let wanted: BTreeMap<_, _> = [
        row("61100", "allowed", 1),
        row("61101", "allowed", 2),
        row("61102", "allowed", 3),
        row("other", "allowed", 4 + 5 + 9),
        row("other", "refused", 2),
    ]
    .into();
    let metrics = world.agent.metrics();
    assert_eq!(counts(&metrics), wanted);
    assert_eq!(metrics.value("smtp_agent_accounts", &[]), 6.0);

    // Usage of `other` is the highest among them, as one cannot add windows that may overlap a limit.
    let usage = |user| metrics.find("smtp_usage", &[("user", user), ("unit", "connection"), ("window", "hour")]);
    assert_eq!((usage("61102"), usage("other"), usage("61103")), (Some(3.0), Some(9.0), None));

    assert_eq!(world.agent.stop(), 0);
    world.agent.start();
    assert_eq!(counts(&world.agent.metrics()), wanted, "a restart gives the same names");
    world.agent.kill9();
    world.dial().uid(FIRST + 4).run();
    world.dial().uid(FIRST).run();
    world.agent.start();
    let mut later = wanted;
    later.extend([row("other", "allowed", 19), row("61100", "allowed", 2)]);
    assert_eq!(counts(&world.agent.metrics()), later, "and so does a crash");
}

#[test]
fn a_lower_cap_after_a_reload_loses_no_count() {
    let world = World::with("");
    for uid in FIRST..FIRST + 4 {
        world.dial().uid(uid).count(2).run();
    }
    assert_eq!(counts(&world.agent.metrics()).len(), 4);
    world.agent.rewrite_config("[metrics]\nmax_users = 1\n");
    world.agent.cli(&["reload"]).expect_ok("reload");
    let wanted: BTreeMap<_, _> = [row("61100", "allowed", 2), row("other", "allowed", 6)].into();
    assert_eq!(counts(&world.agent.metrics()), wanted);
}

//! Limits are exact: one after another, many at once, and in every scope together.

use std::{thread, time::Duration};

use smtp_tests::{Tally, World, uid};

#[test]
fn of_135_attempts_100_pass_25_are_deferred_and_10_refused() {
    let world = World::with("[plan.standard]\nper_hour = 100\nsoft_percent = 125");
    let got = world.dial().uid(uid::SENDER).count(135).run_each();
    let expected: Vec<_> = [("ok", 100), ("ECONNREFUSED", 25), ("EPERM", 10)]
        .into_iter()
        .flat_map(|(what, n)| std::iter::repeat_n(what.to_owned(), n))
        .collect();
    assert_eq!(got, expected, "in this order");
    for (verdict, count) in [("allowed", 100), ("deferred", 25), ("refused", 10)] {
        assert_eq!(world.counted_uid(uid::SENDER, verdict), count, "{verdict}");
    }
    assert_eq!(world.sink.connections(), 100);
    let metrics = world.agent.metrics();
    let user = uid::SENDER.to_string();
    assert_eq!(metrics.value("smtp_usage", &[("user", &user), ("window", "hour")]), 100.0);
    assert_eq!(metrics.value("smtp_limit", &[("user", &user), ("window", "hour")]), 100.0);
}

#[test]
fn hour_and_day_hold_together_and_a_stopped_attempt_is_charged_to_neither() {
    let world = World::with("[plan.standard]\nper_hour = 5\nper_day = 3\nsoft_percent = 100\n[host]\nper_day = 100");
    let got = world.dial().uid(uid::SENDER).count(10).run();
    assert_eq!(got, Tally::of(&[("ok", 3), ("EPERM", 7)]));
    let metrics = world.agent.metrics();
    let user = uid::SENDER.to_string();
    for window in ["hour", "day"] {
        assert_eq!(metrics.value("smtp_usage", &[("user", &user), ("window", window)]), 3.0, "{window}");
        assert_eq!(metrics.value("smtp_host_usage", &[("window", window)]), 3.0, "host, {window}");
    }
}

#[test]
fn the_hosts_budget_stops_everyone_but_the_exempt_and_those_too_when_strict() {
    for (strict, exempt) in [(false, Tally::of(&[("ok", 4)])), (true, Tally::of(&[("EPERM", 4)]))] {
        let world = World::with(&format!("[host]\nper_hour = 6\nstrict = {strict}"));
        assert_eq!(world.dial().uid(uid::EXEMPT).count(4).run().ok(), 4, "within the budget");
        let got = world.dial().uid(uid::SENDER).count(5).run();
        assert_eq!(got, Tally::of(&[("ok", 2), ("EPERM", 3)]), "exempt connections count");
        assert_eq!(world.dial().uid(uid::EXEMPT).count(4).run(), exempt, "strict = {strict}");
        let user = uid::SENDER.to_string();
        let used = world.agent.metrics().value("smtp_usage", &[("user", &user), ("window", "hour")]);
        assert_eq!(used, 2.0, "what the host refused is not charged to the account");
    }
}

#[test]
fn several_processes_hammering_get_exactly_the_limit() {
    let world = World::with("[plan.standard]\nper_hour = 700\nsoft_percent = 110\n[host]\nper_hour = 1000");
    let burst = |uid: u32| world.dial().uid(uid).count(600).threads(2).reset();
    // Two processes for each of two users: 2,400 attempts, 700 for each user, 1,000 for the host.
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let all = [uid::SENDER, uid::OTHER, uid::SENDER, uid::OTHER].map(|uid| scope.spawn(move || burst(uid).run()));
        all.map(|one| one.join().expect("a process of the test")).into()
    });
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    assert_eq!(sum(Tally::total), 2_400);
    assert_eq!(sum(Tally::ok), 1_000, "the host's budget, to the last one and not one more");
    assert_eq!(world.sink.connections_when_quiet(Duration::from_millis(300)), 1_000);
    for (one, other) in [(0, 2), (1, 3)] {
        assert!(tallies[one].ok() + tallies[other].ok() <= 700, "no user had more than his own limit");
    }
    for verdict in ["allowed", "deferred", "refused"] {
        let counted = world.counted_uid(uid::SENDER, verdict) + world.counted_uid(uid::OTHER, verdict);
        let seen = match verdict {
            "allowed" => sum(Tally::ok),
            "deferred" => sum(Tally::econnrefused),
            _ => sum(Tally::eperm),
        };
        assert_eq!(counted, seen, "{verdict}: the clients' own tally");
    }
}

#[test]
fn one_user_hammering_from_many_processes_has_his_soft_band_once() {
    let world = World::with("[plan.standard]\nper_hour = 200\nsoft_percent = 125");
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let all: Vec<_> =
            (0..4).map(|_| scope.spawn(|| world.dial().uid(uid::SENDER).count(250).threads(2).reset().run())).collect();
        all.into_iter().map(|one| one.join().expect("a process of the test")).collect()
    });
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    assert_eq!([sum(Tally::ok), sum(Tally::econnrefused), sum(Tally::eperm)], [200, 50, 750]);
    assert_eq!(world.sink.connections_when_quiet(Duration::from_millis(300)), 200);
}

#[test]
fn observe_mode_decides_the_same_and_stops_nobody() {
    let world = World::with("mode = \"observe\"\n[plan.standard]\nper_hour = 10\nsoft_percent = 150");
    assert_eq!(world.dial().uid(uid::SENDER).count(20).run().ok(), 20);
    assert_eq!(world.dial().uid(uid::DENIED).count(3).run().ok(), 3);
    for (user, verdict, count) in [
        (uid::SENDER, "allowed", 10),
        (uid::SENDER, "would_defer", 5),
        (uid::SENDER, "would_refuse", 5),
        (uid::DENIED, "would_refuse", 3),
    ] {
        assert_eq!(world.counted_uid(user, verdict), count, "{user} {verdict}");
    }
    assert_eq!(world.sink.connections_when_quiet(Duration::from_millis(200)), 23);
    assert_eq!(world.counted_in_all(), 23);
}

#[test]
fn plan_deny_leaves_only_the_local_mta_and_plan_allow_has_no_limits() {
    let world = World::with(
        "[default]\nplan = \"deny\"\n[[rule]]\nuser = \"61002\"\nplan = \"allow\"\n[containers]\nplan = \"standard\"",
    );
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    let local = world.dial_to("127.0.0.1".parse().expect("an address"), 25).uid(uid::SENDER).run();
    assert_eq!(local.eperm(), 0, "the local MTA may be reached: {local:?}");
    assert_eq!(world.dial().uid(uid::OTHER).count(30).run().ok(), 30);
    assert_eq!(world.dial().uid(uid::EXEMPT).run().ok(), 1);
}

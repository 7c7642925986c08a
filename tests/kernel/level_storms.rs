//! Limits that several share, with many at once: what a purse has used is what was let through on it, to the last unit.

use crate::people::{ANN, BOB, EVE, people};
use smtp_tests::{
    Cgroup, World,
    hands::at_once,
    mailer::{How, Report},
};

/// Who connects from where, and how often it was let through.
type Let = (u32, usize, u64);

/// Every purse of [`STORM`] has used what was let through on it, by the clients' own tallies.
#[track_caller]
fn assert_purses(world: &World, cgroups: &[Cgroup; 2], unit: &str, passed: &[Let], limits: &[(&str, u64)]) {
    let sum = |is: &dyn Fn(&Let) -> bool| passed.iter().filter(|one| is(one)).map(|one| one.2).sum::<u64>();
    let expected = [
        ("host", "eve", None, sum(&|_| true)),
        ("plan", "eve", None, sum(&|_| true)),
        ("group", "ann", None, sum(&|(who, ..)| *who != EVE)),
        ("account", "ann", None, sum(&|(who, ..)| *who == ANN)),
        ("account", "bob", None, sum(&|(who, ..)| *who == BOB)),
        ("account", "eve", None, sum(&|(who, ..)| *who == EVE)),
        ("cgroup", "ann", Some(0), sum(&|(_, at, _)| *at == 0)),
        ("cgroup", "ann", Some(1), sum(&|(_, at, _)| *at == 1)),
    ];
    for (scope, user, at, sum) in expected {
        let explained = world.agent.explained(user, at.map(|at: usize| &cgroups[at]), &[]);
        let limit = limits.iter().find(|(of, _)| *of == scope).expect("a limit").1;
        assert!(sum <= limit, "{scope} of {user} in {at:?}: {sum} of {limit}");
        for window in ["hour", "day"] {
            assert_eq!(
                explained.used(scope, unit, window),
                sum,
                "{scope} of {user} in {at:?} by the {window}: {passed:?}"
            );
        }
    }
}

/// Limits of every level on one unit, by hour and day.
fn storm(prefix: &str, cgroups: &[Cgroup; 2], limits: &[(&str, u64)]) -> String {
    let both = |level: &str| {
        let limit = limits.iter().find(|(of, _)| *of == level).expect("a limit").1;
        format!("{prefix}per_hour = {limit}\n{prefix}per_day = {limit}\n")
    };
    format!(
        "[host]\n{}[group.staff]\n{}[plan.all]\n{}soft_percent = 100\n[plan.all.total]\n{}\
         [plan.web]\n{}soft_percent = 100\n[default]\nplan = 'all'\n\
         [[rule]]\nuser = 'ann'\nplan = 'all'\n[[rule]]\nuser = 'bob'\nplan = 'all'\n[[rule]]\nuser = 'eve'\nplan = 'all'\n\
         [[rule]]\ncgroup = '{}'\nplan = 'web'\n[[rule]]\ncgroup = '{}'\nplan = 'web'\n",
        both("host"),
        both("group"),
        both("account"),
        both("plan"),
        both("cgroup"),
        cgroups[0].name(),
        cgroups[1].name(),
    )
}

const CROWD: [(u32, usize); 8] = [(ANN, 0), (BOB, 0), (EVE, 0), (ANN, 1), (BOB, 1), (EVE, 1), (ANN, 0), (BOB, 1)];

#[test]
fn after_storms_of_connections_each_purse_has_used_what_was_let_through() {
    let etc = people();
    let world = World::built("", |builder| builder.etc(&etc));
    let cgroups = ["one", "two"].map(|name| world.cgroup().child(name));
    let (world, cgroups) = (&world, &cgroups);
    // Each time another level is the strictest; what came before counts on.
    let mut passed: Vec<Let> = Vec::new();
    for limits in [
        [("host", 10_000), ("plan", 9_000), ("group", 8_000), ("account", 90), ("cgroup", 200)],
        [("host", 10_000), ("plan", 9_000), ("group", 250), ("account", 150), ("cgroup", 400)],
        [("host", 10_000), ("plan", 500), ("group", 400), ("account", 260), ("cgroup", 500)],
        [("host", 777), ("plan", 780), ("group", 700), ("account", 600), ("cgroup", 600)],
    ] {
        world.reload(&storm("", cgroups, &limits));
        let burst = |(who, at): (u32, usize)| {
            move || (who, at, world.dial().cgroup(&cgroups[at]).uid(who).count(250).threads(2).reset().run())
        };
        let tallies = at_once(CROWD.map(burst));
        assert!(tallies.iter().all(|(.., tally)| tally.ok() + tally.eperm() == 250), "{tallies:?}");
        passed.extend(tallies.iter().map(|(who, at, tally)| (*who, *at, tally.ok())));
        assert_purses(world, cgroups, "connection", &passed, &limits);
        // Nothing is left lying about: what still has room has all of it.
        for (who, at) in [(ANN, 0), (BOB, 1), (EVE, 0), (EVE, 1), (BOB, 0), (ANN, 1)] {
            let tally = world.dial().cgroup(&cgroups[at]).uid(who).count(800).threads(2).reset().run();
            passed.push((who, at, tally.ok()));
        }
        assert_purses(world, cgroups, "connection", &passed, &limits);
        for user in ["ann", "bob", "eve"] {
            for cgroup in cgroups {
                let explained = world.agent.explained(user, Some(cgroup), &[]);
                assert_ne!(explained.reason(), "within_limits", "{user}: {explained:?}");
            }
        }
    }
    assert_eq!(passed.iter().map(|one| one.2).sum::<u64>(), 777, "the last limit was reached to the last one");
    assert_eq!(world.sink.connections_when_quiet(std::time::Duration::from_millis(200)), 777);
}

#[test]
fn after_storms_of_messages_each_purse_has_used_what_the_sink_took() {
    let etc = people();
    let world = World::made("", |builder| builder.etc(&etc), |sink| sink.chunking());
    let mut world = world;
    world.agent.start();
    let cgroups = ["one", "two"].map(|name| world.cgroup().child(name));
    let (world, cgroups) = (&world, &cgroups);
    let limits = [("host", 121), ("plan", 130), ("group", 95), ("account", 60), ("cgroup", 70)];
    world.reload(&storm("messages_", cgroups, &limits));
    let burst = |(who, at): (u32, usize)| {
        let how = if at == 0 { How::Mixed } else { How::Data };
        move || (who, at, world.mailer(who).cgroup(&cgroups[at]).threads(2).messages(20).each(5).how(how).run())
    };
    let reports = at_once(CROWD.map(burst));
    let passed: Vec<Let> = reports.iter().map(|(who, at, report)| (*who, *at, report.seen.messages.accepted)).collect();
    assert_purses(world, cgroups, "message", &passed, &limits);
    assert_eq!(world.sink.settled_tally().messages.accepted, passed.iter().map(|one| one.2).sum::<u64>());
    assert!(reports.iter().all(|(.., report)| report.slowest_cut < 2_000), "{reports:?}");
    // One after another, nobody meets a reservation: the limits are reached to the last message.
    let mut passed = passed;
    for (who, at) in [(ANN, 0), (BOB, 1), (EVE, 0), (EVE, 1), (BOB, 0), (ANN, 1)] {
        let report = world.mailer(who).cgroup(&cgroups[at]).messages(70).each(10).run();
        passed.push((who, at, report.seen.messages.accepted));
    }
    assert_purses(world, cgroups, "message", &passed, &limits);
    assert_eq!(world.sink.settled_tally().messages.accepted, 121, "exactly the strictest at the sink");
}

#[test]
fn after_storms_of_recipients_each_purse_has_used_what_the_sink_heard() {
    let etc = people();
    let world = World::built("", |builder| builder.etc(&etc));
    let cgroups = ["one", "two"].map(|name| world.cgroup().child(name));
    let (world, cgroups) = (&world, &cgroups);
    let limits = [("host", 300), ("plan", 290), ("group", 200), ("account", 130), ("cgroup", 160)];
    world.reload(&storm("recipients_", cgroups, &limits));
    // Three in one packet: all of them or none.
    let burst = |(who, at): (u32, usize)| {
        let mailer = world.mailer(who).cgroup(&cgroups[at]).threads(2).messages(12).each(4).recipients(3);
        move || (who, at, if at == 0 { mailer.pipeline().run() } else { mailer.run() })
    };
    let reports = at_once(CROWD.map(burst));
    let passed: Vec<Let> =
        reports.iter().map(|(who, at, report)| (*who, *at, report.seen.recipients.accepted)).collect();
    assert_purses(world, cgroups, "recipient", &passed, &limits);
    let heard: u64 = passed.iter().map(|one| one.2).sum();
    assert_eq!(world.sink.settled_tally().recipients.accepted, heard);
    assert!(heard <= 290, "{passed:?}");
}

#[test]
fn a_limit_on_messages_that_a_cgroup_a_group_or_a_plan_shares_is_exact_over_all_their_sessions() {
    let etc = people();
    let mut world = World::made("", |builder| builder.etc(&etc), |sink| sink.chunking());
    world.agent.start();
    let cgroup = world.cgroup().child("shared");
    let (world, cgroup) = (&world, &cgroup);
    for (level, toml) in [
        ("cgroup", format!("[plan.p]\nmessages_per_hour = 47\n[[rule]]\ncgroup = '{}'\nplan = 'p'", cgroup.name())),
        ("group", "[group.staff]\nmessages_per_hour = 47".to_owned()),
        ("plan", "[plan.standard.total]\nmessages_per_hour = 47".to_owned()),
    ] {
        world.reload(&toml);
        let before = world.sink.settled_tally().messages.accepted;
        let reports: Vec<Report> =
            at_once([ANN, BOB, ANN, BOB].map(|who| {
                move || world.mailer(who).cgroup(cgroup).threads(2).messages(15).each(4).how(How::Mixed).run()
            }));
        let total: Report = reports.into_iter().sum();
        assert_eq!((total.seen.messages.accepted, total.cuts()), (47, 73), "{level}: {total:?}");
        assert_eq!(world.sink.settled_tally().messages.accepted - before, 47, "{level}");
        let rest = world.mailer(EVE).messages(3).run().seen.messages.accepted;
        assert_eq!(rest, if level == "plan" { 0 } else { 3 }, "{level}");
    }
}

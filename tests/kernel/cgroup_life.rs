//! Rules for cgroups while cgroups come and go, with an agent and without one.

use smtp_common::{
    connection::{Account, kind},
    level::{CgroupKey, Level, Numbered, Purse},
    names::{NAME_LEN, Name, capacity, map},
};
use smtp_tests::{
    Cgroup, Dial, Must, Tally, World, eventually, hands::while_going_on, poll::holds_within, process, uid,
};
use std::{
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(5);

/// A rule for what a pattern matches below the world's cgroup.
fn rule(world: &World, pattern: &str, more: &str) -> String {
    format!("[[rule]]\ncgroup = '{}/{pattern}'\n{more}\n", world.cgroup().name())
}

const FIVE: &str = "[plan.five]\nper_hour = 5\nsoft_percent = 100\n";

#[track_caller]
fn dials(world: &World, cgroup: &Cgroup, count: u64) -> Tally {
    let tally = world.dial().cgroup(cgroup).uid(uid::SENDER).count(count).run();
    assert_eq!(tally.ok() + tally.eperm(), count, "{tally:?}");
    tally
}

/// Whether the gate has a chain for this very cgroup.
fn is_known(world: &World, cgroup: &Cgroup) -> bool {
    let chains = world.agent.map::<CgroupKey, u64>(map::CGROUPS);
    let id = cgroup.id();
    [0, 1].into_iter().any(|generation| chains.get(&CgroupKey { generation, v1: 0, id }, 0).is_ok())
}

#[test]
fn windows_go_on_when_a_service_is_started_anew() {
    let world = World::with("");
    world.reload(&format!(
        "{FIVE}{}{}",
        rule(&world, "exact", "plan = 'five'"),
        rule(&world, "glob*", "plan = 'five'")
    ));
    for name in ["exact", "glob1"] {
        let first = world.cgroup().child(name);
        eventually(SOON, "its rule holds", || is_known(&world, &first));
        assert_eq!(dials(&world, &first, 3).ok(), 3, "{name}");
        drop(first);
        let again = world.cgroup().child(name);
        assert_eq!(dials(&world, &again, 4).ok(), 2, "{name}: at once, and the count goes on");
        drop(again);
        let third = world.cgroup().child(name);
        assert_eq!(dials(&world, &third.child("inside"), 1).eperm(), 1, "{name}");
    }
}

#[test]
fn without_an_agent_rules_hold_for_cgroups_whose_path_is_known() {
    let mut world = World::with("");
    let glob = world.cgroup().child("glob1");
    world.reload(&format!("{FIVE}{}{}", rule(&world, "new", "plan = 'deny'"), rule(&world, "glob*", "plan = 'five'")));
    assert_eq!(dials(&world, &glob, 2).ok(), 2);
    world.agent.kill9();
    drop(glob);
    let glob = world.cgroup().child("glob1");
    assert_eq!(dials(&world, &glob, 5).ok(), 3, "a service that was there before");
    let new = world.cgroup().child("new");
    assert_eq!(dials(&world, &new, 1).eperm(), 1, "one that never was, named in full");
    let unknown = world.cgroup().child("glob2");
    assert_eq!(dials(&world, &unknown, 2).ok(), 2, "one that nobody could know of");
    world.agent.start();
    assert_eq!(dials(&world, &unknown, 1).eperm(), 1, "until there is an agent");
    assert_eq!(dials(&world, &glob, 1).eperm(), 1);
    assert_eq!(dials(&world, &new, 1).eperm(), 1);
}

#[test]
fn a_path_that_was_there_before_is_known_after_a_reload() {
    let mut world = World::with("");
    let toml = rule(&world, "glob*", "plan = 'deny'");
    let glob = world.cgroup().child("glob1");
    world.reload(&toml);
    drop(glob);
    world.reload(&toml);
    world.agent.kill9();
    let glob = world.cgroup().child("glob1");
    assert_eq!(dials(&world, &glob, 1).eperm(), 1);
}

#[test]
fn a_path_that_was_there_before_is_known_after_another_agent_has_come() {
    let mut world = World::with("");
    let glob = world.cgroup().child("glob1");
    world.agent.rewrite_config(&rule(&world, "glob*", "plan = 'deny'"));
    world.agent.cli(&["reload"]).expect_ok("reload");
    drop(glob);
    world.agent.kill9();
    world.agent.start();
    world.agent.kill9();
    let glob = world.cgroup().child("glob1");
    assert_eq!(dials(&world, &glob, 1).eperm(), 1);
}

#[test]
fn a_cgroup_that_only_a_glob_matches_is_held_within_milliseconds() {
    let world = World::with("");
    world.reload(&rule(&world, "box-*", "plan = 'deny'"));
    let mut times: Vec<Duration> = (0..60)
        .map(|n| {
            let begin = Instant::now();
            let cgroup = world.cgroup().child(&format!("box-{n}"));
            assert!(holds_soon(|| is_known(&world, &cgroup)), "box-{n} is not held after a second");
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    // A process that stands ready and connects as fast as it can.
    let mut slipped = Vec::new();
    for n in 0..10 {
        let mut held = world.dial().uid(uid::SENDER).count(3_000).reset().spawn();
        let cgroup = world.cgroup().child(&format!("box-ready-{n}"));
        cgroup.take(held.pid());
        held.go();
        let tally = held.tally();
        held.release();
        assert!(tally.eperm() > 2_000, "{tally:?}");
        slipped.push(tally.ok());
    }
    eprintln!("from mkdir(2) to the rule: median {median:?}, longest {most:?}; connections before it: {slipped:?}");
    assert!(median < Duration::from_millis(20) && most < Duration::from_millis(500), "{median:?} {most:?}");
}

/// As `poll::holds_within` for a second, in finer steps.
fn holds_soon(mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > Duration::from_secs(1) {
            return false;
        }
        thread::sleep(Duration::from_micros(50));
    }
    true
}

#[test]
fn a_process_that_makes_cgroups_for_itself_does_not_leave_the_rule() {
    let world = World::with("");
    let outer = world.cgroup().child("outer");
    world.reload(&rule(&world, "outer", "plan = 'deny'"));
    let dial = Dial::to(world.sink_address()).uid(uid::SENDER).command();
    let path = outer.path().display();
    let script = format!(
        "mkdir -p {path}/a/b && echo 0 > {path}/cgroup.procs && echo 0 > {path}/a/b/cgroup.procs && exec \"$@\""
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(dial.get_program()).args(dial.get_args()).stdin(Stdio::null());
    let output = process::output(&mut command, Duration::from_secs(20)).expect_ok("sh");
    assert_eq!(output.stdout.trim(), r#"{"EPERM":1}"#);
}

#[test]
fn a_reload_adds_and_removes_rules_for_cgroups_that_are_there_and_keeps_their_counts() {
    let world = World::with("");
    let cgroup = world.cgroup().child("web");
    assert_eq!(dials(&world, &cgroup, 10).ok(), 10);
    let five = format!("{FIVE}{}", rule(&world, "web", "plan = 'five'"));
    world.reload(&five);
    assert_eq!(dials(&world, &cgroup, 4).ok(), 4, "what was before the rule is not charged to it");
    world.reload("");
    assert_eq!(dials(&world, &cgroup, 10).ok(), 10);
    world.reload(&five);
    assert_eq!(dials(&world, &cgroup, 4).ok(), 1, "four were used");
    world.reload(&five.replace("= 5", "= 7"));
    assert_eq!(dials(&world, &cgroup, 4).ok(), 2);
    // A cgroup that is made while there are no rules, and rules after that.
    world.reload("");
    let late = world.cgroup().child("late");
    world.reload(&rule(&world, "la*", "plan = 'deny'"));
    assert_eq!(dials(&world, &late, 1).eperm(), 1);
}

#[test]
fn thousands_of_cgroups_come_and_go_and_leave_nothing_behind() {
    let world = World::with("");
    let steady = world.cgroup().child("w-steady");
    world.reload(&format!(
        "[plan.p]\nper_hour = 100000\nsoft_percent = 100\n{}",
        rule(&world, "w-*", "plan = 'p'\neach = true")
    ));
    let (world, steady) = (&world, &steady);
    let load = |stop: &AtomicBool| {
        let mut passed = 0;
        while !stop.load(Ordering::Relaxed) {
            passed += world.dial().cgroup(steady).uid(uid::SENDER).count(200).reset().run().ok();
        }
        passed
    };
    let [passed] = while_going_on([load], || {
        for round in 0..40 {
            let some: Vec<Cgroup> = (0..50).map(|n| world.cgroup().child(&format!("w-{round}-{n}"))).collect();
            // Half of them by the same names again.
            drop(some);
            (0..25).for_each(|n| drop(world.cgroup().child(&format!("w-{round}-{n}"))));
        }
    });
    assert_eq!(world.agent.explained("61001", Some(steady), &[]).used("cgroup", "connection", "hour"), passed);
    let last = world.cgroup().child("w-last");
    eventually(SOON, "the rule holds for a new one", || is_known(world, &last));
    let chains = world.agent.map::<CgroupKey, u64>(map::CGROUPS);
    let there = [steady.id(), last.id()];
    let left = || chains.keys().filter_map(Result::ok).filter(|key| !there.contains(&key.id)).count();
    assert!(holds_within(Duration::from_secs(2), || left() == 0), "{} cgroups that are gone have a chain", left());
}

#[test]
fn a_session_is_held_to_its_cgroups_limit_after_the_cgroup_has_gone() {
    let world = World::with("");
    let inside = world.cgroup().child("box-1");
    world.reload(&format!("[plan.p]\nmessages_per_hour = 1\n{}", rule(&world, "box-*", "plan = 'p'")));
    let mut talk = world.mailer(uid::SENDER).cgroup(&inside).talk();
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    world.cgroup().take(talk.pid());
    fs::remove_dir(inside.path()).must("nobody is in it");
    assert_eq!(talk.message().end.as_deref(), Some("ECONNABORTED"), "the second message of one");
}

#[test]
fn a_session_is_held_to_the_outer_rule_when_a_reload_takes_the_inner_one_away() {
    let world = World::with("");
    let outer = world.cgroup().child("outer");
    let inner = outer.child("inner");
    let limit = format!("[plan.p]\nmessages_per_hour = 1\n{}", rule(&world, "outer", "plan = 'p'"));
    world.reload(&format!("{limit}{}", rule(&world, "outer/inner", "plan = 'allow'")));
    let mut talk = world.mailer(uid::SENDER).cgroup(&inner).talk();
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    world.reload(&limit);
    assert_eq!(talk.message().end.as_deref(), Some("ECONNABORTED"), "the second message of one");
}

#[test]
fn a_session_is_held_to_a_rule_that_comes_while_it_is_open() {
    let world = World::with("");
    let cgroup = world.cgroup().child("web");
    let mut talk = world.mailer(uid::SENDER).cgroup(&cgroup).talk();
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    world.reload(&rule(&world, "web", "plan = 'deny'"));
    assert_eq!(talk.message().end.as_deref(), Some("ECONNABORTED"), "as it is when its account's plan denies");
}

#[test]
fn a_path_too_long_for_the_probe_is_held_by_the_agent() {
    let world = World::with("");
    let outer = world.cgroup().child(&"a".repeat(200));
    world.reload(&format!("{FIVE}{}", rule(&world, &format!("{}/*", "a".repeat(200)), "plan = 'five'")));
    let name = "b".repeat(200);
    for passed in [5, 0] {
        let inner = outer.child(&name);
        assert!(holds_soon(|| is_known(&world, &inner)), "its rule holds");
        assert_eq!(dials(&world, &inner, 6).ok(), passed);
    }
}

/// Names of limits are only for showing.
#[test]
fn a_reload_without_room_for_names_is_in_force_or_says_that_it_is_not() {
    let world = World::with("");
    let cgroup = world.cgroup().child("web");
    let mut names = world.agent.map::<Account, Name>(map::NAMES);
    let nobody = |n| Account::new(kind::NETNS, 1 << 40 | n);
    let name = Name { identity: 0, name: [0; NAME_LEN] };
    (0..=capacity::NAMES as u64).take_while(|n| names.insert(nobody(*n), name, 0).is_ok()).count();
    world
        .agent
        .rewrite_config(&format!("[plan.p]\nper_hour = 2\nsoft_percent = 100\n{}", rule(&world, "web", "plan = 'p'")));
    let said = world.agent.cli(&["reload"]);
    let passed = dials(&world, &cgroup, 4).ok();
    assert_eq!((said.code, passed), (0, 2), "{said:?}");
}

#[test]
fn a_cgroup_that_found_no_room_is_held_as_soon_as_there_is_room() {
    let world = World::with("");
    world.reload(&format!("{FIVE}{}", rule(&world, "box-*", "plan = 'five'\neach = true")));
    let mut purses = world.agent.map::<Numbered, Purse>(map::PURSES);
    let nobody = |number: u64| Numbered { generation: 7, number: number as u32 };
    let purse = Purse::new(Level::Cgroup, Account::HOST);
    let made: Vec<u64> =
        (0..=capacity::PURSES as u64).take_while(|n| purses.insert(nobody(*n), purse, 0).is_ok()).collect();
    let first = world.cgroup().child("box-1");
    eventually(SOON, "the agent says that it cannot", || world.agent.stderr_so_far().contains("PURSES is full"));
    made.iter().for_each(|n| purses.remove(&nobody(*n)).must("it was put there"));
    drop(first);
    for name in ["box-2", "box-1"] {
        let cgroup = world.cgroup().child(name);
        assert!(holds_soon(|| is_known(&world, &cgroup)), "{name}");
        assert_eq!(dials(&world, &cgroup, 6).ok(), 5, "{name}");
    }
}

#[test]
fn reloads_and_new_agents_during_a_storm_neither_lose_a_charge_nor_open_a_closed_cgroup() {
    let mut world = World::with("");
    let [open, closed] = ["open", "closed"].map(|name| world.cgroup().child(name));
    let toml = format!(
        "[plan.p]\nper_hour = 100000\nsoft_percent = 100\n[plan.p.total]\nper_day = 100000\n{}{}",
        rule(&world, "ope*", "plan = 'p'"),
        rule(&world, "clos*", "plan = 'deny'")
    );
    world.reload(&toml);
    let to = world.sink_address();
    let keep = |cgroup| {
        move |stop: &AtomicBool| {
            let mut passed = 0;
            while !stop.load(Ordering::Relaxed) {
                passed += Dial::to(to).cgroup(cgroup).uid(uid::SENDER).count(100).reset().run().ok();
            }
            passed
        }
    };
    let agent = &mut world.agent;
    let [passed, slipped] = while_going_on([keep(&open), keep(&closed)], || {
        for round in 0..12 {
            if round % 4 == 3 {
                agent.kill9();
                agent.rewrite_config(&toml);
                agent.start();
            } else {
                agent.cli(&["reload"]).expect_ok("reload");
            }
        }
    });
    assert_eq!(slipped, 0, "connections from the closed cgroup");
    let explained = world.agent.explained("61001", Some(&open), &[]);
    assert_eq!(explained.used("cgroup", "connection", "hour"), passed);
    assert_eq!(explained.used("plan", "connection", "day"), passed);
}

#[test]
fn a_cgroup_that_is_made_during_a_reload_is_held_from_its_first_connection() {
    let world = World::with("");
    let toml = format!("{}{}", rule(&world, "new-*", "plan = 'deny'"), rule(&world, "exact", "plan = 'deny'"));
    world.reload(&toml);
    let world = &world;
    let reload = |stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            world.agent.cli(&["reload"]).expect_ok("reload");
        }
    };
    while_going_on([reload], || {
        let slipped: Vec<u64> = (0..40)
            .map(|_| {
                let mut held = world.dial().uid(uid::SENDER).count(400).reset().spawn();
                let cgroup = world.cgroup().child("exact");
                cgroup.take(held.pid());
                held.go();
                let passed = held.tally().ok();
                held.release();
                passed
            })
            .collect();
        assert_eq!(slipped.iter().sum::<u64>(), 0, "{slipped:?}");
    });
}

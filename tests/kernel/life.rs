//! The gate outlives its agent, and changes hands under load without a gap and without counting twice.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use smtp_tests::{Cgroup, Dial, Tally, World, uid};

#[test]
fn a_killed_agent_leaves_the_gate_standing_and_its_successor_adopts_everything() {
    let mut world = World::with("[plan.standard]\nper_hour = 10\nsoft_percent = 100");
    assert_eq!(world.dial().uid(uid::SENDER).count(4).run().ok(), 4);
    let generation = world.agent.metrics().value("smtp_agent_policy_generation", &[]);
    world.agent.kill9();
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1, "denied without an agent");
    assert_eq!(world.dial().uid(uid::SENDER).count(4).run().ok(), 4, "counted without an agent");
    world.agent.start();
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 8, "what happened meanwhile is counted, once");
    assert_eq!(world.counted_uid(uid::DENIED, "refused"), 1);
    assert_eq!(world.dial().uid(uid::SENDER).count(4).run(), Tally::of(&[("ok", 2), ("EPERM", 2)]), "windows are kept");
    assert!(world.agent.metrics().value("smtp_agent_policy_generation", &[]) > generation);
}

/// Attempts without a pause until told to stop, and what became of them.
fn hammer(to: SocketAddr, cgroup: &Cgroup, user: u32, stop: &AtomicBool) -> [u64; 3] {
    let mut sum = [0; 3];
    while !stop.load(Ordering::Relaxed) {
        let tally = Dial::to(to).cgroup(cgroup).uid(user).count(200).threads(2).reset().run();
        let round = [tally.ok(), tally.econnrefused(), tally.eperm()];
        assert_eq!(round.iter().sum::<u64>(), 200, "nothing else can happen: {tally:?}");
        (0..3).for_each(|i| sum[i] += round[i]);
    }
    sum
}

/// Runs `during` while a denied and a limited user hammer the gate; then holds their own tallies against the
/// gate's counters and the sink's.
fn under_load(mut world: World, limit: u64, during: impl FnOnce(&mut World)) {
    let stop = AtomicBool::new(false);
    let below = world.cgroup().child("load");
    let to = SocketAddr::new(world.veth.far.v4.into(), 25);
    let (denied, limited) = thread::scope(|scope| {
        let denied = scope.spawn(|| hammer(to, &below, uid::DENIED, &stop));
        let limited = scope.spawn(|| hammer(to, &below, uid::SENDER, &stop));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| during(&mut world)));
        stop.store(true, Ordering::Relaxed);
        let tallies = (denied.join().expect("the denied user"), limited.join().expect("the limited user"));
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        tallies
    });
    assert_eq!(denied[..2], [0, 0], "no moment unguarded: of {} denied attempts", denied[2]);
    assert_eq!(limited[0], limit, "the whole limit and not one more");
    assert_eq!(world.sink.connections_when_quiet(Duration::from_millis(300)), limit);
    for (user, verdict, seen) in [
        (uid::DENIED, "refused", denied[2]),
        (uid::SENDER, "allowed", limited[0]),
        (uid::SENDER, "deferred", limited[1]),
        (uid::SENDER, "refused", limited[2]),
    ] {
        assert_eq!(world.counted_uid(user, verdict), seen, "{user} {verdict}: nothing lost, nothing counted twice");
    }
    assert!(denied[2] > 1_000 && limited[2] > 1_000, "a load worth the name: {denied:?} {limited:?}");
}

const PLAN: &str = "[plan.standard]\nper_hour = 900\nsoft_percent = 110";

#[test]
fn restarts_under_load_leave_no_gap_and_admit_not_one_too_many() {
    under_load(World::with(PLAN), 900, |world| {
        for round in 0..6 {
            thread::sleep(Duration::from_millis(300));
            if round % 2 == 0 {
                world.agent.kill9()
            } else {
                assert_eq!(world.agent.stop(), 0)
            }
            thread::sleep(Duration::from_millis(100));
            world.agent.start();
        }
    });
}

#[test]
fn reloads_under_load_swap_whole_policies() {
    under_load(World::with(PLAN), 900, |world| {
        for round in 0..40 {
            // Rules for many accounts that do not matter here, so that a half-written policy would show.
            let rules: String = (0..200)
                .map(|n| format!("[[rule]]\nuser = \"{}\"\nplan = \"standard\"\n", 70_000 + n + round))
                .collect();
            world.agent.rewrite_config(&rules);
            let output = world.agent.cli(&["reload"]);
            assert_eq!(output.code, 0, "{}", output.stderr);
        }
    });
}

#[test]
fn a_lower_limit_holds_from_the_reload_on_and_a_bad_file_changes_nothing() {
    let world = World::with("[plan.standard]\nper_hour = 100\nsoft_percent = 100");
    assert_eq!(world.dial().uid(uid::SENDER).count(5).run().ok(), 5);
    world.agent.rewrite_config("[plan.standard]\nper_hour = 6");
    assert_eq!(world.agent.cli(&["reload"]).code, 0);
    assert_eq!(world.dial().uid(uid::SENDER).count(5).run(), Tally::of(&[("ok", 1), ("EPERM", 4)]), "5 were used");
    world.agent.rewrite_config("[plan.standard]\nper_hour = \"many\"\n");
    let output = world.agent.cli(&["reload"]);
    assert_eq!(output.code, 2, "{}", output.stderr);
    assert!(output.stderr.contains("stays in force"), "{}", output.stderr);
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1, "the policy before stays in force");
}

#[test]
fn switching_between_observe_and_enforce_takes_a_reload() {
    let world = World::with("mode = \"observe\"");
    assert_eq!(world.dial().uid(uid::DENIED).run().ok(), 1);
    world.agent.rewrite_config("mode = \"enforce\"");
    assert_eq!(world.agent.cli(&["reload"]).code, 0);
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
}

#[test]
fn detach_ends_the_gate_at_once_and_leaves_nothing() {
    let mut world = World::with("");
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
    assert_eq!(world.agent.stop(), 0);
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1, "ending the agent does not end the gate");
    assert_eq!(world.agent.cli(&["detach"]).code, 0);
    assert!(!world.agent.pins_dir().exists(), "the pins are gone");
    assert_eq!(world.dial().uid(uid::DENIED).run().ok(), 1, "nobody is stopped any more");
}

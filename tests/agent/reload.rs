//! A reload is whole or does not happen, however it is asked for.

use crate::scene::{SOON, assert_has, assert_logged, break_config, failed_start, json};
use smtp_tests::{Agent, Must, World, eventually, uid};

fn gauge(agent: &Agent, name: &str) -> f64 {
    agent.metrics().find(name, &[]).must(format_args!("no {name}"))
}

fn generation(agent: &Agent) -> f64 {
    gauge(agent, "smtp_agent_policy_generation")
}

const SUCCESS: &str = "smtp_agent_config_reload_success";
const SUCCESS_AT: &str = "smtp_agent_config_reload_success_timestamp_seconds";

#[test]
fn a_reload_puts_the_new_policy_in_force_and_the_metrics_say_so() {
    let world = World::with("");
    let mode = |mode| world.agent.metrics().find("smtp_agent_mode", &[("mode", mode)]);
    assert_eq!((mode("enforce"), mode("observe")), (Some(1.0), Some(0.0)));
    let first = generation(&world.agent);
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);

    world.agent.rewrite_config("[deny]\nusers = ['61001']\n");
    let output = world.agent.cli(&["reload"]).expect_ok("reload");
    assert_has(&output.stdout, &[&format!("generation {} is in force", first + 1.0)]);
    assert_eq!(generation(&world.agent), first + 1.0);
    assert_eq!(world.dial().uid(uid::SENDER).run().eperm(), 1);
    assert_eq!(world.dial().uid(uid::DENIED).run().ok(), 1);

    world.agent.rewrite_config("mode = 'observe'\n[deny]\nusers = ['61001']\n");
    let said = json(&world.agent.cli(&["reload", "--json"]).expect_ok("reload"));
    assert_eq!((&said["ok"], &said["generation"]), (&true.into(), &(first as u64 + 2).into()), "{said}");
    assert_eq!((mode("enforce"), mode("observe")), (Some(0.0), Some(1.0)));
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
    let counted = |verdict| world.counted_uid(uid::SENDER, verdict);
    assert_eq!((counted("allowed"), counted("refused"), counted("would_refuse")), (1, 1, 1));
}

#[test]
fn a_reload_that_fails_changes_nothing_and_is_told_everywhere() {
    let mut world = World::with("");
    let before = generation(&world.agent);
    let loaded_at = gauge(&world.agent, SUCCESS_AT);
    assert_eq!(gauge(&world.agent, SUCCESS), 1.0);
    let config = world.agent.config_path();
    let text = std::fs::read_to_string(&config).must("the configuration");
    let broken = format!("{text}\n[plan.bulk]\nper_houre = 1\n");
    world.agent.rewrite_config_verbatim(&broken);

    let place = format!("{}:{}:1", config.display(), broken.lines().count());
    let output = world.agent.cli(&["reload"]);
    assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{output:?}");
    assert_has(&output.stderr, &["not reloaded", &place, "per_houre", "did you mean `per_hour`?"]);
    let output = world.agent.cli(&["reload", "--json"]);
    let said = json(&output);
    assert_eq!((output.code, &said["ok"]), (2, &false.into()), "{output:?}");
    assert_has(said["error"].as_str().must("a text"), &[&place]);

    assert_eq!((gauge(&world.agent, SUCCESS), generation(&world.agent)), (0.0, before));
    assert_eq!(gauge(&world.agent, SUCCESS_AT), loaded_at);
    assert_logged(&world.agent, &["was not reloaded", &place]);
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1, "the old policy is enforced");

    // The same by signal.
    let logged = |world: &World| world.agent.stderr_so_far().matches("was not reloaded").count();
    let so_far = logged(&world);
    world.agent.sighup();
    eventually(SOON, "SIGHUP is answered in the log", || logged(&world) == so_far + 1);
    assert_eq!((gauge(&world.agent, SUCCESS), generation(&world.agent)), (0.0, before));
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
    world.agent.rewrite_config("[deny]\nusers = []\n");
    world.agent.sighup();
    eventually(SOON, "the mended policy is in force", || generation(&world.agent) == before + 1.0);
    assert_eq!(gauge(&world.agent, SUCCESS), 1.0);
    assert_eq!(world.dial().uid(uid::DENIED).run().ok(), 1);
    let pid = world.agent.pid();
    assert_eq!(
        world.agent.stderr_so_far().matches("the gate is in force").count(),
        1,
        "it was never restarted ({pid})"
    );
}

#[test]
fn what_a_reload_cannot_change_is_named_and_left() {
    let agent = Agent::builder().start();
    let address = agent.metrics_address();
    agent.rewrite_config("[metrics]\nlisten = '127.0.0.1:1'\n[log]\nlevel = 'debug'\n[kernel]\ncgroup = '/tmp'\n");
    agent.cli(&["reload"]).expect_ok("reload");
    let log = agent.stderr_so_far();
    for what in ["[metrics] listen", "[log]", "[kernel]"] {
        assert_has(&log, &[&format!("{what} has changed and takes effect when smtp-agent is started again")]);
    }
    assert!(!log.contains("[paths] has changed"), "{log}");
    assert_eq!(agent.metrics_address(), address);
    assert_eq!(generation(&agent), 2.0);
    agent.rewrite_config("");
}

#[test]
fn nothing_of_the_policy_before_stays_in_the_maps() {
    const KEPT: [&str; 9] =
        ["rules", "plans", "purses", "chains", "cgroups", "paths", "exceptions", "subuids", "names"];
    let agent = Agent::builder().start();
    let entries = || KEPT.map(|map| agent.metrics().value("smtp_agent_map_entries", &[("map", map)]));
    let at_first = entries();
    let site = agent.cgroup().child("site");
    let mut rules =
        "[plan.bulk]\nper_hour = 9\n[plan.bulk.total]\nper_hour = 99\n[group.root]\nper_day = 9\n".to_owned();
    for number in 0..50 {
        let (base, user) = (agent.cgroup().name(), 70_000 + number);
        rules += &format!("[[rule]]\nuser = {user}\nplan = 'bulk'\n[[rule]]\nto = '192.0.2.{number}'\nplan = 'deny'\n");
        rules += &format!("[[rule]]\ncgroup = '{base}/s*{number}'\nper_hour = {user}\n");
        rules += &format!("[[rule]]\ncgroup = '{base}/of-{number}'\nper_hour = {user}\n");
    }
    rules += &format!("[[rule]]\ncgroup = '{}'\nper_hour = 1\n", site.name());
    for _ in 0..2 {
        agent.rewrite_config(&rules);
        agent.cli(&["reload"]).expect_ok("reload");
        let more = entries().iter().zip(at_first).filter(|(now, first)| **now > *first).count();
        assert_eq!(more, KEPT.len() - 1, "all but subuids have more: {:?} after {at_first:?}", entries());
        agent.rewrite_config("");
        agent.cli(&["reload"]).expect_ok("reload");
        eventually(SOON, "the maps hold what they held at first", || entries() == at_first);
    }
}

#[test]
fn many_reloads_at_once_all_happen_one_after_the_other() {
    let world = World::with("");
    let before = generation(&world.agent);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..3).for_each(|_| drop(world.agent.cli(&["reload"]).expect_ok("reload"))));
        }
        let dialler = scope.spawn(|| world.dial().uid(uid::DENIED).count(3_000).run());
        assert_eq!(dialler.join().expect("the dialler does not panic").eperm(), 3_000, "no reload opens a gap");
    });
    assert_eq!(generation(&world.agent), before + 12.0);
}

#[test]
fn a_broken_configuration_at_the_start_leaves_the_gate_that_stands() {
    let mut world = World::with("");
    assert_eq!(world.agent.stop(), 0);
    break_config(&world.agent);
    let output = failed_start(&world.agent, |_| {});
    assert_eq!(output.code, 2, "{output:?}");
    assert_has(&output.stderr, &["unknown table `broken`"]);
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1, "the policy before is enforced");
    world.agent.rewrite_config("");
    world.agent.start();
    assert_eq!(world.counted_uid(uid::DENIED, "refused"), 1);
}

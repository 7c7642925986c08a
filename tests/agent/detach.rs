//! `detach` takes away everything of ours and nothing of anybody else's.

use crate::{
    bpf,
    scene::{assert_has, assert_logged, json, names_in},
};
use aya::maps::{Map, MapData};
use smtp_tests::{Agent, Must, World, uid};
use std::fs;

#[test]
fn detach_removes_the_gate_and_its_counts_and_once_more_does_nothing() {
    let mut world = World::with("");
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
    assert_eq!(world.agent.stop(), 0);
    assert_eq!(bpf::attached(world.cgroup()), 2);

    let output = world.agent.cli(&["detach"]).expect_ok("detach");
    let pins = world.agent.pins_dir().display().to_string();
    assert_has(&output.stdout, &["was removed", &pins, "no longer limited or counted"]);
    assert!(!output.stdout.contains("still runs"), "{output:?}");
    assert!(!world.agent.pins_dir().exists());
    assert_eq!(bpf::attached(world.cgroup()), 0);
    assert_eq!(world.dial().uid(uid::DENIED).run().ok(), 1, "nothing is refused any more");

    let again = world.agent.cli(&["detach"]).expect_ok("detach once more");
    assert_has(&again.stdout, &["no gate is pinned", "nothing to remove"]);
    world.agent.start();
    assert_eq!(world.counted_in_all(), 0, "the counts are gone");
}

#[test]
fn detach_answers_as_json_with_what_it_removed() {
    let mut agent = Agent::builder().start();
    assert_eq!(agent.stop(), 0);
    let pinned = names_in(agent.pins_dir()).len();
    let said = json(&agent.cli(&["detach", "--json"]).expect_ok("detach"));
    assert_eq!((&said["removed"], &said["left"]), (&pinned.into(), &serde_json::json!([])), "{said}");
    assert_eq!(said["agent_running"], false);
    let again = json(&agent.cli(&["detach", "--json"]).expect_ok("detach"));
    assert_eq!(again["removed"], 0, "{again}");
}

#[test]
fn what_somebody_else_pinned_beside_ours_is_left_and_named() {
    let mut agent = Agent::builder().start();
    assert_eq!(agent.stop(), 0);
    let foreign = agent.pins_dir().join("foreign_map");
    let ours = MapData::from_pin(agent.pins_dir().join("LOSSES")).must("cannot open a map");
    let ours = Map::Array(ours);
    ours.pin(&foreign).must("cannot pin a map");
    fs::create_dir(agent.pins_dir().join("foreign_dir")).must("bpffs has directories");

    for _ in 0..2 {
        let output = agent.cli(&["detach"]).expect_ok("detach");
        assert_has(&output.stdout, &["left alone", "foreign_map", "foreign_dir"]);
        assert_eq!(names_in(agent.pins_dir()), ["foreign_dir", "foreign_map"]);
    }
    assert!(MapData::from_pin(&foreign).is_ok(), "the map is still whole");
    assert_eq!(bpf::attached(agent.cgroup()), 0);
    agent.start();
    assert!(foreign.exists(), "a new agent leaves it too");
}

#[test]
fn a_program_of_somebody_else_in_the_same_cgroup_works_before_with_and_after_ours() {
    const REFUSED: u16 = 2599;
    let mut world = World::stopped("");
    bpf::attach_foreign_program(world.cgroup(), REFUSED, bpf::Others::Tolerated);
    let to = world.veth.far.v4.into();
    let theirs_works = |world: &World| world.dial_to(to, REFUSED).uid(uid::SENDER).run().eperm() == 1;
    assert!(theirs_works(&world));
    world.agent.start();
    assert_eq!(bpf::attached(world.cgroup()), 3);
    assert!(theirs_works(&world));
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
    assert_eq!(world.agent.stop(), 0);
    world.agent.cli(&["detach"]).expect_ok("detach");
    assert_eq!(bpf::attached(world.cgroup()), 1);
    assert!(theirs_works(&world));
    assert_eq!(world.dial().uid(uid::DENIED).run().ok(), 1);
}

#[test]
fn an_agent_whose_gate_is_detached_says_so_and_another_start_mends_it() {
    let mut world = World::with("");
    let output = world.agent.cli(&["detach"]).expect_ok("detach");
    assert_has(&output.stdout, &["an agent still runs"]);
    smtp_tests::eventually(crate::scene::SOON, "it is not ready", || {
        world.agent.get("/-/ready").is_ok_and(|(status, body)| status == 503 && body.contains("not attached"))
    });
    let hook = |hook| world.agent.metrics().find("smtp_agent_gate_attached", &[("hook", hook)]);
    assert_eq!((hook("connect4"), hook("connect6")), (Some(0.0), Some(0.0)));
    assert_eq!(world.agent.get("/-/healthy").must("it answers").0, 200, "the process itself is well");
    assert_logged(&world.agent, &["the gate was detached"]);
    assert_eq!(world.agent.stop(), 0);
    world.agent.start();
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
}

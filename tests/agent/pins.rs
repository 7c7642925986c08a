//! Pins that are not as the agent left them, and two agents that want the same ones.

use crate::{
    bpf,
    scene::{assert_has, failed_start, json, names_in},
};
use aya::maps::{Array, Map, MapData};
use smtp_common::names::{LAYOUT_VERSION, MAGIC, Meta, program};
use smtp_tests::{Agent, Dial, Must, World, uid};
use std::{fs, net::SocketAddr, path::Path};

/// Signs pins as another version of the agent would have.
#[track_caller]
fn sign(dir: &Path, meta: Meta) {
    let map = MapData::from_pin(dir.join("META")).must("cannot open META");
    let mut map: Array<MapData, Meta> = Map::Array(map).try_into().must("META is an array");
    map.set(0, meta, 0).must("cannot write META");
}

#[test]
fn pins_of_another_layout_are_refused_and_left_as_they_were() {
    let mut world = World::with("");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
    assert_eq!(world.agent.stop(), 0);
    sign(world.agent.pins_dir(), Meta { magic: MAGIC, layout: 99 });
    let before = names_in(world.agent.pins_dir());

    let output = failed_start(&world.agent, |_| {});
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["layout 99", &format!("layout {LAYOUT_VERSION}"), "still guard", "detach"]);
    let status = world.agent.cli(&["status"]);
    assert_eq!(status.code, 69, "{status:?}");
    assert_has(&status.stderr, &["layout 99"]);

    assert_eq!(names_in(world.agent.pins_dir()), before);
    assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1, "the gate still stands");
    sign(world.agent.pins_dir(), Meta { magic: MAGIC, layout: LAYOUT_VERSION });
    world.agent.start();
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 1, "nothing was lost");
    assert_eq!(world.counted_uid(uid::DENIED, "refused"), 1);
}

#[test]
fn pins_of_a_start_that_was_cut_off_before_it_attached_are_made_anew() {
    let mut world = World::with("");
    assert_eq!(world.agent.stop(), 0);
    for meta in [None, Some(Meta { magic: 0, layout: 0 })] {
        for program in program::ALL {
            // Executions are counted only where the configuration names programs.
            let _ = fs::remove_file(world.agent.pins_dir().join(format!("link_{program}")));
        }
        match meta {
            Some(meta) => sign(world.agent.pins_dir(), meta),
            None => fs::remove_file(world.agent.pins_dir().join("META")).must("cannot unpin"),
        }
        // Only a start may write, so a command says what it sees and what to do.
        let status = world.agent.cli(&["status"]);
        assert_eq!(status.code, 69, "{status:?}");
        assert_has(&status.stderr, &["no layout", "smtp-agent detach"]);
        world.agent.cli(&["explain", "--user", "root"]).expect_ok("the configuration can still be explained");
        world.agent.start();
        assert_eq!(bpf::attached(world.cgroup()), 2);
        assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1);
        assert_eq!(world.counted_in_all(), 1);
        assert_eq!(world.agent.stop(), 0);
    }
}

#[test]
fn links_beside_maps_that_nobody_or_somebody_else_signed_are_refused_with_advice_that_works() {
    let mut world = World::with("");
    assert_eq!(world.agent.stop(), 0);
    for meta in [
        Some(Meta { magic: 0, layout: 0 }),
        Some(Meta { magic: MAGIC, layout: 0 }),
        Some(Meta { magic: 7, layout: LAYOUT_VERSION }),
        None,
    ] {
        match meta {
            Some(meta) => sign(world.agent.pins_dir(), meta),
            None => fs::remove_file(world.agent.pins_dir().join("META")).must("cannot unpin"),
        }
        let before = names_in(world.agent.pins_dir());
        let output = failed_start(&world.agent, |_| {});
        assert_eq!(output.code, 69, "{meta:?}: {output:?}");
        let dir = world.agent.pins_dir().display().to_string();
        assert_has(&output.stderr, &["no layout", "left as they are", "smtp-agent detach", &dir]);
        assert_eq!(names_in(world.agent.pins_dir()), before);
        assert_eq!(world.dial().uid(uid::DENIED).run().eperm(), 1, "the gate still stands");
    }
    world.agent.cli(&["detach"]).expect_ok("detach");
    world.agent.start();
    assert_eq!(bpf::attached(world.cgroup()), 2);
}

#[test]
fn a_second_agent_with_the_same_pins_is_refused_and_the_first_does_not_notice() {
    let mut world = World::with("");
    let first = world.agent.pid();
    let generation = world.agent.metrics().value("smtp_agent_policy_generation", &[]);
    let pins = world.agent.pins_dir().display().to_string();
    let cgroup = world.cgroup().path().display().to_string();
    let second = Agent::builder().config(|c| c.set("paths.pins", pins.clone()).set("kernel.cgroup", cgroup)).stopped();
    let output = failed_start(&second, |_| {});
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["another smtp-agent", &pins, "[paths] pins"]);

    assert_eq!(world.agent.pid(), first);
    assert_eq!(world.agent.metrics().value("smtp_agent_policy_generation", &[]), generation);
    assert_eq!(bpf::attached(world.cgroup()), 2);
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 1);
}

#[test]
fn a_second_agent_with_the_same_run_directory_is_refused_and_the_first_keeps_its_socket() {
    let agent = Agent::builder().start();
    let run = agent.run_dir().display().to_string();
    let second = Agent::builder().config(|c| c.set("paths.run", run.clone())).stopped();
    let output = failed_start(&second, |_| {});
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["another smtp-agent", &run, "[paths] run"]);
    assert!(!second.pins_dir().exists());
    agent.cli(&["reload"]).expect_ok("reload through the first agent's socket");
}

#[test]
fn a_pinned_gate_moves_to_another_cgroup_with_its_counts() {
    let mut world = World::with("");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
    assert_eq!(world.agent.stop(), 0);
    let inner = world.cgroup().child("inner");
    world.agent.rewrite_config(&format!("[kernel]\ncgroup = '{}'\n", inner.path().display()));
    world.agent.start();
    assert_eq!((bpf::attached(world.cgroup()), bpf::attached(&inner)), (0, 2));
    assert_eq!(world.dial().uid(uid::DENIED).run().ok(), 1, "outside, nobody is refused any more");
    let far = SocketAddr::new(world.veth.far.v4.into(), 25);
    let inside = Dial::to(far).cgroup(&inner).uid(uid::SENDER).run();
    assert_eq!((inside.ok(), world.counted_uid(uid::SENDER, "allowed")), (1, 2));
}

#[test]
fn status_tells_a_gate_without_an_agent_from_one_with() {
    let mut world = World::with("[plan.standard]\nper_hour = 5\n");
    let running = json(&world.agent.cli(&["status", "--json"]).expect_ok("status"));
    assert_eq!(running["agent_running"], true);
    world.agent.kill9();
    assert_eq!(world.dial().uid(uid::SENDER).count(3).run().ok(), 3);
    let output = world.agent.cli(&["status", "--json"]).expect_ok("status");
    let dead = json(&output);
    assert_eq!((&dead["agent_running"], &dead["attached"]["connect4"]), (&false.into(), &true.into()), "{dead}");
    let account = &dead["accounts"][0];
    assert_eq!(
        (&account["account"], &account["hour"]["used"], &account["hour"]["limit"], &account["remote"]["allowed"]),
        (&"61001".into(), &3.into(), &5.into(), &3.into()),
        "{dead}"
    );
    assert_eq!(dead["host"]["day"]["used"], 3, "{dead}");
    let text = world.agent.cli(&["status"]).expect_ok("status").stdout;
    assert_has(&text, &["gate     in force", "not running", "3/5"]);
}

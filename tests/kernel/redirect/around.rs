//! Redirects go on without an agent, change hands, come and go with a reload.

use super::{LOOPBACK4, Scene, sources};
use smtp_tests::{Must, World, uid};
use std::net::{IpAddr, SocketAddr};

/// Whether these programs are attached, as far as they are wanted.
#[track_caller]
fn attached(world: &World) -> Vec<(String, bool)> {
    let metrics = world.metrics();
    let hooks = metrics.series("smtp_agent_gate_attached");
    let peers = hooks.iter().filter(|series| series.label("hook").starts_with("peer"));
    let told: Vec<_> = peers.map(|series| (series.label("hook").to_owned(), series.value == 1.0)).collect();
    let status = world.agent.cli(&["status", "--json"]).expect_ok("status").stdout;
    let status: serde_json::Value = serde_json::from_str(&status).must("status is JSON");
    let shown = status["attached"].to_string();
    for (hook, _) in &told {
        assert!(shown.contains(hook.as_str()), "status does not show {hook}: {shown}");
    }
    assert_eq!(shown.contains("peer"), !told.is_empty(), "{shown}");
    told
}

#[track_caller]
fn from_home(scene: &Scene, user: u32, count: u64) {
    let told = scene.dial(user, scene.far4()).count(count).run_told();
    assert_eq!(sources(&told, scene.far4()), vec![LOOPBACK4; count as usize], "{told:?}");
}

#[test]
fn a_dead_agent_is_no_end_to_redirects_and_its_successor_takes_over() {
    let mut scene = Scene::of("[plan.over]\nsoft_percent = 1000");
    assert_eq!(attached(&scene.world), [("peer4".into(), true), ("peer6".into(), true)]);
    scene.spend(uid::SENDER);
    from_home(&scene, uid::SENDER, 2);
    scene.world.agent.kill9();
    from_home(&scene, uid::SENDER, 2);
    // Whether somebody listens is asked of the kernel, each time.
    scene.v4 = None;
    let told = scene.dial(uid::SENDER, scene.far4()).run();
    assert_eq!(told.econnrefused(), 1, "{told:?}");
    scene.v4 = Some(scene.home.sink4().start());
    from_home(&scene, uid::SENDER, 2);
    scene.world.agent.start();
    from_home(&scene, uid::SENDER, 2);
    assert_eq!(scene.counted(uid::SENDER), [2, 8, 1, 0]);
    assert_eq!(attached(&scene.world), [("peer4".into(), true), ("peer6".into(), true)]);
}

#[test]
fn redirects_begin_and_end_with_a_reload() {
    let deferring = "[plan.over]\non_soft = \"defer\"";
    let scene = Scene::of("");
    let (held, tally) = scene.dial(uid::OTHER, scene.far4()).count(3).hold();
    assert_eq!((tally.ok(), scene.at_home()), (3, (1, 0)));
    scene.world.reload(deferring);
    assert_eq!(attached(&scene.world), [], "nobody is redirected, so nobody need be told");
    scene.spend(uid::SENDER);
    assert_eq!(scene.dial(uid::SENDER, scene.far4()).run().econnrefused(), 1);
    scene.world.reload("");
    assert_eq!(attached(&scene.world).len(), 2);
    from_home(&scene, uid::SENDER, 2);
    assert_eq!(scene.counted(uid::SENDER), [2, 2, 1, 0], "one band for both");
    held.release();
    // A socket that is connected while nothing redirects tells the truth when something does again.
    let mut waiting = scene.dial(uid::OTHER, scene.far4()).then(SocketAddr::new(LOOPBACK4, 25)).count(1);
    waiting = waiting.way(smtp_tests::Way::SocketBefore);
    let told = waiting.run_told();
    let then = told[0].then.as_ref().must("a second attempt");
    assert_eq!((told[0].peer, then.peer), (Some(scene.far4()), Some(SocketAddr::new(LOOPBACK4, 25))), "{told:?}");
}

#[test]
fn an_address_of_the_host_is_no_remote_one_and_is_not_redirected() {
    let scene = Scene::of("");
    scene.spend(uid::SENDER);
    let near: IpAddr = scene.world.veth.near.v4.into();
    let told = scene.dial(uid::SENDER, SocketAddr::new(near, 25)).count(2).run();
    assert_eq!(told.econnrefused(), 2, "nobody listens there, and that is how it stays: {told:?}");
    assert_eq!((scene.counted(uid::SENDER), scene.at_home()), ([2, 0, 0, 0], (0, 0)));
}

//! What a redirected connection is counted and charged as: a submission to the local MTA.

use super::{Scene, THIRD};
use smtp_tests::{Listener, Mailer, Must, Netns, mailer::How, uid};
use std::net::SocketAddr;

fn mailer(scene: &Scene, user: u32, to: SocketAddr) -> Mailer {
    Mailer::to(to).cgroup(scene.world.cgroup()).uid(user)
}

#[test]
fn messages_of_a_redirected_session_are_the_local_mtas_and_not_charged() {
    let plan = "[plan.over]\nmessages_per_hour = 4\nrecipients_per_hour = 8";
    let host = "[host]\nper_hour = 100\nmessages_per_hour = 100\nrecipients_per_hour = 100";
    let mut scene = Scene::deserted(&format!("{plan}\n{host}"));
    scene.v4 = Some(scene.home.sink4().chunking().start());
    let listener = Listener::start(&scene.world);
    let before = scene.world.metrics();
    // Two connections of one message and two recipients each, then three of three messages.
    assert_eq!(mailer(&scene, uid::SENDER, scene.far4()).messages(2).recipients(2).each(1).run().cuts(), 0);
    let more = mailer(&scene, uid::SENDER, scene.far4()).messages(9).recipients(3).each(3).how(How::Mixed).run();
    assert_eq!((more.seen.messages.accepted, more.cuts()), (9, 0), "{more:?}");
    let home = scene.v4.as_ref().must("a sink").settled_tally();
    assert_eq!(home, more.seen, "the local MTA has taken them all");
    scene.world.agent.tally_after(uid::SENDER, 5);
    let metrics = scene.world.metrics();
    let on = |name, route| metrics.value(name, &[("user", "61001"), ("route", route)]);
    let established = |route| {
        let labels = [("user", "61001"), ("route", route), ("outcome", "established")];
        metrics.value("smtp_sessions_total", &labels)
    };
    assert_eq!((established("remote"), established("local")), (2.0, 3.0));
    assert_eq!(on("smtp_messages_total", "remote"), 2.0);
    assert_eq!((on("smtp_messages_total", "local"), on("smtp_recipients_total", "local")), (9.0, 27.0));
    for (unit, used) in [("connection", 2.0), ("message", 2.0), ("recipient", 4.0)] {
        let usage =
            |name, user: &[(&str, &str)]| metrics.value(name, &[user, &[("unit", unit), ("window", "hour")]].concat());
        assert_eq!(usage("smtp_usage", &[("user", "61001")]), used, "{unit}");
        let host = before.value("smtp_host_usage", &[("unit", unit), ("window", "hour")]);
        assert_eq!(usage("smtp_host_usage", &[]) - host, used, "{unit}: the host is charged when the MTA sends");
    }
    let stories = listener.wait_for("session", 5);
    let redirected: Vec<_> = stories.iter().filter(|story| story["redirected"] == true).collect();
    assert_eq!(redirected.len(), 3, "{stories:?}");
    for story in redirected {
        assert_eq!(story["destination"], scene.far4().ip().to_string(), "whom the client asked for: {story}");
        assert_eq!((&story["route"], &story["messages"]["accepted"]), (&"local".into(), &3.into()), "{story}");
    }
}

/// The agent must find the connection that it is to end, whose other end is not the one that was asked for.
#[test]
fn where_local_submissions_are_limited_a_redirected_session_is_ended_at_its_limit() {
    let mut scene = Scene::deserted("[plan.over]\nmessages_per_hour = 2\nlocal = true");
    scene.v4 = Some(scene.home.sink4().start());
    scene.v6 = Some(scene.home.sink6().start());
    let listener = Listener::start(&scene.world);
    let mapped = SocketAddr::new(scene.world.veth.far.v4.to_ipv6_mapped().into(), 25);
    for (user, to) in [(uid::SENDER, scene.far4()), (uid::OTHER, scene.far6()), (THIRD, mapped)] {
        scene.spend(user);
        let mut talk = mailer(&scene, user, to).talk();
        talk.greet();
        for _ in 0..2 {
            assert_eq!(talk.message().codes, [250, 250, 354, 250], "{to}");
        }
        assert_eq!(talk.message().end.as_deref(), Some("ECONNABORTED"), "{to}");
    }
    let stops = listener.wait_for("stop", 3);
    assert!(stops.iter().all(|stop| stop["connection_ended"] == true && stop["redirected"] == true), "{stops:?}");
    let taken = [&scene.v4, &scene.v6].map(|sink| sink.as_ref().map_or(0, |sink| sink.messages().len()));
    assert_eq!(taken, [4, 2]);
}

/// A window of its own for what is redirected: it neither uses up the limit nor is it let off by it.
#[test]
fn local_connections_and_redirected_ones_do_not_use_up_each_other() {
    let scene = Scene::of("");
    scene.spend(uid::SENDER);
    let home = scene.dial(uid::SENDER, smtp_tests::Home::V4).count(10).run();
    assert_eq!(home.ok(), 10, "who asks for the local MTA gets it");
    assert_eq!(scene.dial(uid::SENDER, scene.far4()).count(5).run().ok(), 3);
    assert_eq!(scene.counted(uid::SENDER), [2, 3, 0, 2]);
    assert_eq!(scene.at_home(), (13, 0));
    // Who may not reach the local MTA is not led there.
    let denied = scene.dial(uid::DENIED, scene.far4()).count(5).run();
    assert_eq!((denied.eperm(), scene.at_home()), (5, (13, 0)));
    // Nor is anybody from where the local MTA is another's.
    let there = Netns::new();
    let lost = smtp_tests::Dial::to(scene.far4()).cgroup(scene.world.cgroup()).netns(&there).count(1).run();
    assert_eq!(lost.ok(), 0, "{lost:?}");
}

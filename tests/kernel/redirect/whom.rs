//! Which connections are redirected, and which are put off instead.

use super::{LOOPBACK4, LOOPBACK6, Scene, sources};
use serde_json::Value;
use smtp_tests::{Dial, Listener, Netns, Sink, Tally, Veth, Way, dial::Told, process, uid};
use std::net::{Ipv4Addr, SocketAddr};

/// One attempt of a user who has spent what he may send elsewhere.
#[track_caller]
fn attempt(dial: Dial) -> Told {
    dial.run_told().remove(0)
}

/// The events about a user's attempts that were put off.
#[track_caller]
fn put_off(listener: &Listener, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    smtp_tests::eventually(std::time::Duration::from_secs(5), "the events come", || {
        found = listener.heard("connect");
        found.retain(|story| story["verdict"] == "deferred");
        found.len() >= count
    });
    found
}

#[track_caller]
fn assert_put_off(told: &Told) {
    assert_eq!((told.result.as_str(), told.peer), ("ECONNREFUSED", None), "{told:?}");
}

#[test]
fn every_way_to_connect_is_redirected() {
    let scene = Scene::of("[plan.over]\nsoft_percent = 1000");
    // Each way once for each family it reaches; a user's band has room for eighteen.
    for (user, to, home) in [(uid::SENDER, scene.far4(), LOOPBACK4), (uid::OTHER, scene.far6(), LOOPBACK6)] {
        scene.spend(user);
        for way in Way::TCP.into_iter().filter(|way| ![Way::Mapped, Way::Mptcp].contains(way)) {
            let told = attempt(scene.dial(user, to).way(way));
            assert_eq!(told.result, "ok", "{way} to {to}: {told:?}");
            assert_eq!(sources(std::slice::from_ref(&told), to), [home], "{way} to {to}");
        }
        assert_eq!(scene.counted(user), [2, 9, 0, 0]);
    }
    assert_eq!((scene.far_away(), scene.at_home()), (4, (9, 9)));
}

#[test]
fn ports_of_tls_are_put_off() {
    let scene = Scene::of("");
    let listener = Listener::start(&scene.world);
    scene.spend(uid::SENDER);
    for port in [465, 587] {
        let far = Sink::at(SocketAddr::new("::".parse().expect("an address"), port)).netns(&scene.world.ns).start();
        assert_put_off(&attempt(scene.dial(uid::SENDER, SocketAddr::new(scene.far4().ip(), port))));
        assert_eq!(far.connections_when_quiet(super::QUIET), 0);
    }
    assert_eq!(scene.counted(uid::SENDER), [2, 0, 2, 0]);
    assert_eq!(scene.at_home(), (0, 0));
    for story in put_off(&listener, 2) {
        assert_eq!((&story["not_redirected"], &story["reason"]), (&"port".into(), &"account_hour".into()), "{story}");
    }
}

#[test]
fn without_a_local_mta_connections_are_put_off_and_it_is_said_why() {
    let mut scene = Scene::deserted("");
    let listener = Listener::start(&scene.world);
    let path = scene.world.agent.run_dir().join("told");
    let _text = process::Running::start_logged(&mut scene.world.agent.command(&["events"]), &path);
    for user in [uid::SENDER, uid::OTHER] {
        scene.spend(user);
    }
    assert_put_off(&attempt(scene.dial(uid::SENDER, scene.far4())));
    assert_put_off(&attempt(scene.dial(uid::OTHER, scene.far6())));
    for story in put_off(&listener, 2) {
        assert_eq!(story["not_redirected"], "no_local_mta", "{story}");
    }
    let why = "(not redirected: nothing it can reach listens on port 25 of loopback)";
    smtp_tests::eventually(std::time::Duration::from_secs(5), "a person is told", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains(why))
    });
    // An MTA that listens on IPv4 alone takes what was going to an IPv6 address, too.
    scene.v4 = Some(scene.home.sink4().start());
    let told = attempt(scene.dial(uid::OTHER, scene.far6()));
    assert_eq!(sources(&[told], scene.far6()), [Ipv4Addr::LOCALHOST.to_ipv6_mapped()]);
    // But not from a socket that keeps away from IPv4.
    assert_put_off(&attempt(scene.dial(uid::OTHER, scene.far6()).v6only()));
    // One that listens on IPv6 alone cannot be reached from an IPv4 socket.
    (scene.v4, scene.v6) = (None, Some(scene.home.sink6().start()));
    assert_put_off(&attempt(scene.dial(uid::SENDER, scene.far4())));
    assert_eq!(put_off(&listener, 4).len(), 4);
    assert_eq!(scene.at_home(), (0, 0));
    assert_eq!((scene.counted(uid::SENDER), scene.counted(uid::OTHER)), ([2, 0, 2, 0], [2, 1, 2, 0]));
}

/// Port 25 of the loopback, and yet not the local MTA's.
#[test]
fn what_does_not_listen_on_the_hosts_loopback_is_no_local_mta() {
    let scene = Scene::deserted("");
    let near = SocketAddr::new(scene.world.veth.near.v4.into(), 25);
    let elsewhere = Netns::new();
    let others = [Sink::at(near).start(), Sink::at(([127, 0, 0, 1], 25)).netns(&elsewhere).start()];
    scene.spend(uid::SENDER);
    assert_put_off(&attempt(scene.dial(uid::SENDER, scene.far4())));
    for sink in &others {
        assert_eq!(sink.connections_when_quiet(super::QUIET), 0, "{}", sink.address());
    }
    assert_eq!(scene.counted(uid::SENDER), [2, 0, 1, 0]);
}

#[test]
fn a_socket_that_is_bound_or_of_mptcp_or_out_of_memory_is_put_off() {
    let scene = Scene::of("");
    let listener = Listener::start(&scene.world);
    let near = scene.world.veth.near;
    for user in [uid::SENDER, uid::OTHER, super::THIRD] {
        scene.spend(user);
    }
    let dials = [
        scene.dial(uid::SENDER, scene.far4()).device(scene.world.veth.name()),
        scene.dial(uid::SENDER, scene.far4()).source(near.v4.into()),
        scene.dial(uid::OTHER, scene.far6()).device(scene.world.veth.name()),
        scene.dial(uid::OTHER, scene.far6()).source(near.v6.into()),
        scene.dial(super::THIRD, scene.far4()).way(Way::Mapped).source(near.v4.to_ipv6_mapped().into()),
        scene.dial(super::THIRD, scene.far4()).way(Way::Mptcp),
        scene.dial(super::THIRD, scene.far4()).stuffed(),
    ];
    for dial in dials {
        assert_put_off(&attempt(dial));
    }
    assert_eq!(scene.at_home(), (0, 0));
    let stories = put_off(&listener, 7);
    assert!(stories.iter().all(|story| story["not_redirected"] == "socket"), "{stories:?}");
    // A port alone is no address.
    let any = attempt(scene.dial(uid::SENDER, scene.far4()).source(Ipv4Addr::UNSPECIFIED.into()));
    assert_eq!(sources(&[any], scene.far4()), [LOOPBACK4]);
}

#[test]
fn a_container_is_put_off_whoever_listens_in_it_or_on_the_host() {
    let scene = Scene::of("[containers]\nplan = \"over\"");
    let listener = Listener::start(&scene.world);
    let inner = Netns::new();
    let wire = Veth::between(&inner, &scene.world.ns);
    let inside = Sink::at(([127, 0, 0, 1], 25)).netns(&inner).start();
    let to = SocketAddr::new(wire.far.v4.into(), 25);
    let tally = Dial::to(to).cgroup(scene.world.cgroup()).netns(&inner).count(6).run();
    assert_eq!(tally, Tally::of(&[("ok", 2), ("ECONNREFUSED", 3), ("EPERM", 1)]));
    assert_eq!((scene.at_home(), inside.connections_when_quiet(super::QUIET)), ((0, 0), 0));
    let stories = put_off(&listener, 3);
    assert!(stories.iter().all(|story| story["not_redirected"] == "container"), "{stories:?}");
}

#[test]
fn a_socket_that_is_connected_again_tells_the_truth() {
    let scene = Scene::of("[plan.over]\nsoft_percent = 1000");
    let beyond = SocketAddr::new(scene.world.veth.far.v4.into(), 2525);
    let _other = Sink::at(beyond).netns(&scene.world.ns).start();
    for user in [uid::SENDER, uid::OTHER] {
        scene.spend(user);
    }
    for (user, to, home, next) in [
        (uid::SENDER, scene.far4(), LOOPBACK4, beyond),
        (uid::OTHER, scene.far6(), LOOPBACK6, SocketAddr::new(scene.world.veth.far.v4.to_ipv6_mapped().into(), 2525)),
    ] {
        // To the MTA itself, to a port that is not looked at, and over the limit once more.
        for next in [SocketAddr::new(home, 25), next, to] {
            let told = attempt(scene.dial(user, to).then(next));
            let then = told.then.as_ref().map(|then| (then.result.as_str(), then.peer));
            assert_eq!((told.peer, then), (Some(to), Some(("ok", Some(next)))), "{told:?}");
        }
    }
    assert_eq!(scene.at_home(), (5, 5), "three times redirected, once asked for, once redirected again");
}

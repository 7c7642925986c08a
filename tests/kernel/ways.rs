//! Every way to connect passes the gate, is counted once, and is stopped when it should be.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use smtp_tests::{Tally, Way, World, uid};

fn refused() -> Tally {
    Tally::of(&[("EPERM", 1)])
}

/// Tries every way to every address of the sink, as `user`, and has `check` look at each outcome and its number.
fn try_all(world: &World, user: u32, check: impl Fn(&str, Tally, u64)) -> u64 {
    let mut attempts = 0;
    for way in Way::TCP {
        for to in world.veth.far.both() {
            if way.reaches(&SocketAddr::new(to, 25)) {
                attempts += 1;
                check(&format!("{way} to {to}"), world.dial_to(to, 25).way(way).uid(user).run(), attempts);
            }
        }
    }
    assert!(attempts >= 18, "only {attempts} ways were tried");
    attempts
}

#[test]
fn no_way_to_connect_gets_a_denied_user_through() {
    let world = World::with("");
    try_all(&world, uid::DENIED, |what, got, attempts| {
        assert_eq!(got, refused(), "{what}");
        assert_eq!(world.counted_uid(uid::DENIED, "refused"), attempts, "{what} is counted once");
    });
    assert_eq!(world.sink.connections_when_quiet(Duration::from_millis(300)), 0, "the sink saw none");
}

#[test]
fn every_way_to_connect_is_counted_once_and_the_sink_agrees() {
    let world = World::with("");
    let attempts = try_all(&world, uid::SENDER, |what, got, attempts| {
        assert_eq!(got.ok(), 1, "{what}: {got:?}");
        assert_eq!(world.counted_uid(uid::SENDER, "allowed"), attempts, "{what} is counted once");
    });
    assert_eq!(world.sink.connections_when_quiet(Duration::from_millis(300)), attempts);
    assert_eq!(world.counted_in_all(), attempts, "and under no other account, port, route or verdict");
}

#[test]
fn a_socket_opened_before_the_attach_is_caught() {
    let mut world = World::stopped("");
    let mut held = world.dial().way(Way::SocketBefore).uid(uid::DENIED).spawn();
    world.agent.start();
    held.go();
    assert_eq!(held.tally(), refused());
    assert_eq!(world.counted_uid(uid::DENIED, "refused"), 1);
}

#[test]
fn a_denied_user_is_denied_in_another_network_namespace_and_at_the_local_mta() {
    let world = World::with("");
    for to in ["198.18.0.1", "127.0.0.1", "::1"] {
        let to: IpAddr = to.parse().unwrap();
        let got = world.dial_to(to, 25).netns(&world.ns).uid(uid::DENIED).run();
        assert_eq!(got, refused(), "{to} from the namespace");
    }
    let local = world.dial_to("127.0.0.1".parse().unwrap(), 25).uid(uid::DENIED).run();
    assert_eq!(local, refused(), "the local MTA");
}

#[test]
fn what_is_not_smtp_passes_uncounted() {
    let world = World::with("[smtp]\nports = [25, 2525]");
    for (port, way) in [(24, Way::Plain), (26, Way::Plain), (8080, Way::Plain), (587, Way::Plain), (25, Way::Udp)] {
        let got = world.dial_to(world.veth.far.v4.into(), port).way(way).uid(uid::DENIED).run();
        assert_eq!(got.eperm(), 0, "port {port}, {way}: {got:?}");
    }
    assert_eq!(world.counted_in_all(), 0);
    let got = world.dial_to(world.veth.far.v4.into(), 2525).uid(uid::DENIED).run();
    assert_eq!(got, refused(), "a port of the configuration's own");
}

#[test]
fn the_hosts_own_addresses_are_local_and_kept_current() {
    let world = World::with("[plan.standard]\nper_hour = 0");
    let near: IpAddr = world.veth.near.v4.into();
    for to in [near, world.veth.near.v6.into(), "127.0.0.9".parse().unwrap(), "0.0.0.0".parse().unwrap()] {
        let got = world.dial_to(to, 25).uid(uid::SENDER).run();
        assert_eq!(got.eperm(), 0, "{to} is this host, where limits do not count: {got:?}");
    }
    assert_eq!(world.dial().uid(uid::SENDER).run(), refused(), "the far end is not this host");
    let local = world.agent.metrics().value("smtp_connections_total", &[("route", "local"), ("verdict", "allowed")]);
    assert_eq!(local, 4.0);

    // The far end's address becomes this host's, then leaves it again.
    let far = world.veth.far.v4;
    let local_now = |expected: bool, what: &str| {
        smtp_tests::eventually(Duration::from_secs(5), what, || {
            let got = world.dial().uid(uid::SENDER).timeout(Duration::from_millis(200)).run();
            (got.eperm() == 0) == expected
        });
    };
    ip(&["addr", "add", &format!("{far}/32"), "dev", world.veth.name()]);
    local_now(true, "the new address is local");
    ip(&["addr", "del", &format!("{far}/32"), "dev", world.veth.name()]);
    local_now(false, "the address is remote again");
}

fn ip(arguments: &[&str]) {
    let status = std::process::Command::new("ip").args(arguments).status().expect("ip runs");
    assert!(status.success(), "ip {arguments:?}");
}

#[test]
fn root_of_the_host_is_exempt_and_still_spends_the_hosts_budget() {
    let world = World::with("[allow]\nusers = [\"root\"]\n[host]\nper_hour = 1");
    let got = world.dial().count(5).run();
    assert_eq!(got.ok(), 5, "{got:?}");
    assert_eq!(world.counted("root", "exempt"), 5);
    let other = world.dial().uid(uid::SENDER).run();
    assert_eq!(other, refused(), "root has spent the host's budget");
}

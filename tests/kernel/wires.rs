//! Messages over sockets and wires that are not as everybody's.

use smtp_tests::{Hostile, Mailer, Netns, Veth, World, mailer::How, process, uid};
use std::{net::SocketAddr, process::Command, time::Duration};

/// Loses one packet of so many that the sink's namespace gets or sends.
#[track_caller]
fn lose(ns: &Netns, one_in: u32) {
    let chain =
        |hook| format!("chain {hook} {{ type filter hook {hook} priority 0; numgen random mod {one_in} 0 drop; }};");
    let rules = format!("table inet t {{ {} {} }}", chain("input"), chain("output"));
    let mut command = Command::new("nft");
    ns.enter(command.arg(&rules));
    process::output(&mut command, Duration::from_secs(5)).expect_ok("nft");
}

#[test]
fn packets_that_are_lost_are_counted_once_when_they_come() {
    let world = World::meeting("", |sink| Hostile::opponent(sink));
    lose(&world.ns, 40);
    // TCP itself waits long for what it has lost several times.
    let mailer = world.mailer(uid::SENDER).patience(Duration::from_secs(100));
    let report = mailer.threads(10).messages(20).recipients(3).pipeline().how(How::Mixed).run();
    assert_eq!((report.cuts(), report.unconnected.len()), (0, 0), "{report:?}");
    let sink = world.sink.settled_tally();
    assert_eq!(report.seen, sink);
    assert_eq!(world.agent.tally_after(uid::SENDER, sink.sessions), sink);
    let of = |name, more: &[(&str, &str)]| world.metrics().value(name, &[&[("user", "61001")], more].concat());
    assert!(of("smtp_session_retransmits_total", &[]) > 5.0);
    assert_eq!(of("smtp_session_bytes_total", &[("direction", "sent")]), report.sent as f64, "not what was sent twice");
    assert_eq!(of("smtp_session_bytes_total", &[("direction", "received")]), report.received as f64);
}

#[test]
fn a_limit_holds_over_a_wire_that_loses_packets() {
    let world = World::meeting("[plan.standard]\nmessages_per_hour = 30", |sink| sink.chunking());
    lose(&world.ns, 40);
    let mailer = world.mailer(uid::SENDER).patience(Duration::from_secs(100));
    let report = mailer.threads(6).messages(10).how(How::Mixed).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (30, 30), "{report:?}");
    assert_eq!(world.metrics().units("61001", "message", "allowed"), 30, "what was sent again is not charged again");
    assert_eq!(world.sink.tally().messages.accepted, 30);
}

#[test]
fn packets_of_a_few_bytes_are_read_like_any_others() {
    let world = World::meeting("", |sink| Hostile::opponent(sink));
    world.ns.ip(&format!("link set {} mtu 576", world.veth.name().replace('a', "b")));
    for seed in 700..703 {
        Hostile::new(world.sink_address()).seed(seed).uid(uid::SENDER).cgroup(world.cgroup()).run().tally();
        let sink = world.sink.settled_tally();
        assert_eq!(world.agent.tally_after(uid::SENDER, sink.sessions), sink, "seed {seed}");
    }
}

#[test]
fn ipv4_over_an_ipv6_socket_is_counted_limited_and_ended() {
    let world = World::with("[plan.standard]\nmessages_per_hour = 4");
    let mapped = SocketAddr::new(world.veth.far.v4.to_ipv6_mapped().into(), 25);
    let report = Mailer::to(mapped).cgroup(world.cgroup()).uid(uid::SENDER).messages(7).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (4, 3), "{report:?}");
    assert_eq!(report.cut, [("ECONNABORTED".to_string(), 3)].into());
    assert!(report.slowest_cut < 1000);
}

#[test]
fn messages_from_another_namespace_are_limited_and_ended_there() {
    let world = World::meeting(
        "[containers]\nplan = 'inner'\n[plan.inner]\nmessages_per_hour = 5\nrecipients_per_hour = 100",
        |sink| sink.chunking(),
    );
    let inner = Netns::new();
    let wire = Veth::between(&inner, &world.ns);
    let to = SocketAddr::new(wire.far.v4.into(), 25);
    let report = Mailer::to(to).cgroup(world.cgroup()).netns(&inner).messages(9).how(How::Mixed).run();
    assert_eq!((report.seen.messages.accepted, report.cuts()), (5, 4), "{report:?}");
    assert_eq!(report.cut, [("ECONNABORTED".to_string(), 4)].into(), "{report:?}");
    assert!(report.slowest_cut < 1000);
    assert_eq!(world.sink.settled_tally().messages.accepted, 5);
    let metrics = world.metrics();
    let counted = metrics.series("smtp_messages_total").into_iter().filter(|series| series.value > 0.0);
    let users: Vec<_> = counted.map(|series| series.label("user").to_string()).collect();
    assert!(users.len() == 1 && users[0].starts_with("container:"), "{users:?}");
}

/// The packets belong to another socket than the one that was connected.
#[test]
fn mptcp_is_counted_and_limited_like_tcp() {
    let world = World::meeting("", |sink| sink.chunking());
    let mailer = || world.mailer(uid::SENDER).mptcp();
    let report = mailer().messages(12).recipients(2).how(How::Mixed).run();
    let sink = world.sink.settled_tally();
    assert_eq!((report.seen, sink.messages.accepted), (sink, 12), "{report:?}");
    assert_eq!(world.agent.tally_after(uid::SENDER, sink.sessions), sink);
    for (limit, how) in [
        ("messages_per_hour = 4", How::Bdat),
        ("messages_per_day = 4", How::Data),
        ("recipients_per_hour = 4", How::Data),
    ] {
        let world = World::meeting(&format!("[plan.standard]\n{limit}"), |sink| sink.chunking());
        let report = world.mailer(uid::SENDER).mptcp().messages(7).how(how).run();
        assert_eq!((report.seen.messages.accepted, report.cuts()), (4, 3), "{limit}, {how}: {report:?}");
        assert_eq!(world.sink.settled_tally().messages.accepted, 4);
    }
}

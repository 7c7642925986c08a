//! What is counted of hostile conversations is what the sink has decided, and what the client meant, to the last one.

use smtp_tests::{Hostile, World, hands::at_once, sink::Tally, uid};
use std::net::SocketAddr;

/// Plays a seed to the world's sink, and holds our counts against those of the sink and of the client.
fn play(world: &World, user: u32, to: SocketAddr, seed: u64, lmtp: bool) {
    let client = Hostile::new(to).seed(seed).uid(user).cgroup(world.cgroup());
    let report = if lmtp { client.lmtp() } else { client }.run();
    report.tally();
    let sink = world.sink.settled_tally();
    let ours = world.agent.tally_after(user, sink.sessions);
    assert_eq!(ours, sink, "seed {seed}: {:#?}", report.played);
}

/// Plays every second seed of a range, each to the same world.
fn play_in(toml: &str, user: u32, seeds: impl Iterator<Item = u64>, v6: bool, lmtp: bool) -> Tally {
    let manners = |sink| Hostile::opponent(sink);
    let world = World::meeting(toml, |sink| if lmtp { manners(sink).lmtp() } else { manners(sink) });
    let ip = if v6 { world.veth.far.v6.into() } else { world.veth.far.v4.into() };
    seeds.for_each(|seed| play(&world, user, SocketAddr::new(ip, 25), seed, lmtp));
    let metrics = world.metrics();
    assert_eq!(metrics.unseen(&user.to_string(), "joined_late"), 0);
    assert_eq!(metrics.unseen(&user.to_string(), "no_memory"), 0);
    let lost = metrics.value("smtp_agent_events_lost_total", &[("cause", "session_ring_full")]);
    assert_eq!(lost, 0.0);
    world.sink.settled_tally()
}

/// Two worlds at once, each with half of the seeds.
fn in_two_worlds(toml: &str, user: u32, seeds: std::ops::Range<u64>, v6: bool, lmtp: bool) -> Tally {
    let halves = [0, 1].map(|n| seeds.clone().filter(move |seed| seed % 2 == n));
    at_once(halves.map(|seeds| || play_in(toml, user, seeds, v6, lmtp))).into_iter().sum()
}

#[track_caller]
fn assert_all_outcomes(sum: Tally) {
    let Tally { encrypted, messages, recipients, unknown, .. } = sum;
    for count in [messages.accepted, messages.deferred, messages.rejected, encrypted, unknown] {
        assert!(count >= 1, "{sum:?}");
    }
    for count in [recipients.accepted, recipients.deferred, recipients.rejected] {
        assert!(count >= 100, "{sum:?}");
    }
}

#[test]
fn messages_of_a_hostile_client_are_counted_as_the_sink_decided_over_ipv4() {
    assert_all_outcomes(in_two_worlds("", uid::SENDER, 0..30, false, false));
}

#[test]
fn messages_of_a_hostile_client_are_counted_as_the_sink_decided_over_ipv6() {
    assert_all_outcomes(in_two_worlds("", uid::SENDER, 100..110, true, false));
}

#[test]
fn messages_of_a_hostile_lmtp_client_are_counted_as_the_sink_decided() {
    let sum = in_two_worlds("", uid::SENDER, 200..210, false, true);
    assert!(sum.messages.accepted >= 2 && sum.messages.deferred >= 2 && sum.messages.rejected >= 2, "{sum:?}");
}

/// A brake that is never tripped looks at every outcome and changes nothing. (A limit of messages would: some of what a
/// hostile client says is evasive.)
#[test]
fn messages_of_a_hostile_client_pass_a_brake_that_is_wide_enough() {
    let plan = "max_failed_percent = 99\nmin_failed = 1000000";
    let sum = in_two_worlds(&format!("[plan.standard]\n{plan}"), uid::SENDER, 300..310, false, false);
    assert_all_outcomes(sum);
}

#[test]
fn messages_are_counted_alike_in_observe_mode() {
    let limits = "mode = 'observe'\n[plan.standard]\nmessages_per_hour = 1\nrecipients_per_hour = 1";
    assert_all_outcomes(in_two_worlds(limits, uid::SENDER, 400..406, false, false));
}

#[test]
fn messages_of_an_exempt_user_are_counted_alike() {
    let limits = "[plan.standard]\nmessages_per_hour = 1\n[host]\nmessages_per_hour = 1\nrecipients_per_hour = 1";
    assert_all_outcomes(in_two_worlds(limits, uid::EXEMPT, 500..506, false, false));
}

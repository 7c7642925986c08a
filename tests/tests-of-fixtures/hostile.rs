//! Three witnesses of the same conversations: the sink, and a hostile client twice.

use smtp_tests::{Cgroup, Hostile, Netns, Sink, Veth, sink::Tally};
use std::{panic::resume_unwind, thread};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn play(seed: u64) -> Tally {
    let lmtp = seed % 5 == 4;
    let sink = Hostile::opponent(Sink::at(LOOPBACK));
    let sink = if lmtp { sink.lmtp() } else { sink };
    // Now and then answers are cut, too.
    let sink = if seed.is_multiple_of(3) { sink.split(&[5, 1, 40, 2]) } else { sink }.start();
    let client = Hostile::new(sink.address()).seed(seed);
    let report = if lmtp { client.lmtp() } else { client }.run();
    assert_eq!(sink.settled_tally(), report.tally(), "seed {seed}: {:#?}", report.played);
    report.tally()
}

#[test]
fn the_sink_and_a_hostile_client_agree_on_fifty_seeds() {
    // Four at once: most of the time they wait for each other's bytes.
    let hands = |hand| (0..50).filter(move |seed| seed % 4 == hand).map(play).sum::<Tally>();
    let sum = thread::scope(|scope| {
        let others: Vec<_> = (1..4).map(|hand| scope.spawn(move || hands(hand))).collect();
        let own = hands(0);
        let others = others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        others.chain([own]).sum::<Tally>()
    });
    // Every kind of outcome was among them.
    let Tally { sessions, encrypted, messages, recipients, unknown } = sum;
    assert_eq!(sessions, 200);
    for count in [messages.accepted, messages.deferred, messages.rejected, encrypted, unknown] {
        assert!(count >= 10, "{sum:?}");
    }
    for count in [recipients.accepted, recipients.deferred, recipients.rejected] {
        assert!(count >= 1000, "{sum:?}");
    }
}

#[test]
fn a_hostile_client_is_who_it_shall_be_and_says_the_same_again() {
    let (ns, cgroup) = (Netns::new(), Cgroup::new("hostile"));
    let veth = Veth::between_host_and(&ns);
    let sink = Hostile::opponent(Sink::at((veth.near.v4, 0))).start();
    let run = || Hostile::new(sink.address()).seed(3).sessions(2).uid(5001).cgroup(&cgroup).netns(&ns).run();
    let (one, other) = (run(), run());
    assert_eq!((one.tally(), one.bytes), (other.tally(), other.bytes));
    assert_eq!(sink.settled_tally().sessions, 4);
    assert!(sink.connection_log().iter().all(|connection| connection.peer.ip() == veth.far.v4));
}

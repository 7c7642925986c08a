//! The mailer's book and the sink's are one.

use smtp_tests::{Mailer, Sink, mailer::How, sink::Outcomes};
use std::time::Duration;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

#[test]
fn the_sink_and_a_mailer_agree_however_it_sends() {
    for how in [How::Data, How::Bdat, How::Mixed] {
        let sink = Sink::at(LOOPBACK).chunking().obedient().start();
        let mailer = Mailer::to(sink.address()).how(how).threads(2).messages(9).recipients(3).each(4);
        let mut seen = [mailer.clone().run(), mailer.clone().pipeline().run()];
        assert_eq!(seen[0].seen.messages, Outcomes::of(18, 0, 0));
        for (sender, recipient) in [("+body550", ""), ("+mail451", ""), ("", "+rcpt450"), ("+chunk452", "")] {
            let mailer = mailer.clone().sender_tag(sender).recipient_tag(recipient);
            seen[0].seen += mailer.clone().run().seen;
            seen[1].seen += mailer.pipeline().run().seen;
        }
        let sum = seen.into_iter().map(|report| report.seen).sum();
        assert_eq!(sink.settled_tally(), sum, "{how}");
    }
}

#[test]
fn a_mailer_names_the_ends_it_meets() {
    let sink = Sink::at(LOOPBACK).answer(smtp_tests::sink::Stage::Data, "421 bye").start();
    let report = Mailer::to(sink.address()).messages(2).each(1).run();
    assert_eq!((report.seen.messages, report.cuts()), (Outcomes::of(0, 2, 0), 0), "{report:?}");
    let hangs = Sink::at(LOOPBACK).answer(smtp_tests::sink::Stage::Mail, smtp_tests::sink::Reply::never()).start();
    let report = Mailer::to(hangs.address()).patience(Duration::from_millis(200)).run();
    assert_eq!(report.cut, [("silence".to_string(), 1)].into());
    assert!((200..2000).contains(&report.slowest_cut), "{report:?}");
    let nobody = Mailer::to(([127, 0, 0, 1], 1)).run();
    assert_eq!(nobody.unconnected, [("ECONNREFUSED".to_string(), 1)].into());
}

#[test]
fn a_talk_is_led_step_by_step() {
    let sink = Sink::at(LOOPBACK).start();
    let mut talk = Mailer::to(sink.address()).uid(5001).talk();
    assert_eq!(talk.say("x", 0).end.as_deref(), Some("not connected"));
    talk.greet();
    assert_eq!(talk.message().codes, [250, 250, 354, 250]);
    assert_eq!(talk.say("NOOP\r\nRSET\r\nQUIT\r\n", 4).end.as_deref(), Some("EOF"));
    talk.greet();
    talk.close();
    assert_eq!(sink.settled_tally().sessions, 2);
}

//! How a hostile client ends a connection: with good manners, in the middle of everything, or by being thrown out.

use super::{
    bodies,
    scenes::{Scene, mail, some_recipients},
    script::{Act, To},
    speaker::Speaker,
};
use crate::tally::Outcome;

pub(super) fn play(s: &mut Speaker) {
    let ends: [Scene; 10] = [
        ("quits", quits),
        ("stops in a command", stops_in_a_command),
        ("stops in a body", stops_in_a_body),
        ("is never answered", is_never_answered),
        ("does not read the answer", does_not_read),
        ("stops in a last chunk", |s| stops_in_a_chunk(s, true)),
        ("stops in a chunk", |s| stops_in_a_chunk(s, false)),
        ("starts TLS", starts_tls),
        ("is thrown out", is_thrown_out),
        ("breaks off", |s| s.act(Act::Leave { reset: true })),
    ];
    let (name, play) = s.choose(&ends);
    s.scene(name);
    play(s);
}

/// A transaction that nothing will be sent of.
fn left_open(s: &mut Speaker) {
    if s.rng.bool() {
        mail(s, "", 250);
        let to = some_recipients(s);
        to.given_up().into_iter().for_each(|came| s.messages().add(came));
    }
}

fn quits(s: &mut Speaker) {
    left_open(s);
    s.command_alone("QUIT", "", To::Reset, 221);
    s.act(Act::HearTheEnd { bytes: b"" });
}

fn stops_in_a_command(s: &mut Speaker) {
    left_open(s);
    s.flush();
    let half = s.choose(&["MAIL FROM:<x@fa", "RCPT TO:<y@far.test>\r", "DA", "DATA\r", "RSET", "  \t"]);
    s.raw(half.as_bytes());
    s.act(Act::Leave { reset: false });
}

/// One recipient, and leave to send the text.
fn ready_for_data(s: &mut Speaker, tag: &str, each: &str) {
    mail(s, tag, 250);
    s.command("RCPT", &format!("TO:<y{each}@far.test>"), To::Rcpt, 250);
    s.script.intended.recipients.accepted += 1;
    s.command_alone("DATA", "", To::Data, 354);
}

fn stops_in_a_body(s: &mut Speaker) {
    ready_for_data(s, "", "");
    let body = bodies::body(s.rng);
    // Up to the CR after the dot, at the most.
    let part = s.rng.usize(..body.len());
    s.raw(&body[..part]);
    s.script.intended.unknown += 1;
    s.act(Act::Leave { reset: false });
}

fn is_never_answered(s: &mut Speaker) {
    ready_for_data(s, "+body000", "+each000");
    let body = bodies::body(s.rng);
    s.raw(&body);
    // Nobody hears this.
    s.raw(b"QUIT\r\nMAIL FROM:<x+mail550@far.test>\r\n");
    s.script.intended.unknown += 1;
    s.act(Act::Leave { reset: false });
}

fn does_not_read(s: &mut Speaker) {
    let code = s.choose(&[250, 451, 554]);
    ready_for_data(s, &format!("+body{code}"), &format!("+each{code}"));
    let body = bodies::body(s.rng);
    let to = if s.lmtp { To::LastOfEach } else { To::Message };
    s.say_and_leave(&body, to, code);
    s.messages().add(Outcome::of(code));
}

fn stops_in_a_chunk(s: &mut Speaker, last: bool) {
    if !s.chunking {
        return stops_in_a_body(s);
    }
    mail(s, "", 250);
    s.command_alone("RCPT", "TO:<y@far.test>", To::Rcpt, 250);
    s.script.intended.recipients.accepted += 1;
    s.raw(if last { b"BDAT 1000 LAST\r\n250 ok\r\n" } else { b"BDAT 1000\r\n250 ok\r\n.\r\n" });
    if last {
        s.expect(To::Sent, 0);
        s.script.intended.unknown += 1;
    }
    s.act(Act::Leave { reset: false });
}

fn starts_tls(s: &mut Speaker) {
    s.command_alone("STARTTLS", "", To::StartTls, 220);
    s.script.intended.encrypted += 1;
    if s.rng.bool() {
        // No TLS at all, which ends it.
        let bytes = b"MAIL FROM:<x@far.test>\r\nRCPT TO:<y@far.test>\r\nDATA\r\n.\r\nQUIT\r\n";
        return s.act(Act::HearTheEnd { bytes });
    }
    // The beginning of a ClientHello.
    s.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n.\r\n250 ok\r\n");
    s.act(Act::Leave { reset: false });
}

fn is_thrown_out(s: &mut Speaker) {
    s.messages().deferred += 1;
    match s.rng.u32(0..3) {
        0 => mail(s, "+mail421", 421),
        1 => {
            mail(s, "", 250);
            s.command("RCPT", "TO:<y+rcpt421@far.test>", To::Rcpt, 421);
            s.script.intended.recipients.deferred += 1;
        }
        _ if s.lmtp => {
            ready_for_data(s, "", "+each421");
            s.raw(b".\r\n");
            s.expect(To::LastOfEach, 421);
        }
        _ => {
            ready_for_data(s, "+body421", "");
            s.raw(b".\r\n");
            s.expect(To::Message, 421);
        }
    }
    s.act(Act::HearTheEnd { bytes: b"" });
}

//! The automaton and the conversation against a parser that was written apart from both.

use super::*;
use crate::{
    automaton::{CHUNK, Chunk, STRETCH, Stretch},
    reference::{self, Side, Tally, Transcript},
};
use proptest::prelude::*;
use std::{boxed::Box, format, string::String};

impl Dialogue {
    fn new() -> Box<Self> {
        // What fresh storage is: all zeros.
        Box::new(Self {
            shared: Shared {
                sent: Cell::new(0),
                odd_end: Cell::new(0),
                answered: Cell::new(0),
                answer: Cell::new(0),
                early_ends: Cell::new(0),
                chunking: Cell::new(0),
                encrypted: Cell::new(0),
                go_aheads: Cell::new(0),
                unclear: Cell::new(0),
                _pad: 0,
                kinds: [const { Cell::new(0) }; PENDING as usize],
            },
            client: Client::default(),
            server: Server::default(),
        })
    }
}

/// A conversation as the probe reads it, packet by packet.
struct Reader {
    dialogue: Box<Dialogue>,
    tally: Tally,
}

impl Reader {
    fn new() -> Self {
        Self { dialogue: Dialogue::new(), tally: Tally::default() }
    }

    fn packet(&mut self, side: &Side, bytes: &[u8]) {
        let Dialogue { shared, client, server } = &mut *self.dialogue;
        let mut rest = bytes;
        while !rest.is_empty() && !shared.is_encrypted() {
            let len = rest.len().min(CHUNK);
            let (chunk, len) = (Chunk::new(&rest[..len]), len as u32);
            let done = match side {
                Side::Client => match client.skip(rest.len() as u32) {
                    0 if glides_far(client, shared, rest) => STRETCH as u32,
                    0 => client.read(shared, &chunk, len),
                    skipped => skipped,
                },
                Side::Server => {
                    let (done, effect) = server.read(shared, &chunk, len);
                    if let Some(outcome) = effect.message {
                        self.tally.messages[outcome as usize] += 1;
                    }
                    if let Some(outcome) = effect.recipient {
                        self.tally.recipients[outcome as usize] += 1;
                    }
                    self.tally.go_aheads += effect.go_ahead as u64;
                    done
                }
            };
            assert!(done >= 1 && done as usize <= rest.len(), "{done} of {}", rest.len());
            rest = &rest[done as usize..];
        }
    }

    fn read(transcript: &Transcript) -> Self {
        let mut reader = Self::new();
        transcript.iter().for_each(|(side, bytes)| reader.packet(side, bytes));
        reader
    }

    fn end(mut self) -> Tally {
        let Dialogue { shared, client, server } = &mut *self.dialogue;
        if let Some(outcome) = server.end(shared) {
            self.tally.messages[outcome as usize] += 1;
        }
        // Between the reply to STARTTLS and the first byte of TLS, too.
        self.tally.encrypted = shared.is_encrypted() || server.awaits_tls();
        self.tally.bdat_starts = client.chunked as u64;
        self.tally.rcpt_commands = client.recipients as u64;
        self.tally.replies = server.replies as u64;
        self.tally
    }
}

/// Passes over a stretch of a body, as the probe does before it looks at a chunk.
fn glides_far(client: &mut Client, shared: &Shared, rest: &[u8]) -> bool {
    if rest.len() < STRETCH || !client.prepare(shared) || !client.may_glide_far() {
        return false;
    }
    let mut stretch: Stretch = [0; STRETCH / 8];
    rest[..STRETCH].iter().enumerate().for_each(|(i, &byte)| stretch[i / 8] |= (byte as u64) << (i % 8 * 8));
    if client.may_glide(&stretch) {
        client.glide([rest[STRETCH - 2], rest[STRETCH - 1]]);
        return true;
    }
    client.stay_near();
    false
}

/// Lines that are no end of a body, with or without a dot at their beginning.
const ODD_LINES: &[&[u8]] = &[b"..\r\n", b".x\r\n", b"\n", b".\n", b"\n.\r\nx\r\n", b"x\r.\r\r\n"];

/// Messages with bodies of many stretches, some with lines that begin with a dot, cut into large packets.
fn long_bodies() -> impl Strategy<Value = Transcript> {
    let line = prop_oneof![
        20 => (0usize..200).prop_map(|n| [&b"x".repeat(n)[..], b"\r\n"].concat()),
        1 => prop::sample::select(ODD_LINES).prop_map(<[u8]>::to_vec),
    ];
    let body = prop::collection::vec(line, 0..120).prop_map(|lines| lines.concat());
    (prop::collection::vec(body, 1..4), prop::collection::vec(1usize..3000, 1..20)).prop_map(|(bodies, sizes)| {
        let mut transcript: Transcript = std::vec![(Side::Server, b"220 x\r\n".to_vec())];
        let mut sizes = sizes.into_iter().cycle();
        for body in bodies {
            transcript.push((Side::Client, b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n".to_vec()));
            transcript.push((Side::Server, b"250 x\r\n250 x\r\n354 x\r\n".to_vec()));
            let text = [&body[..], b"\r\n.\r\n"].concat();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (head, tail) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
                transcript.push((Side::Client, head.to_vec()));
                rest = tail;
            }
            transcript.push((Side::Server, b"250 x\r\n".to_vec()));
        }
        transcript
    })
}

/// A transcript a person can read: a line for each turn, segments apart.
fn shown(transcript: &Transcript) -> String {
    let mut text = String::new();
    let mut last = None;
    for (side, bytes) in transcript {
        let turn = if last == Some(*side) { "|".into() } else { format!("\n{side:?} ") };
        text += &format!("{turn}{}", bytes.escape_ascii());
        last = Some(*side);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn what_is_counted_is_what_was_said((transcript, expected) in reference::conversation()) {
        prop_assert_eq!(&reference::parse(&transcript), &expected, "{}", shown(&transcript));
        let reader = Reader::read(&transcript);
        prop_assert!(!reader.dialogue.shared.is_unclear(), "taken for unclear\n{}", shown(&transcript));
        prop_assert_eq!(reader.end(), expected, "{}", shown(&transcript));
    }

    /// However far it came: what was said so far is counted, and nothing else.
    #[test]
    fn a_conversation_that_is_cut_off_counts_what_was_said(transcript in reference::cut_off()) {
        let expected = reference::parse(&transcript);
        let got = Reader::read(&transcript).end();
        prop_assert_eq!(got, expected, "{}", shown(&transcript));
    }

    #[test]
    fn long_bodies_end_where_they_end(transcript in long_bodies()) {
        let expected = reference::parse(&transcript);
        prop_assert_eq!(Reader::read(&transcript).end(), expected, "{}", shown(&transcript));
    }

    #[test]
    fn nothing_makes_it_stop_or_panic(transcript in reference::noise()) {
        let _ = Reader::read(&transcript).end();
    }
}

/// A conversation as lines that begin with the side that says them.
fn said(lines: &[(&Side, &str)]) -> Reader {
    let mut reader = Reader::new();
    lines.iter().for_each(|(side, text)| reader.packet(side, text.as_bytes()));
    reader
}

const C: &Side = &Side::Client;
const S: &Side = &Side::Server;

#[test]
fn a_body_that_ends_early_by_the_servers_reckoning_has_ended() {
    let reader = said(&[
        (S, "220 x\r\n"),
        (C, "MAIL FROM:<a>\nRCPT TO:<b>\nDATA\n"),
        (S, "250 x\r\n250 x\r\n354 x\r\n"),
        (C, "Subject: x\n\nhello\n.\n"),
        (S, "250 taken\r\n"),
        (C, "MAIL FROM:<a>\nRCPT TO:<c>\nRCPT TO:<d>\nDATA\n"),
        (S, "250 x\r\n250 x\r\n550 x\r\n354 x\r\n"),
        (C, "hello\n.\n"),
        (S, "451 later\r\n"),
        (C, "QUIT\n"),
        (S, "221 x\r\n"),
    ]);
    assert!(!reader.dialogue.shared.is_unclear());
    let tally = reader.end();
    assert_eq!((tally.messages, tally.recipients, tally.go_aheads), ([1, 1, 0, 0], [2, 0, 1], 2));
}

#[test]
fn what_a_client_does_to_be_misread_is_marked() {
    let greeting = (S, "220 x\r\n");
    let chunking = [(C, "EHLO x\r\n"), (S, "250 CHUNKING\r\n")];
    let data = [(C, "MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n"), (S, "250 x\r\n250 x\r\n354 x\r\n")];
    for (marks, rest) in [
        (0, [chunking[0], chunking[1], (C, "BDAT 3\r\nabcBDAT 0 LAST\r\n")]),
        (mark::UNOFFERED, [greeting, greeting, (C, "BDAT 3\r\nabc")]),
        (mark::UNOFFERED, [greeting, greeting, (C, "BURL imap://x LAST\r\n")]),
        (mark::HASTY, [greeting, greeting, (C, "DATA\r\nhello\r\n")]),
        (mark::HASTY, [greeting, greeting, (C, "AUTH LOGIN\r\nMAIL FROM:<a>\r\n")]),
        (mark::SMUGGLED, [data[0], data[1], (C, "x\n.\nmail from:<a>\r\n")]),
        (0, [data[0], data[1], (C, "x\n.\nRemail from\r\n")]),
        (0, [data[0], data[1], (C, "x\r\n.mail from\r\n")]),
    ] {
        let lines: std::vec::Vec<_> = [greeting].into_iter().chain(rest).collect();
        assert_eq!(said(&lines).dialogue.client.marks, marks, "{lines:?}");
    }
    let mut many = said(&[greeting]);
    (0..9).for_each(|_| many.packet(C, "NOOP\r\n".repeat(100).as_bytes()));
    assert_eq!(many.dialogue.client.marks, 0, "900 commands ahead");
    many.packet(C, "NOOP\r\n".repeat(100).as_bytes());
    assert_eq!(many.dialogue.client.marks, mark::FLOODED);
}

#[test]
fn a_conversation_met_in_the_middle_is_understood_from_its_next_go_ahead_on() {
    let mut reader = Reader::new();
    reader.dialogue.join_late();
    for (side, text) in [
        (C, "RCPT TO:<b>\r\nDATA\r\n"),
        (S, "250 x\r\n354 x\r\n"),
        (C, "RCPT TO:<no>\r\n.\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n"),
        (S, "250 taken\r\n250 x\r\n450 x\r\n451 x\r\n"),
        (C, "QUIT\r\n"),
        (S, "221 x\r\n"),
    ] {
        reader.packet(side, text.as_bytes());
    }
    let tally = reader.end();
    assert_eq!((tally.messages, tally.recipients), ([1, 1, 0, 0], [0, 1, 0]));
}

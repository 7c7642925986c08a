//! The automaton and the conversation against a parser that was written apart from both.

use super::*;
use crate::{
    automaton::{CHUNK, Chunk},
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
    fn nothing_makes_it_stop_or_panic(transcript in reference::noise()) {
        let _ = Reader::read(&transcript).end();
    }
}

//! What is said: a word on another port, much on another port, a reply, a message.

use super::talk::Talk;

/// What a message's body is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Body {
    /// Lines as mail has them, after DATA.
    Lines,
    /// Lines of ten octets, each beginning with a dot, after DATA: nothing takes longer to read.
    Dots,
    /// The lines of the first, as one chunk (RFC 3030).
    Chunk,
}

impl Body {
    pub(crate) const ALL: [Self; 3] = [Self::Lines, Self::Dots, Self::Chunk];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lines => "DATA",
            Self::Dots => "DATA, only dot lines",
            Self::Chunk => "BDAT",
        }
    }

    fn line(self) -> &'static [u8] {
        match self {
            Self::Lines | Self::Chunk => b"Sixty-four characters to a line, as mail has them more often now\r\n",
            // What began with a dot has one more on the wire (RFC 5321, 4.5.2).
            Self::Dots => b"..4567 9\r\n",
        }
    }

    fn of_size(self, size: usize) -> Vec<u8> {
        let line = self.line();
        line.repeat(size / line.len())
    }
}

/// Sizes of messages, in octets.
pub(crate) const SIZES: [usize; 3] = [1 << 10, 50 << 10, 1 << 20];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Case {
    /// A small packet each way on a port that is not counted.
    Packets,
    /// A mebibyte on such a port.
    Bulk,
    /// A connection to such a port, made and ended.
    Connection,
    /// A session without a message: greeting, EHLO, QUIT.
    Session,
    /// A command and its reply.
    Reply,
    /// MAIL, RCPT, and the message.
    Message { body: Body, size: usize },
}

/// Where a case's packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    /// Over loopback, both ends in the case's place.
    Loopback,
    /// By a wire into another network namespace, to port 25: the client's end in the case's place.
    Smtp,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        let mut cases = vec![Self::Packets, Self::Bulk, Self::Connection, Self::Session, Self::Reply];
        for body in Body::ALL {
            cases.extend(SIZES.map(|size| Self::Message { body, size }));
        }
        cases
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Packets => "a packet each way".into(),
            Self::Bulk => "bulk".into(),
            Self::Connection => "connection, made and ended".into(),
            Self::Session => "session without a message".into(),
            Self::Reply => "command and reply".into(),
            Self::Message { body, size } if size < 1 << 20 => format!("message, {} KiB, {}", size >> 10, body.name()),
            Self::Message { body, size } => format!("message, {} MiB, {}", size >> 20, body.name()),
        }
    }

    pub(crate) fn transport(self) -> Transport {
        match self {
            Self::Packets | Self::Bulk | Self::Connection => Transport::Loopback,
            Self::Session | Self::Reply | Self::Message { .. } => Transport::Smtp,
        }
    }

    /// Whether each unit is a connection of its own.
    pub(crate) fn is_connection(self) -> bool {
        matches!(self, Self::Connection | Self::Session)
    }

    /// Batches in a visit, of which the median counts, and how often the case's unit is in each.
    pub(crate) fn shape(self) -> Shape {
        let (batches, units) = match self {
            Self::Packets => (40, 100),
            Self::Bulk => (8, 16),
            Self::Connection | Self::Session => (5, 10),
            Self::Reply => (10, 50),
            Self::Message { size, .. } if size < 10 << 10 => (10, 10),
            Self::Message { size, .. } if size < 100 << 10 => (5, 4),
            Self::Message { .. } => (3, 1),
        };
        Shape { batches, units }
    }

    /// Small packets that one unit sends each way at least; what else goes (window updates, acknowledgements of their
    /// own) is up to TCP.
    pub(crate) fn exchanges(self) -> u64 {
        match self {
            Self::Packets | Self::Reply => 1,
            Self::Bulk => 0,
            // SYN and FIN; greeting, EHLO and QUIT besides.
            Self::Connection => 2,
            Self::Session => 5,
            Self::Message { body: Body::Chunk, .. } => 3,
            Self::Message { .. } => 4,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) batches: usize,
    pub(crate) units: usize,
}

/// A case's words, made before the clock runs.
pub(crate) struct Script {
    opening: Vec<Turn>,
    unit: Vec<Turn>,
    closing: Vec<Turn>,
    piece: usize,
    /// Messages, each to one recipient, in a unit.
    pub(crate) messages: u64,
}

/// What the client says, and what it is answered: nothing in bulk.
struct Turn {
    words: Vec<u8>,
    reply: &'static [u8],
}

fn turn(words: impl Into<Vec<u8>>, reply: &'static [u8]) -> Turn {
    Turn { words: words.into(), reply }
}

impl Script {
    pub(crate) fn of(case: Case) -> Self {
        let word: &'static [u8] = &[b'x'; 64];
        let ok: &'static [u8] = b"250 2.0.0 Ok\r\n";
        let unit = match case {
            Case::Packets => vec![turn(word, word)],
            Case::Bulk => vec![turn(vec![b'x'; 1 << 20], b"")],
            Case::Connection | Case::Session => Vec::new(),
            Case::Reply => vec![turn(*b"NOOP\r\n", ok)],
            Case::Message { body, size } => {
                let mut turns = vec![
                    turn(*b"MAIL FROM:<sender@bench.example>\r\n", ok),
                    turn(*b"RCPT TO:<recipient@bench.example>\r\n", ok),
                ];
                let content = body.of_size(size);
                if body == Body::Chunk {
                    turns.push(turn([format!("BDAT {} LAST\r\n", content.len()).into_bytes(), content].concat(), ok));
                } else {
                    turns.push(turn(*b"DATA\r\n", b"354 Go ahead\r\n"));
                    turns.push(turn([content, b".\r\n".to_vec()].concat(), ok));
                }
                turns
            }
        };
        let (opening, closing) = match case.transport() {
            Transport::Loopback => (Vec::new(), Vec::new()),
            Transport::Smtp => (
                vec![
                    turn("", b"220 sink.bench.example ESMTP\r\n"),
                    turn(
                        *b"EHLO client.bench.example\r\n",
                        b"250-sink.bench.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
                    ),
                ],
                vec![turn(*b"QUIT\r\n", b"221 2.0.0 Bye\r\n")],
            ),
        };
        // On loopback as large as a packet there can be.
        let piece = if case == Case::Bulk { 64 << 10 } else { super::talk::PIECE };
        let messages = u64::from(matches!(case, Case::Message { .. }));
        Self { opening, unit, closing, piece, messages }
    }

    pub(crate) fn open(&self, talk: &mut Talk) {
        self.play(&self.opening, talk);
    }

    pub(crate) fn perform(&self, talk: &mut Talk) {
        self.play(&self.unit, talk);
    }

    pub(crate) fn close(&self, talk: &mut Talk) {
        self.play(&self.closing, talk);
    }

    fn play(&self, turns: &[Turn], talk: &mut Talk) {
        for turn in turns {
            talk.say(&turn.words, self.piece);
            talk.answer(turn.reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_their_size_and_do_not_end_before_their_end() {
        for body in Body::ALL {
            for size in SIZES {
                let content = body.of_size(size);
                assert!(content.len() <= size && content.len() > size - 100, "{body:?} {size}");
                assert!(content.ends_with(b"\r\n"));
                assert!(!content.windows(5).any(|five| five == b"\r\n.\r\n"));
            }
        }
        assert!(Body::Dots.of_size(1 << 20).chunks(10).all(|line| line.starts_with(b".") && line.ends_with(b"\r\n")));
        assert!(Body::Dots.of_size(1 << 20).len() / 10 > 100_000);
    }
}

//! One connection to a sink: what is read and written, through TLS or not, at once or in pieces.

use super::{
    Message,
    behaviour::Behaviour,
    session::{Session, Step},
};
use crate::tally::{Event, Ledger, Tally};
use rustls::ServerConnection;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

/// Between two pieces of an answer, so that each is a segment of its own.
const BETWEEN_PIECES: Duration = Duration::from_millis(1);
/// Answers that are ready go out together, as servers do with pipelined commands, up to this size.
const TOGETHER: usize = 16 << 10;

/// What goes out, and what happens when its turn comes.
enum Item {
    Bytes(Vec<u8>),
    Pause(Duration),
    Note(Event, Option<Message>),
    StartTls,
    Close,
}

/// Who hears what a conversation comes to.
pub(super) trait Log {
    fn note(&mut self, tally: Tally, message: Option<Message>);
}

/// How a connection stands after everything possible was written.
pub(super) enum State {
    Open,
    /// Something is to be written then.
    Waits(Instant),
    Over,
}

pub(super) struct Client {
    stream: TcpStream,
    session: Session,
    behaviour: Arc<Behaviour>,
    ledger: Ledger,
    queue: VecDeque<Item>,
    /// Bytes on their way to the socket.
    wire: Vec<u8>,
    /// The size of the piece that comes next, by its place in the list of sizes.
    piece: usize,
    not_before: Option<Instant>,
    tls: Option<ServerConnection>,
}

impl Client {
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, behaviour: &Arc<Behaviour>) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let session = Session::new(peer, Arc::clone(behaviour));
        let mut client = Self {
            stream,
            session,
            behaviour: Arc::clone(behaviour),
            ledger: Ledger::default(),
            queue: VecDeque::new(),
            wire: Vec::new(),
            piece: 0,
            not_before: None,
            tls: None,
        };
        if behaviour.implicit_tls {
            client.start_tls()?;
        }
        client.take_steps();
        Ok(client)
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn tally(&self) -> Tally {
        self.ledger.tally()
    }

    /// The connection has ended: what it comes to.
    pub(super) fn end(mut self) -> Tally {
        // Answers whose turn never came have told the client nothing, but what he has sent he has sent.
        if self.queue.iter().any(|item| matches!(item, Item::Note(Event::LastChunk, _))) {
            self.ledger.note(&Event::LastChunk);
        }
        self.ledger.note(&Event::End);
        // Closing is not enough: a child that another test forks in this moment holds a copy of the socket until
        // its exec. It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.tally()
    }

    /// Takes in what has arrived; false when the peer has gone.
    pub(super) fn hear(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    if self.take_in(&buffer[..count]).is_err() {
                        // The client speaks no TLS, and is told so by TLS itself.
                        self.queue.push_back(Item::Close);
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn take_in(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            self.session.feed(bytes);
            self.take_steps();
            return Ok(());
        };
        // With TLS from the beginning, this is where it begins to be one.
        self.ledger.note(&Event::Encrypted);
        let mut rest = bytes;
        while !rest.is_empty() {
            tls.read_tls(&mut rest)?;
            let result = tls.process_new_packets().map_err(io::Error::other);
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
            let mut plain = vec![0; result?.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut plain)?;
            self.session.feed(&plain);
        }
        self.take_steps();
        Ok(())
    }

    fn take_steps(&mut self) {
        for Step { event, message, reply, starts_tls } in self.session.take_steps() {
            let (delay, closes) = reply.as_ref().map_or_else(Default::default, |reply| (reply.delay, reply.closes));
            let pause = (!delay.is_zero()).then_some(Item::Pause(delay));
            let note = event.map(|event| Item::Note(event, message));
            let bytes = reply.map(|reply| Item::Bytes(reply.bytes().to_vec()));
            self.queue.extend([pause, note, bytes].into_iter().flatten());
            self.queue.extend(starts_tls.then_some(Item::StartTls));
            self.queue.extend(closes.then_some(Item::Close));
        }
    }

    /// Sends what the peer takes and is due. What an answer decides is noted before its first byte leaves: who
    /// has read "250" finds the message in the log.
    pub(super) fn answer(&mut self, log: &mut dyn Log) -> State {
        loop {
            if let Some(due) = self.not_before {
                if Instant::now() < due {
                    return State::Waits(due);
                }
                self.not_before = None;
            }
            if !self.wire.is_empty() {
                match self.write() {
                    Ok(()) => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return State::Open,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return State::Over,
                }
            }
            if self.queue.is_empty() {
                return State::Open;
            }
            while self.wire.len() < TOGETHER
                && let Some(item) = self
                    .queue
                    .pop_front_if(|item| self.wire.is_empty() || matches!(item, Item::Bytes(_) | Item::Note(..)))
            {
                match item {
                    Item::Bytes(bytes) => self.send(&bytes),
                    Item::Note(event, message) => {
                        self.ledger.note(&event);
                        log.note(self.tally(), message);
                    }
                    Item::Pause(time) => {
                        self.not_before = Some(Instant::now() + time);
                        break;
                    }
                    Item::StartTls => {
                        if self.start_tls().is_err() {
                            return State::Over;
                        }
                    }
                    Item::Close => return State::Over,
                }
            }
        }
    }

    /// Adds bytes of the conversation to those on their way.
    fn send(&mut self, bytes: &[u8]) {
        let Some(tls) = &mut self.tls else { return self.wire.extend_from_slice(bytes) };
        let sent = tls.writer().write_all(bytes).and_then(|()| {
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
            Ok(())
        });
        sent.expect("memory takes what is written to it");
    }

    /// Writes the next piece, or what the peer takes of it.
    fn write(&mut self) -> io::Result<()> {
        let sizes = &self.behaviour.split;
        let size = sizes.get(self.piece % sizes.len().max(1)).copied().unwrap_or(usize::MAX).max(1);
        let count = self.stream.write(&self.wire[..size.min(self.wire.len())])?;
        self.wire.drain(..count);
        self.piece += 1;
        if !(sizes.is_empty() || self.wire.is_empty()) {
            self.not_before = Some(Instant::now() + BETWEEN_PIECES);
        }
        Ok(())
    }

    fn start_tls(&mut self) -> io::Result<()> {
        let config = self.behaviour.tls.clone().ok_or_else(|| io::Error::other("TLS without a certificate"))?;
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        tls.set_buffer_limit(None);
        self.tls = Some(tls);
        if self.behaviour.implicit_tls {
            return Ok(());
        }
        let early = self.session.begin_tls();
        self.take_in(&early)
    }
}

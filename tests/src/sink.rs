//! An SMTP server that accepts everything unless told otherwise, and remembers it: the witness of what really
//! arrived, and of what became of it.

mod behaviour;
mod body;
mod builder;
mod client;
mod command;
mod reply;
mod server;
mod session;
mod tls;

use crate::poll;
pub use crate::tally::{Outcomes, Tally};
pub use builder::Builder;
use nix::sys::eventfd::EventFd;
pub use reply::Reply;
pub use session::{Message, Stage};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long clients may take to end their connections.
const PATIENCE: Duration = Duration::from_secs(10);

/// One accepted connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    pub at: Instant,
    /// What it has come to so far.
    pub tally: Tally,
    pub open: bool,
}

/// What a sink remembers.
#[derive(Default)]
struct Book {
    connections: Vec<Connection>,
    messages: Vec<Message>,
    /// Why the rest may be incomplete.
    broken: Option<String>,
}

/// A running sink. Dropping it closes its connections.
pub struct Sink {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// A sink for an address; port 0 takes a free one.
    pub fn at(address: impl Into<SocketAddr>) -> Builder {
        Builder::new(address.into())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted: exactly those whose handshake was completed so far.
    #[track_caller]
    pub fn connections(&self) -> u64 {
        self.book().connections.len() as u64
    }

    #[track_caller]
    pub fn connection_log(&self) -> Vec<Connection> {
        self.book().connections.clone()
    }

    /// The messages it has taken responsibility for.
    #[track_caller]
    pub fn messages(&self) -> Vec<Message> {
        self.book().messages.clone()
    }

    /// What all conversations have come to so far, by what this server decided. A decision is in it before the
    /// client can read the answer; what an end without an answer means only shows in [`Self::settled_tally`].
    #[track_caller]
    pub fn tally(&self) -> Tally {
        self.book().connections.iter().map(|connection| connection.tally).sum()
    }

    /// The tally after the last open connection has ended, for which it waits.
    #[track_caller]
    pub fn settled_tally(&self) -> Tally {
        poll::holds_within(PATIENCE, || self.open().is_empty());
        let open = self.open();
        assert!(open.is_empty(), "still open after {PATIENCE:?}: {open:?}");
        self.tally()
    }

    #[track_caller]
    fn open(&self) -> Vec<Connection> {
        self.book().connections.iter().filter(|connection| connection.open).cloned().collect()
    }

    /// Waits until no connection has arrived for `quiet`, then counts: for asserting that none is too many.
    #[track_caller]
    pub fn connections_when_quiet(&self, quiet: Duration) -> u64 {
        let mut count = self.connections();
        while poll::holds_within(quiet, || self.connections() > count) {
            count = self.connections();
        }
        count
    }

    #[track_caller]
    fn book(&self) -> MutexGuard<'_, Book> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = book.broken.clone();
        assert!(broken.is_none(), "the sink at {} has stopped: {}", self.address, broken.unwrap_or_default());
        book
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Cannot fail: the counter is far from its limit.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // What it died of is in the book, and every reader of the book has been told.
            let _ = thread.join();
        }
    }
}

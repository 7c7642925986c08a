//! The thread that serves everyone who connects to a sink.

use super::{
    Book, Connection,
    behaviour::Behaviour,
    client::{self, Client, State},
    session::Message,
};
use crate::tally::Tally;
use nix::sys::{
    epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout},
    socket::{Shutdown, shutdown},
};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    io::ErrorKind,
    net::TcpListener,
    os::fd::AsRawFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub(super) const LISTENER: u64 = 0;
pub(super) const STOP: u64 = 1;
/// Connections are numbered from here on, in the order in which they were accepted.
const FIRST: u64 = 2;

pub(super) struct Server {
    epoll: Epoll,
    listener: TcpListener,
    clients: HashMap<u64, Client>,
    /// When clients have something to be written that had to wait.
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    next: u64,
    book: Arc<Mutex<Book>>,
    behaviour: Arc<Behaviour>,
}

/// The book of one connection in that of all.
struct Page<'a> {
    book: &'a Mutex<Book>,
    token: u64,
}

impl client::Log for Page<'_> {
    fn note(&mut self, tally: Tally, message: Option<Message>) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = book.connections.get_mut((self.token - FIRST) as usize) {
            connection.tally = tally;
        }
        book.messages.extend(message);
    }
}

impl Server {
    pub(super) fn new(epoll: Epoll, listener: TcpListener, book: Arc<Mutex<Book>>, behaviour: Behaviour) -> Self {
        Self {
            epoll,
            listener,
            clients: HashMap::new(),
            timers: BinaryHeap::new(),
            next: FIRST,
            book,
            behaviour: Arc::new(behaviour),
        }
    }

    pub(super) fn run(mut self) {
        if let Err(error) = self.serve() {
            self.lock().broken = Some(error);
        }
        // Closing is not enough: a child that another test forks in this moment holds copies of all of them
        // until its exec.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        for client in self.clients.values() {
            let _ = client.stream().shutdown(std::net::Shutdown::Both);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Err(nix::Error::EINTR) => continue,
                other => other.map_err(|error| format!("epoll_wait: {error}"))?,
            };
            for token in events[..count].iter().map(EpollEvent::data) {
                match token {
                    STOP => return Ok(()),
                    LISTENER => self.accept_all()?,
                    client => self.attend(client),
                }
            }
            let now = Instant::now();
            while let Some(&Reverse((due, token))) = self.timers.peek()
                && due <= now
            {
                self.timers.pop();
                self.answer(token, true);
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let Some(Reverse((due, _))) = self.timers.peek() else { return EpollTimeout::NONE };
        // Rounded up: too early would be in vain.
        let wait = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
        EpollTimeout::from(u16::try_from(wait).unwrap_or(u16::MAX))
    }

    fn accept_all(&mut self) -> Result<(), String> {
        loop {
            let (stream, peer) = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(|error| format!("accept: {error}"))?,
            };
            let client =
                Client::new(stream, peer, &self.behaviour).map_err(|error| format!("a new client: {error}"))?;
            let (at, tally) = (Instant::now(), client.tally());
            self.lock().connections.push(Connection { peer, at, tally, open: true });
            let token = self.next;
            self.next += 1;
            // Edge-triggered, for writing too: answers that did not fit go out when there is room.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
            let event = EpollEvent::new(flags, token);
            self.epoll.add(client.stream(), event).map_err(|error| format!("epoll_ctl: {error}"))?;
            self.clients.insert(token, client);
            self.attend(token);
        }
    }

    /// Reads and answers until the client has no more to say.
    fn attend(&mut self, token: u64) {
        // An earlier event of the same round may have ended it.
        let Some(client) = self.clients.get_mut(&token) else { return };
        let stays = client.hear();
        self.answer(token, stays);
    }

    /// Answers, and forgets the client when it or the conversation has gone. Someone who has only shut down his
    /// sending side still reads what is said at once.
    fn answer(&mut self, token: u64, stays: bool) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let open = match client.answer(&mut Page { book: &self.book, token }) {
            State::Open => true,
            State::Waits(due) => {
                self.timers.push(Reverse((due, token)));
                true
            }
            State::Over => false,
        };
        if !(stays && open)
            && let Some(client) = self.clients.remove(&token)
        {
            let tally = client.end();
            let mut book = self.lock();
            if let Some(connection) = book.connections.get_mut((token - FIRST) as usize) {
                (connection.tally, connection.open) = (tally, false);
            }
        }
    }
}

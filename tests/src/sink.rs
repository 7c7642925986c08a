//! An SMTP server that accepts everything and remembers it: the witness of what really arrived.

mod session;

use crate::{Must, Netns, poll};
use nix::{
    errno::Errno,
    libc,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        eventfd::EventFd,
        resource::{Resource, getrlimit, setrlimit},
        socket::{
            AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, shutdown,
            socket, sockopt,
        },
    },
};
use session::Session;
pub use session::{Message, Stage};
use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const LISTENER: u64 = 0;
const STOP: u64 = 1;

/// One accepted connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    pub at: Instant,
}

#[derive(Default)]
struct Log {
    connections: Vec<Connection>,
    messages: Vec<Message>,
    /// Why the log may be incomplete.
    broken: Option<String>,
}

/// How a sink shall behave; [`Sink::at`] begins one.
pub struct Builder {
    address: SocketAddr,
    ns: Option<Netns>,
    chunking: bool,
    answers: HashMap<Stage, String>,
}

impl Builder {
    /// Listens inside a network namespace instead of the host's.
    pub fn netns(mut self, ns: &Netns) -> Self {
        self.ns = Some(ns.clone());
        self
    }

    /// Offers CHUNKING (BDAT), as modern servers do.
    pub fn chunking(mut self) -> Self {
        self.chunking = true;
        self
    }

    /// Gives this answer at a stage instead of a good one, such as `"451 4.3.0 try later"`.
    pub fn answer(mut self, stage: Stage, reply: &str) -> Self {
        self.answers.insert(stage, reply.to_string());
        self
    }

    #[track_caller]
    pub fn start(self) -> Sink {
        raise_file_limit();
        let address = self.address;
        let listener = match &self.ns {
            None => listener(address),
            Some(ns) => {
                // Both bits: as a client (the default) and as a server.
                ns.sysctl("net.ipv4.tcp_fastopen", "3");
                // The queue must hold a burst while the accepting thread waits for a processor: a client
                // whose handshake finds it full believes itself connected and is never counted.
                ns.sysctl("net.core.somaxconn", "65535");
                ns.run(|| listener(address))
            }
        };
        let listener = listener.must(format_args!("cannot listen on {address}"));
        let address = listener.local_addr().must("cannot tell the sink's own address");
        let log = Arc::new(Mutex::new(Log::default()));
        let stop = Arc::new(EventFd::new().must("cannot make an eventfd"));
        let server = Server {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).must("cannot make an epoll set"),
            listener,
            clients: HashMap::new(),
            next: STOP + 1,
            log: Arc::clone(&log),
            chunking: self.chunking,
            answers: Arc::new(self.answers),
        };
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        server.epoll.add(&server.listener, readable(LISTENER)).must("cannot watch the listener");
        server.epoll.add(&*stop, readable(STOP)).must("cannot watch the stop signal");
        let thread =
            thread::Builder::new().name("sink".into()).spawn(move || server.run()).must("cannot start a thread");
        Sink { address, log, stop, thread: Some(thread) }
    }
}

/// A running sink. Dropping it closes its connections.
pub struct Sink {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// A sink for an address; port 0 takes a free one.
    pub fn at(address: impl Into<SocketAddr>) -> Builder {
        Builder { address: address.into(), ns: None, chunking: false, answers: HashMap::new() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted: exactly those whose handshake was completed so far.
    #[track_caller]
    pub fn connections(&self) -> u64 {
        self.log().connections.len() as u64
    }

    #[track_caller]
    pub fn connection_log(&self) -> Vec<Connection> {
        self.log().connections.clone()
    }

    /// The messages it has taken responsibility for.
    #[track_caller]
    pub fn messages(&self) -> Vec<Message> {
        self.log().messages.clone()
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
    fn log(&self) -> MutexGuard<'_, Log> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = log.broken.clone();
        assert!(broken.is_none(), "the sink at {} has stopped: {}", self.address, broken.unwrap_or_default());
        log
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // Cannot fail: the counter is far from its limit.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // What it died of is in the log, and every reader of the log has been told.
            let _ = thread.join();
        }
    }
}

fn listener(address: SocketAddr) -> nix::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    allow_fast_open(&fd)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::MAXALLOWABLE)?;
    Ok(fd.into())
}

/// Lets connections wait whose data came with their SYN (TCP_FASTOPEN in tcp(7), unknown to nix).
fn allow_fast_open(socket: &OwnedFd) -> nix::Result<()> {
    let queue: libc::c_int = 1024;
    let size = size_of_val(&queue) as libc::socklen_t;
    // SAFETY: the option's value is the integer that the pointer and the size describe.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_FASTOPEN, (&raw const queue).cast(), size)
    };
    Errno::result(result).map(drop)
}

/// A sink may have to hold thousands of connections.
fn raise_file_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If this fails, running out of descriptors is reported by the log.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

struct Client {
    stream: TcpStream,
    session: Session,
    unsent: Vec<u8>,
}

/// The thread that serves everyone.
struct Server {
    epoll: Epoll,
    listener: TcpListener,
    clients: HashMap<u64, Client>,
    next: u64,
    log: Arc<Mutex<Log>>,
    chunking: bool,
    answers: Arc<HashMap<Stage, String>>,
}

impl Server {
    fn run(mut self) {
        if let Err(error) = self.serve() {
            self.lock().broken = Some(error);
        }
        // Closing is not enough: a child that another test forks in this moment holds copies of all of them
        // until its exec.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        for client in self.clients.values() {
            let _ = client.stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&mut self) -> Result<(), String> {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
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
        }
    }

    fn accept_all(&mut self) -> Result<(), String> {
        loop {
            let (stream, peer) = match self.listener.accept() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(|error| format!("accept: {error}"))?,
            };
            self.lock().connections.push(Connection { peer, at: Instant::now() });
            let token = self.next;
            self.next += 1;
            let session = Session::new(peer, self.chunking, Arc::clone(&self.answers));
            let unsent = session.greeting();
            stream.set_nonblocking(true).map_err(|error| format!("set_nonblocking: {error}"))?;
            // Edge-triggered, for writing too: answers that did not fit go out when there is room.
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
            self.epoll.add(&stream, EpollEvent::new(flags, token)).map_err(|error| format!("epoll_ctl: {error}"))?;
            self.clients.insert(token, Client { stream, session, unsent });
            self.attend(token);
        }
    }

    /// Reads and answers until the client has no more to say, and forgets it when it has gone.
    fn attend(&mut self, token: u64) {
        // An earlier event of the same round may have ended it.
        let Some(client) = self.clients.get_mut(&token) else { return };
        let stays = client.talk();
        let messages = client.session.take_messages();
        if !messages.is_empty() {
            self.lock().messages.extend(messages);
        }
        // Someone who has only shut down his sending side still reads.
        let open = self.clients.get_mut(&token).is_some_and(Client::flush);
        if !(stays && open)
            && let Some(client) = self.clients.remove(&token)
        {
            // See `run`. It may be gone already.
            let _ = client.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Client {
    /// Takes in what has arrived; false when the peer has gone. Answers are sent by [`Self::flush`], after
    /// messages are in the log: who has read "250" finds the message there.
    fn talk(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(count) => self.session.feed(&buffer[..count], &mut self.unsent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// Sends what the peer takes; false when the conversation is over.
    fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        !self.session.is_over()
    }
}

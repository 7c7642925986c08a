//! How a sink shall behave, and its start.

use super::{
    Book, Reply, Sink, Stage,
    behaviour::Behaviour,
    server::{LISTENER, STOP, Server},
    tls,
};
use crate::{Must, Netns};
use nix::{
    errno::Errno,
    libc,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags},
        eventfd::EventFd,
        resource::{Resource, getrlimit, setrlimit},
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
        },
    },
};
use std::{
    net::{SocketAddr, TcpListener},
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, Mutex},
    thread,
};

/// How a sink shall behave; [`Sink::at`] begins one.
pub struct Builder {
    address: SocketAddr,
    ns: Option<Netns>,
    behaviour: Behaviour,
}

impl Builder {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, ns: None, behaviour: Behaviour::default() }
    }

    /// Listens inside a network namespace instead of the host's.
    pub fn netns(mut self, ns: &Netns) -> Self {
        self.ns = Some(ns.clone());
        self
    }

    /// Offers CHUNKING (BDAT), as modern servers do.
    pub fn chunking(mut self) -> Self {
        self.behaviour.chunking = true;
        self
    }

    /// Speaks LMTP instead of SMTP: LHLO, and after the message one answer for each accepted recipient.
    pub fn lmtp(mut self) -> Self {
        self.behaviour.lmtp = true;
        self
    }

    /// Offers PRDR, as exim does: after the message 353, one answer for each accepted recipient, and a last one.
    pub fn prdr(mut self) -> Self {
        self.behaviour.prdr = true;
        self
    }

    /// Offers AUTH PLAIN and LOGIN, and believes everybody.
    pub fn auth(mut self) -> Self {
        self.behaviour.auth = true;
        self
    }

    /// Offers STARTTLS, with a certificate of its own making for sink.test.
    #[track_caller]
    pub fn starttls(mut self) -> Self {
        self.behaviour.starttls = true;
        self.behaviour.tls = Some(tls::config());
        self
    }

    /// Begins every connection with TLS, as on port 465.
    #[track_caller]
    pub fn implicit_tls(mut self) -> Self {
        self.behaviour.implicit_tls = true;
        self.behaviour.tls = Some(tls::config());
        self
    }

    /// Puts off the first attempt of each host, sender and recipient with 451.
    pub fn greylist(mut self) -> Self {
        self.behaviour.greylist = Some(Mutex::default());
        self
    }

    /// Takes a lone LF for a line end in the message too, so that LF.LF ends it: what servers open to smuggling do.
    pub fn bare_lf(mut self, yes: bool) -> Self {
        self.behaviour.bare_lf = yes;
        self
    }

    /// Answers as the addresses say: `jo+rcpt450@far.test` is put off. After a plus in the local part comes the
    /// stage ("mail", "data", "chunk" and "body" in senders, "rcpt" and "each" in recipients) and the code, where
    /// 000 is no answer at all; "each" is the recipient's own answer to the message (LMTP, PRDR).
    pub fn obedient(mut self) -> Self {
        self.behaviour.obedient = true;
        self
    }

    /// Writes answers in pieces of these sizes, in turn, a millisecond apart: each travels in its own segment.
    pub fn split(mut self, writes: &[usize]) -> Self {
        self.behaviour.split = writes.to_vec();
        self
    }

    /// Gives this answer at a stage instead of a good one, such as `"451 4.3.0 try later"`.
    #[track_caller]
    pub fn answer(mut self, stage: Stage, reply: impl Into<Reply>) -> Self {
        self.behaviour.answers.insert(stage, reply.into());
        self
    }

    /// Lets the answer at a stage depend on what it is about (see [`Stage`]): the first rule that has one wins.
    pub fn answer_if(mut self, stage: Stage, rule: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.behaviour.rules.push((stage, Box::new(rule)));
        self
    }

    /// Lets the answer to RCPT depend on the address.
    pub fn answer_rcpt(self, rule: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> Self {
        self.answer_if(Stage::Rcpt, rule)
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
        let book = Arc::new(Mutex::new(Book::default()));
        let stop = Arc::new(EventFd::new().must("cannot make an eventfd"));
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).must("cannot make an epoll set");
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        epoll.add(&listener, readable(LISTENER)).must("cannot watch the listener");
        epoll.add(&*stop, readable(STOP)).must("cannot watch the stop signal");
        let server = Server::new(epoll, listener, Arc::clone(&book), self.behaviour);
        let thread =
            thread::Builder::new().name("sink".into()).spawn(move || server.run()).must("cannot start a thread");
        Sink { address, book, stop, thread: Some(thread) }
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

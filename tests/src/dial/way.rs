//! One attempt, in each of the ways.

use super::{
    compat32,
    plan::{Plan, Way},
    stuffing,
};
use anyhow::{Context, Result, ensure};
use io_uring::{
    IoUring, opcode,
    types::{Fd, SubmitArgs, Timespec},
};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{MsgFlags, SockaddrLike, SockaddrStorage, bind, connect, send, sendto, setsockopt, sockopt},
        time::TimeVal,
    },
};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// What is sent with a SYN.
const FIRST_WORDS: &[u8] = b"NOOP\r\n";

/// Makes attempts on one thread.
pub(super) struct Dialler {
    plan: Plan,
    to: Box<SockaddrStorage>,
    ring: Option<IoUring>,
    ring_calls: u64,
    /// Sockets made before the word to go.
    ready: VecDeque<OwnedFd>,
}

impl Dialler {
    pub(super) fn new(plan: &Plan) -> Result<Self> {
        let to = match (plan.way, plan.to) {
            (Way::Mapped, to) => {
                let IpAddr::V4(v4) = to.ip() else { anyhow::bail!("only an IPv4 address can be mapped, not {to}") };
                SocketAddr::new(v4.to_ipv6_mapped().into(), to.port())
            }
            (_, to) => to,
        };
        ensure!(
            plan.way != Way::Compat32 || compat32::EXISTS,
            "compat32 is a way of x86-64 kernels, and this is another processor"
        );
        let ring = match plan.way {
            Way::IoUring => Some(IoUring::new(8)),
            Way::IoUringSqpoll => Some(IoUring::builder().setup_sqpoll(2_000).build(8)),
            _ => None,
        };
        let mut dialler = Self {
            plan: plan.clone(),
            to: Box::new(to.into()),
            ring: ring.transpose().context("cannot make an io_uring")?,
            ring_calls: 0,
            ready: VecDeque::new(),
        };
        if plan.way == Way::SocketBefore {
            for _ in 0..plan.count {
                dialler.ready.push_back(dialler.socket().context("cannot make the sockets")?);
            }
        }
        Ok(dialler)
    }

    /// Connects once. The socket is given back even when it failed, to be closed or kept.
    pub(super) fn attempt(&mut self) -> (Option<OwnedFd>, nix::Result<()>) {
        let socket = match self.ready.pop_front().map_or_else(|| self.socket(), Ok) {
            Ok(socket) => socket,
            Err(error) => return (None, Err(error)),
        };
        let result = self.connect(&socket);
        (Some(socket), result)
    }

    fn socket(&self) -> nix::Result<OwnedFd> {
        let kind = if self.plan.way == Way::Udp { libc::SOCK_DGRAM } else { libc::SOCK_STREAM };
        let nonblocking = if self.plan.way == Way::Nonblocking { libc::SOCK_NONBLOCK } else { 0 };
        let protocol = if self.plan.way == Way::Mptcp { libc::IPPROTO_MPTCP } else { 0 };
        let family = i32::from(self.to.family().map_or(libc::AF_INET6 as u16, |family| family as u16));
        // SAFETY: socket(2) takes three numbers. nix has no name for MPTCP.
        let fd = Errno::result(unsafe { libc::socket(family, kind | nonblocking | libc::SOCK_CLOEXEC, protocol) })?;
        // SAFETY: the kernel has just given us this descriptor.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let ms = i64::from(self.plan.timeout_ms);
        // Bounds a blocking connect(2) too, which then ends with EINPROGRESS (socket(7)).
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(ms / 1000, ms % 1000 * 1000))?;
        if self.plan.reset && self.plan.way != Way::Udp {
            setsockopt(&socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        }
        if self.plan.v6only {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        if let Some(device) = &self.plan.device {
            setsockopt(&socket, sockopt::BindToDevice, &device.into())?;
        }
        if let Some(source) = self.plan.source {
            bind(fd, &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
        }
        if self.plan.stuffed {
            stuffing::stuff(&socket)?;
        }
        Ok(socket)
    }

    /// Connects a socket that was connected before, in the plain way.
    pub(super) fn connect_again(socket: &OwnedFd, to: SocketAddr) -> nix::Result<()> {
        // With AF_UNSPEC it is as if it had never been connected (connect(2)).
        let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
        // SAFETY: the address is as long as is said.
        Errno::result(unsafe { libc::connect(socket.as_raw_fd(), &raw const nobody, size_of_val(&nobody) as u32) })?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
    }

    fn connect(&mut self, socket: &OwnedFd) -> nix::Result<()> {
        let fd = socket.as_raw_fd();
        match self.plan.way {
            Way::Plain | Way::Mapped | Way::Mptcp | Way::UserNamespace | Way::Udp | Way::SocketBefore => {
                connect(fd, &*self.to)
            }
            Way::FastopenSendto => {
                let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN) | MsgFlags::MSG_NOSIGNAL;
                sendto(fd, FIRST_WORDS, &*self.to, flags).map(drop)
            }
            Way::FastopenConnect => {
                setsockopt(socket, sockopt::TcpFastOpenConnect, &true)?;
                connect(fd, &*self.to)?;
                send(fd, FIRST_WORDS, MsgFlags::MSG_NOSIGNAL).map(drop)
            }
            Way::Nonblocking => self.connect_and_poll(socket),
            Way::IoUring | Way::IoUringSqpoll => self.connect_by_ring(socket),
            Way::Compat32 => compat32::connect(fd, &self.to),
        }
    }

    fn connect_and_poll(&self, socket: &OwnedFd) -> nix::Result<()> {
        match connect(socket.as_raw_fd(), &*self.to) {
            Err(Errno::EINPROGRESS) => {}
            other => return other,
        }
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        let timeout = PollTimeout::try_from(self.plan.timeout_ms).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, timeout)? == 0 {
            return Err(Errno::EINPROGRESS);
        }
        match nix::sys::socket::getsockopt(socket, sockopt::SocketError)? {
            0 => Ok(()),
            error => Err(Errno::from_raw(error)),
        }
    }

    fn connect_by_ring(&mut self, socket: &OwnedFd) -> nix::Result<()> {
        let ring = self.ring.as_mut().expect("a ring is made for the ways that use one");
        self.ring_calls += 1;
        let entry = opcode::Connect::new(Fd(socket.as_raw_fd()), self.to.as_ptr().cast(), self.to.len())
            .build()
            .user_data(self.ring_calls);
        // SAFETY: the address lives in a box of `self`, unchanged and longer than the ring's work.
        unsafe { ring.submission().push(&entry) }.expect("a ring with one entry at a time is not full");
        let end = std::time::Instant::now() + Duration::from_millis(self.plan.timeout_ms.into());
        loop {
            let left = Timespec::from(end.saturating_duration_since(std::time::Instant::now()));
            match ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&left)) {
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => return Err(Errno::EINPROGRESS),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error.try_into().unwrap_or(Errno::UnknownErrno)),
                Ok(_) => {}
            }
            // Answers to earlier attempts that were given up may still come.
            let calls = self.ring_calls;
            if let Some(answer) = ring.completion().find(|answer| answer.user_data() == calls) {
                return Errno::result(if answer.result() < 0 {
                    Errno::set_raw(-answer.result());
                    -1
                } else {
                    0
                })
                .map(drop);
            }
        }
    }
}

/// How a tally names a result: "ok", the name of the error, or "timeout" for the caller's own patience.
pub(super) fn name(result: nix::Result<()>) -> String {
    match result {
        Ok(()) => "ok".into(),
        Err(Errno::EINPROGRESS | Errno::EAGAIN) => "timeout".into(),
        Err(error) => format!("{error:?}"),
    }
}

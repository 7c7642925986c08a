//! The measuring itself: nothing but connect() between two readings of the clock.

use crate::stats::median;
use smtp_tests::Must;
use std::{
    io,
    mem::size_of,
    net::SocketAddrV4,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Instant,
};

/// Sockets that are open at once: few enough to stay in the caches, enough to make the clock's cost vanish.
const SOCKETS: usize = 50;
/// connect() calls between two readings of the clock when one socket serves for all.
const REPEATS: usize = 500;

/// What connect() is expected to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The SYN has left; nobody answers.
    InProgress,
    Unreachable,
    Refused,
    /// Whatever it says: while a limit is being used up, the answer changes.
    Any,
}

impl Answer {
    fn errno(self) -> Option<i32> {
        match self {
            Self::InProgress => Some(libc::EINPROGRESS),
            Self::Unreachable => Some(libc::EHOSTUNREACH),
            Self::Refused => Some(libc::EPERM),
            Self::Any => None,
        }
    }
}

/// Nanoseconds of a connect() on a fresh socket: the median of `batches`, so that one in which somebody else
/// took the processor does not count.
pub(crate) fn fresh_sockets(to: SocketAddrV4, expected: Answer, batches: usize) -> f64 {
    let address = sockaddr(to);
    let batch = || {
        let sockets: Vec<OwnedFd> = (0..SOCKETS).map(|_| socket()).collect();
        time(sockets.iter().map(AsRawFd::as_raw_fd), &address, expected) / SOCKETS as f64
    };
    median(&(0..batches).map(|_| batch()).collect::<Vec<_>>())
}

/// How many connect() calls [`fresh_sockets`] makes.
pub(crate) fn fresh_calls(batches: usize) -> u64 {
    (batches * SOCKETS) as u64
}

/// Nanoseconds of a connect() that fails at once, over and over on one socket: a failed one leaves it as it was.
pub(crate) fn one_socket(to: SocketAddrV4, expected: Answer, batches: usize) -> f64 {
    let address = sockaddr(to);
    let socket = socket();
    let fd = socket.as_raw_fd();
    let batch = || time(std::iter::repeat_n(fd, REPEATS), &address, expected) / REPEATS as f64;
    median(&(0..batches).map(|_| batch()).collect::<Vec<_>>())
}

/// How many connect() calls [`one_socket`] makes.
pub(crate) fn repeated_calls(batches: usize) -> u64 {
    (batches * REPEATS) as u64
}

/// Nanoseconds of a connect() that fails at once when every one is made by another user, the median of so many cycles
/// through them; becoming him is not counted. To be called as root, who stays the effective user: the gate goes by the
/// real one.
pub(crate) fn in_turn(users: &[u32], to: SocketAddrV4, expected: Answer, cycles: usize) -> f64 {
    let address = sockaddr(to);
    let socket = socket();
    let mut took = Vec::with_capacity(cycles * users.len());
    for &user in std::iter::repeat_n(users, cycles).flatten() {
        really_become(user);
        took.push(time(std::iter::once(socket.as_raw_fd()), &address, expected));
    }
    really_become(0);
    median(&took)
}

/// By hand: the C library would have every thread of the process follow.
fn really_become(uid: u32) {
    // SAFETY: no pointers are passed; -1 leaves an id as it is.
    if unsafe { libc::syscall(libc::SYS_setresuid, uid, -1_i32, -1_i32) } != 0 {
        Err(io::Error::last_os_error()).must(format_args!("cannot become user {uid}"))
    }
}

/// Nanoseconds (CLOCK_MONOTONIC) of one connect() on each of `sockets`.
fn time(sockets: impl Iterator<Item = i32>, address: &libc::sockaddr_in, expected: Answer) -> f64 {
    let wanted = expected.errno();
    let mut other = None;
    let began = Instant::now();
    for socket in sockets {
        // SAFETY: the address is alive and as long as said.
        let result =
            unsafe { libc::connect(socket, (&raw const *address).cast(), size_of::<libc::sockaddr_in>() as u32) };
        let got = if result == 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(0) };
        if wanted.is_some_and(|wanted| wanted != got) {
            other = Some(got);
        }
    }
    let took = began.elapsed();
    if let Some(got) = other {
        panic!(
            "a connect() ended otherwise than it must: {expected:?} was wanted, {}",
            io::Error::from_raw_os_error(got)
        );
    }
    took.as_nanos() as f64
}

fn socket() -> OwnedFd {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        Err(io::Error::last_os_error()).must("cannot make a socket")
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn sockaddr(to: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*to.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

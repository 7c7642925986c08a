//! Loopback ports for servers that tests start.

use crate::{Must, scratch};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};
use std::os::fd::AsRawFd;

/// Below `ip_local_port_range`, so that no outgoing connection takes a port between choosing and listening.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A free TCP port of 127.0.0.1. No two calls of one process get the same one (before 20,000 calls).
#[track_caller]
pub fn free() -> u16 {
    for _ in 0..200 {
        // A stride apart per process: two processes rarely look at the same ports.
        let port = (FIRST + (std::process::id() * 61 + scratch::number()) % COUNT) as u16;
        // Bound but never listening: a child that another test forks in this moment holds a copy, which
        // would be in the way of the server if it were listening.
        let flags = SockFlag::SOCK_CLOEXEC;
        let trial = socket(AddressFamily::Inet, SockType::Stream, flags, None).must("cannot make a socket");
        setsockopt(&trial, sockopt::ReuseAddr, &true).must("cannot set SO_REUSEADDR");
        match bind(trial.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
            Err(nix::Error::EADDRINUSE) => {}
            other => {
                other.must("cannot bind to loopback");
                return port;
            }
        }
    }
    panic!("200 loopback ports in a row are taken; is something listening on all of them?");
}

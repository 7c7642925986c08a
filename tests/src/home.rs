//! Port 25 of the host's own loopback, where a local MTA listens: one test at a time has it.
//!
//! Connections are redirected in the host's network namespace and nowhere else, so it cannot be another one's port.

use crate::{Must, Sink, poll, sink};
use std::{
    env,
    fs::File,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// The one before may still have a process that holds its listener for the moment between fork(2) and exec(2).
const PATIENCE: Duration = Duration::from_secs(5);

/// The port, until dropped. What listens on it must be dropped before.
pub struct Home {
    _turn: File,
}

impl Home {
    pub const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 25);
    pub const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 25);

    /// Waits until no other test has it, of this process or of another.
    #[track_caller]
    pub fn take() -> Self {
        let path = env::temp_dir().join("smtp-test-port-25.lock");
        let turn = File::options().create(true).append(true).open(&path);
        let turn = turn.must(format_args!("cannot open {}", path.display()));
        turn.lock().must(format_args!("cannot lock {}", path.display()));
        let is_free = || [Self::V4, Self::V6].iter().all(|at| TcpStream::connect(at).is_err());
        assert!(
            poll::holds_within(PATIENCE, is_free),
            "something listens on port 25 of this host: stop it for as long as the tests run, which redirect there"
        );
        Self { _turn: turn }
    }

    /// A sink in the place of the local MTA, on 127.0.0.1 alone.
    pub fn sink4(&self) -> sink::Builder {
        Sink::at(Self::V4)
    }

    /// The same on ::1 alone.
    pub fn sink6(&self) -> sink::Builder {
        Sink::at(Self::V6)
    }
}

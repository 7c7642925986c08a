//! A connection whose every end has a name.

use super::Plan;
use crate::hostile::reply;
use nix::{
    errno::Errno,
    sys::socket::{SockaddrStorage, connect},
};
use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::FromRawFd,
    time::{Duration, Instant},
};

/// How a connection ended: an error's name, "EOF" or "silence".
pub(super) struct Cut {
    pub(super) name: String,
    /// Since something was said last.
    pub(super) after: Duration,
}

pub(super) struct Wire {
    pub(super) stream: TcpStream,
    heard: Vec<u8>,
    said: Instant,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Wire {
    pub(super) fn to(plan: &Plan) -> Result<Self, String> {
        let patience = Duration::from_millis(plan.patience);
        let open = || {
            let stream =
                if plan.mptcp { over_mptcp(plan.to)? } else { TcpStream::connect_timeout(&plan.to, patience)? };
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        };
        let stream = open().map_err(|error| name(&error))?;
        Ok(Self { stream, heard: Vec::new(), said: Instant::now(), sent: 0, received: 0 })
    }

    fn cut(&self, error: &io::Error) -> Cut {
        Cut { name: name(error), after: self.said.elapsed() }
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        self.said = Instant::now();
        self.stream.write_all(bytes).map_err(|error| self.cut(&error))?;
        self.sent += bytes.len() as u64;
        Ok(())
    }

    /// Waits for the next answer, and returns its code.
    pub(super) fn hear(&mut self) -> Result<u16, Cut> {
        loop {
            if let Some((code, length)) = reply(&self.heard) {
                self.heard.drain(..length);
                return Ok(code);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer).map_err(|error| self.cut(&error))? {
                0 => return Err(Cut { name: "EOF".into(), after: self.said.elapsed() }),
                count => {
                    self.received += count as u64;
                    self.heard.extend_from_slice(&buffer[..count]);
                }
            }
        }
    }
}

/// IPPROTO_MPTCP is unknown to nix.
fn over_mptcp(to: SocketAddr) -> io::Result<TcpStream> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: a plain system call.
    let fd =
        Errno::result(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) })?;
    // SAFETY: nobody else has this descriptor.
    let stream = unsafe { TcpStream::from_raw_fd(fd) };
    connect(fd, &SockaddrStorage::from(to))?;
    Ok(stream)
}

fn name(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut if error.raw_os_error() != Some(libc::ETIMEDOUT) => {
            "silence".into()
        }
        _ => error.raw_os_error().map_or_else(|| error.to_string(), |raw| format!("{:?}", Errno::from_raw(raw))),
    }
}

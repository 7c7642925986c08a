//! What `smtp-dial` is asked to do: its command line, written by the fixture and read by the program.

use crate::who::Who;
use clap::{Parser, ValueEnum};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// How a connection is made. Each is a path of its own through the kernel to the same hook.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum Way {
    /// connect(2).
    #[default]
    Plain,
    /// An IPv6 socket to an IPv4 address (::ffff:a.b.c.d).
    Mapped,
    /// sendto(2) with MSG_FASTOPEN: no connect(2) at all. What exim does.
    FastopenSendto,
    /// TCP_FASTOPEN_CONNECT, then write(2).
    FastopenConnect,
    /// IORING_OP_CONNECT.
    IoUring,
    /// IORING_OP_CONNECT, submitted by the kernel's polling thread.
    IoUringSqpoll,
    /// connect(2) of an IPPROTO_MPTCP socket.
    Mptcp,
    /// connect(2) as "root" of a user namespace of one's own.
    UserNamespace,
    /// connect(2) that does not wait, then poll(2) and SO_ERROR.
    Nonblocking,
    /// connect(2) of a UDP socket: not a connection, and never to be counted as one.
    Udp,
    /// connect(2) of a socket made before the word to go (`--wait`).
    SocketBefore,
    /// socketcall(2) through the 32-bit entry of a 64-bit kernel (int 0x80).
    Compat32,
}

impl Way {
    /// Every way that makes TCP connections.
    pub const TCP: [Self; 11] = [
        Self::Plain,
        Self::Mapped,
        Self::FastopenSendto,
        Self::FastopenConnect,
        Self::IoUring,
        Self::IoUringSqpoll,
        Self::Mptcp,
        Self::UserNamespace,
        Self::Nonblocking,
        Self::SocketBefore,
        Self::Compat32,
    ];

    /// Whether this way can reach an address of that family.
    pub fn reaches(self, to: &SocketAddr) -> bool {
        self != Self::Mapped || to.is_ipv4()
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().expect("no way is hidden").get_name())
    }
}

#[derive(Clone, Parser)]
#[command(name = "smtp-dial", about = "Makes connection attempts and says what became of them")]
pub struct Plan {
    /// Where to connect to
    #[arg(long)]
    pub to: SocketAddr,
    /// How
    #[arg(long, value_enum, default_value_t)]
    pub way: Way,
    /// Attempts in all
    #[arg(long, default_value_t = 1)]
    pub count: u64,
    /// Threads that share them
    #[arg(long, default_value_t = 1)]
    pub threads: u64,
    #[command(flatten)]
    pub who: Who,
    /// Name of the process: its bytes in hexadecimal, at most 15, none of them 0
    #[arg(long, value_parser = bytes)]
    pub comm: Option<Bytes>,
    /// Print one line of JSON per attempt before the tally
    #[arg(long)]
    pub each: bool,
    /// When all is set up, print "ready" and wait for a line on standard input
    #[arg(long)]
    pub wait: bool,
    /// Keep the connections, and end when standard input has a line or ends
    #[arg(long)]
    pub hold: bool,
    /// End connections with RST, which leaves no TIME_WAIT: for more attempts than there are ports
    #[arg(long)]
    pub reset: bool,
    /// Leaves its sockets no room for anything to be kept beside them (net.core.optmem_max)
    #[arg(long)]
    pub stuffed: bool,
    /// Binds its sockets to this address first
    #[arg(long)]
    pub source: Option<IpAddr>,
    /// Binds its sockets to this interface first
    #[arg(long)]
    pub device: Option<String>,
    /// Keeps its IPv6 sockets away from IPv4 (IPV6_V6ONLY)
    #[arg(long)]
    pub v6only: bool,
    /// After each attempt, connects the same socket there
    #[arg(long)]
    pub then: Option<SocketAddr>,
    /// How long one attempt may take
    #[arg(long, default_value_t = 5_000)]
    pub timeout_ms: u32,
    /// When to give up altogether, in seconds: nobody has to kill a forgotten smtp-dial
    #[arg(long, default_value_t = 120)]
    pub deadline: u32,
}

/// A name of a process, which need not be text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bytes(pub Vec<u8>);

fn bytes(hex: &str) -> Result<Bytes, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or("a name is written in hexadecimal digits");
    if !hex.len().is_multiple_of(2) || hex.len() > 30 {
        return Err("a name has two digits for each of at most 15 bytes".into());
    }
    let bytes: Result<Vec<u8>, _> =
        hex.as_bytes().chunks(2).map(|pair| Ok::<_, &str>((digit(pair[0])? << 4 | digit(pair[1])?) as u8)).collect();
    match bytes? {
        bytes if bytes.contains(&0) => Err("a name ends at the first 0".into()),
        bytes => Ok(Bytes(bytes)),
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_bytes_survives_the_command_line() {
        let name = Bytes(vec![1, b'"', 0xff, b'\n']);
        assert_eq!(bytes(&name.to_string()), Ok(name));
        for wrong in ["0", "zz", "6100", "61616161616161616161616161616161"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_udp_is_missing_from_the_tcp_ways() {
        let missing: Vec<_> = Way::value_variants().iter().filter(|way| !Way::TCP.contains(way)).collect();
        assert_eq!(missing, [&Way::Udp]);
    }
}

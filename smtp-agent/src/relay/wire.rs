//! One connection to a server: commands out, replies in, each within its time and all within the visit's.
//!
//! The server may be anything. What it sends is read up to the bounds of `reply`; a reply that trickles in is given up
//! when its time is over, however often a bit of it comes; and what it says unasked is never taken for an answer.

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{
    command::Command,
    reply::{Fault, Reader, Reply},
};

const GOODBYE: Duration = Duration::from_secs(1);

/// Why a connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection: what connect(2) says.
    NotReached(String),
    /// The same where this host has no way there.
    NoRoute(String),
    /// No whole reply in time.
    Silent(Duration),
    /// The server has hung up.
    Closed,
    /// 421, and the server hangs up (RFC 5321, 3.8).
    Busy(String),
    /// The greeting or both hellos were refused.
    Refused(String),
    Fault(Fault),
    Unasked,
    /// The time for the whole visit is over.
    OutOfTime,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReached(why) | Self::NoRoute(why) => write!(f, "no connection: {why}"),
            Self::Silent(time) => write!(f, "no answer within {}", humantime::format_duration(*time)),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Busy(line) => write!(f, "the server closes the connection: {line}"),
            Self::Refused(line) => write!(f, "the server does not talk to this host: {line}"),
            Self::Fault(fault) => fault.fmt(f),
            Self::Unasked => f.write_str("the server said more than it was asked for"),
            Self::OutOfTime => f.write_str("the time for this server was over"),
        }
    }
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// Each answer.
    pub(super) timeout: Duration,
    /// The end of the visit.
    pub(super) end: Instant,
}

impl Clock {
    pub(super) fn new(timeout: Duration, whole: Duration) -> Self {
        Self { timeout, end: Instant::now() + whole }
    }

    /// When the answer that is asked for now must be there.
    fn deadline(self) -> Result<Instant, Trouble> {
        let now = Instant::now();
        if now >= self.end { Err(Trouble::OutOfTime) } else { Ok(self.end.min(now + self.timeout)) }
    }

    /// Waits, but not beyond the end.
    pub(super) fn pause(self, time: Duration) {
        std::thread::sleep(time.min(self.end.saturating_duration_since(Instant::now())));
    }

    fn late(self) -> Trouble {
        if Instant::now() >= self.end { Trouble::OutOfTime } else { Trouble::Silent(self.timeout) }
    }
}

pub(super) struct Wire {
    stream: TcpStream,
    clock: Clock,
    reader: Reader,
    /// Octets that came after the end of a reply.
    ahead: Vec<u8>,
    /// The conversation since the last [`Self::take_dialogue`].
    dialogue: Vec<String>,
}

impl Wire {
    pub(super) fn connect(server: SocketAddr, clock: Clock) -> Result<Self, Trouble> {
        let time = clock.deadline()?.saturating_duration_since(Instant::now());
        let time = time.max(Duration::from_millis(1));
        let stream = TcpStream::connect_timeout(&server, time).map_err(|e| match e.raw_os_error() {
            Some(libc::ENETUNREACH | libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Trouble::NoRoute(sentence(&e)),
            _ => Trouble::NotReached(sentence(&e)),
        })?;
        // Commands are short and waited for; without the option they might wait for one another.
        stream.set_nodelay(true).map_err(|e| Trouble::NotReached(sentence(&e)))?;
        Ok(Self { stream, clock, reader: Reader::default(), ahead: Vec::new(), dialogue: Vec::new() })
    }

    /// The address the server sees.
    pub(super) fn client(&self) -> Option<IpAddr> {
        self.stream.local_addr().ok().map(|address| address.ip().to_canonical())
    }

    /// Waits for what the server says on its own accord, which is its greeting only.
    pub(super) fn greeting(&mut self) -> Result<Reply, Trouble> {
        self.reply()
    }

    pub(super) fn ask(&mut self, command: &Command<'_>) -> Result<Reply, Trouble> {
        if !self.ahead.is_empty() {
            // Only a farewell may come unasked.
            let reply = self.reply()?;
            self.dialogue.push("  (unasked)".to_owned());
            return Err(if reply.code == 421 { Trouble::Busy(reply.lines[0].clone()) } else { Trouble::Unasked });
        }
        self.send(command)?;
        self.reply()
    }

    /// Says goodbye, and waits a moment for the answer: a server that is left before it complains in its log.
    pub(super) fn quit(mut self) {
        self.clock.timeout = self.clock.timeout.min(GOODBYE);
        // Whoever has gone already needs no goodbye.
        let _ = self.ask(&Command::Quit);
    }

    pub(super) fn take_dialogue(&mut self) -> Vec<String> {
        std::mem::take(&mut self.dialogue)
    }

    fn send(&mut self, command: &Command<'_>) -> Result<(), Trouble> {
        let deadline = self.clock.deadline()?;
        let line = command.to_string();
        self.dialogue.push(format!("> {line}"));
        let time = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_write_timeout(Some(time)).map_err(|_| Trouble::Closed)?;
        self.stream.write_all(format!("{line}\r\n").as_bytes()).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.clock.late(),
            _ => Trouble::Closed,
        })
    }

    fn reply(&mut self) -> Result<Reply, Trouble> {
        let reply = self.whole_reply();
        match &reply {
            Ok(reply) => self.dialogue.extend(reply.lines.iter().map(|line| format!("< {line}"))),
            Err(trouble) => {
                let rest: Vec<_> = self.reader.unfinished().map(|line| format!("< {line}")).collect();
                self.dialogue.extend(rest);
                self.dialogue.push(format!("  ({trouble})"));
            }
        }
        reply.and_then(|reply| match reply.code {
            421 => Err(Trouble::Busy(reply.lines[0].clone())),
            _ => Ok(reply),
        })
    }

    fn whole_reply(&mut self) -> Result<Reply, Trouble> {
        let deadline = self.clock.deadline()?;
        let mut come = std::mem::take(&mut self.ahead);
        loop {
            for (n, octet) in come.iter().enumerate() {
                if let Some(reply) = self.reader.push(*octet).map_err(Trouble::Fault)? {
                    self.ahead = come[n + 1..].to_vec();
                    return Ok(reply);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.clock.late());
            }
            self.stream.set_read_timeout(Some(left)).map_err(|_| Trouble::Closed)?;
            let mut buffer = [0; 4096];
            come = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(n) => buffer[..n].to_vec(),
                Err(e) if e.kind() == ErrorKind::Interrupted => Vec::new(),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(self.clock.late());
                }
                Err(_) => return Err(Trouble::Closed),
            };
        }
    }
}

/// The error of a connection that did not come about, with what may be behind it on this host.
fn sentence(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        ErrorKind::PermissionDenied => {
            format!("{error}: this host does not let you connect; see `smtp-agent explain --user NAME`")
        }
        _ => error.to_string(),
    }
}

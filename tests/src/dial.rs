//! Connection attempts from a process of their own: `smtp-dial`, and how tests use it.

pub mod caller;
mod compat32;
pub mod plan;
mod stuffing;
mod way;

use crate::{Cgroup, Must, Netns, process::Running, tools};
pub use plan::Way;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

/// What became of a number of attempts: the client's own count, as a witness against the agent's.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Attempts with this result: "ok", "timeout", or an error's name such as "EPERM".
    pub fn count(&self, result: &str) -> u64 {
        self.0.get(result).copied().unwrap_or(0)
    }

    pub fn ok(&self) -> u64 {
        self.count("ok")
    }

    /// Attempts refused for good.
    pub fn eperm(&self) -> u64 {
        self.count("EPERM")
    }

    /// Attempts put off.
    pub fn econnrefused(&self) -> u64 {
        self.count("ECONNREFUSED")
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Exactly these results and no others, for comparing a whole tally at once.
    pub fn of(results: &[(&str, u64)]) -> Self {
        Self(results.iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.to_string(), *count)).collect())
    }

    #[track_caller]
    fn parse(line: &str) -> Self {
        Self(serde_json::from_str(line).must(format_args!("smtp-dial printed no tally but {line:?}")))
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Told {
    /// Its place in the order in which they were begun.
    pub n: u64,
    pub result: String,
    /// What getpeername(2) and getsockname(2) said afterwards, where they said something.
    pub peer: Option<SocketAddr>,
    pub own: Option<SocketAddr>,
    /// What became of the same socket's next attempt ([`Dial::then`]).
    pub then: Option<Box<Told>>,
}

/// Attempts to be made.
pub struct Dial {
    to: SocketAddr,
    deadline: Duration,
    arguments: Vec<String>,
    /// Kept until the attempts have been made: their path leads through this process.
    ns: Option<Netns>,
}

impl Dial {
    pub fn to(address: impl Into<SocketAddr>) -> Self {
        let to = address.into();
        Self { to, deadline: Duration::from_secs(120), arguments: Vec::new(), ns: None }
    }

    fn with(mut self, option: &str, value: impl fmt::Display) -> Self {
        self.arguments.push(format!("--{option}={value}"));
        self
    }

    fn flag(mut self, option: &str) -> Self {
        self.arguments.push(format!("--{option}"));
        self
    }

    pub fn way(self, way: Way) -> Self {
        self.with("way", way)
    }

    /// Makes the attempts as this user (real, effective and saved), whose gid is the same number.
    pub fn uid(self, uid: u32) -> Self {
        self.with("uid", uid)
    }

    pub fn gid(self, gid: u32) -> Self {
        self.with("gid", gid)
    }

    /// Adds a supplementary group.
    pub fn group(self, gid: u32) -> Self {
        self.with("group", gid)
    }

    /// Joins a cgroup before making any socket; of several, one after another.
    pub fn cgroup(self, cgroup: &Cgroup) -> Self {
        self.with("cgroup", cgroup.path().display())
    }

    pub fn netns(mut self, ns: &Netns) -> Self {
        self.ns = Some(ns.clone());
        self.with("netns", ns.path().display())
    }

    pub fn count(self, count: u64) -> Self {
        self.with("count", count)
    }

    pub fn threads(self, threads: u64) -> Self {
        self.with("threads", threads)
    }

    /// The name of the process: at most 15 bytes, any but 0.
    pub fn comm(self, name: &[u8]) -> Self {
        self.with("comm", plan::Bytes(name.to_vec()))
    }

    /// Ends connections with RST instead of FIN: for more attempts than there are local ports.
    pub fn reset(self) -> Self {
        self.flag("reset")
    }

    /// Uses up the memory its sockets have for options, so that the kernel can keep nothing more beside them.
    pub fn stuffed(self) -> Self {
        self.flag("stuffed")
    }

    /// Binds its sockets to an address of the host first.
    pub fn source(self, address: IpAddr) -> Self {
        self.with("source", address)
    }

    /// Binds its sockets to an interface first (SO_BINDTODEVICE).
    pub fn device(self, name: &str) -> Self {
        self.with("device", name)
    }

    /// Keeps its IPv6 sockets away from IPv4.
    pub fn v6only(self) -> Self {
        self.flag("v6only")
    }

    /// After each attempt, connects the same socket there.
    pub fn then(self, address: SocketAddr) -> Self {
        self.with("then", address)
    }

    /// How long one attempt may take (5 s).
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with("timeout-ms", timeout.as_millis())
    }

    /// When the program ends by itself, whatever it is doing (120 s).
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The program and its arguments, for a test that has more to say about how it runs.
    #[track_caller]
    pub fn command(&self) -> Command {
        let mut command = Command::new(tools::program("smtp-dial", "CARGO_BIN_EXE_smtp-dial"));
        command.arg(format!("--to={}", self.to)).arg(format!("--deadline={}", self.deadline.as_secs().max(1)));
        command.args(&self.arguments);
        command
    }

    /// Makes the attempts and counts what became of them.
    #[track_caller]
    pub fn run(self) -> Tally {
        let mut held = self.launch();
        let tally = held.tally();
        held.release();
        tally
    }

    /// Makes the attempts and returns the result of each, by the order in which they were begun.
    #[track_caller]
    pub fn run_each(self) -> Vec<String> {
        self.run_told().into_iter().map(|told| told.result).collect()
    }

    /// The same with all that is told of each.
    #[track_caller]
    pub fn run_told(self) -> Vec<Told> {
        let mut held = self.flag("each").launch();
        let mut all = Vec::new();
        let tally = loop {
            let line = held.line();
            match serde_json::from_str::<Told>(&line) {
                Ok(told) => all.push(told),
                Err(_) => break Tally::parse(&line),
            }
        };
        assert_eq!(tally.total(), all.len() as u64, "smtp-dial told of each attempt");
        held.release();
        all.sort_by_key(|told| told.n);
        all
    }

    /// Sets everything up, sockets included for [`Way::SocketBefore`], and waits for [`Held::go`]. The
    /// connections stay open until [`Held::release`].
    #[track_caller]
    pub fn spawn(self) -> Held {
        let mut held = self.flag("wait").flag("hold").launch();
        let line = held.line();
        assert_eq!(line, "ready\n", "smtp-dial did not get ready");
        held
    }

    /// Makes the attempts and keeps the connections open until [`Held::release`].
    #[track_caller]
    pub fn hold(self) -> (Held, Tally) {
        let mut held = self.flag("hold").launch();
        let tally = held.tally();
        (held, tally)
    }

    #[track_caller]
    fn launch(self) -> Held {
        let mut process = Running::start(self.command().stdin(Stdio::piped()).stdout(Stdio::piped()));
        let stdin = process.child().stdin.take();
        let stdout = process.child().stdout.take().must("smtp-dial has no standard output");
        Held { process, stdin, stdout: BufReader::new(stdout), _ns: self.ns }
    }
}

/// A running `smtp-dial`. Dropping it ends it.
pub struct Held {
    process: Running,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    _ns: Option<Netns>,
}

impl Held {
    pub fn pid(&self) -> i32 {
        self.process.pid().as_raw()
    }

    /// Gives the word to connect.
    #[track_caller]
    pub fn go(&mut self) {
        self.stdin.as_mut().must("smtp-dial was released").write_all(b"\n").must("smtp-dial has ended");
    }

    /// Waits for the attempts to have been made.
    #[track_caller]
    pub fn tally(&mut self) -> Tally {
        let line = self.line();
        Tally::parse(&line)
    }

    /// Closes the connections and waits for the end.
    #[track_caller]
    pub fn release(mut self) {
        drop(self.stdin.take());
        let status = self.process.wait(Duration::from_secs(10)).must("smtp-dial does not end");
        assert!(status.success(), "smtp-dial: {status}");
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).must("cannot read what smtp-dial prints");
        assert!(!line.is_empty(), "smtp-dial ended without an answer; it has said why on standard error");
        line
    }
}

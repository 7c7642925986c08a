//! A client that sends mail as programs do, from a process of its own: `smtp-mailer`, and how tests use it.
//!
//! It keeps the book by the answers it gets, as the sink does by those it gives, and goes on with a new connection
//! when one is cut.

mod bulk;
mod talk;
mod wire;

use crate::{Cgroup, Must, Netns, process, tally::Tally, tools, who::Who};
use anyhow::Result;
use clap::{Parser, ValueEnum};
use nix::unistd::alarm;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};
pub use talk::{Heard, Talk};

/// How the text of a message travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum How {
    #[default]
    Data,
    /// One chunk, or two in turn.
    Bdat,
    /// DATA and BDAT in turn.
    Mixed,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().must("every way has a name");
        f.write_str(value.get_name())
    }
}

/// What `smtp-mailer` is asked to do: its command line.
#[derive(Clone, Parser)]
#[command(name = "smtp-mailer", about = "Sends messages, and says what became of them")]
pub struct Plan {
    /// Where to connect to
    #[arg(long)]
    pub to: SocketAddr,
    /// Does what lines on standard input say, instead
    #[arg(long)]
    pub talk: bool,
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// Messages to be tried, by each thread
    #[arg(long, default_value_t = 1)]
    pub messages: u32,
    /// Recipients of each
    #[arg(long, default_value_t = 1)]
    pub recipients: u32,
    /// Messages of one connection
    #[arg(long, default_value_t = 10)]
    pub each: u32,
    #[arg(long, default_value_t = How::Data)]
    pub how: How,
    /// Sends the commands of a message together (RFC 2920)
    #[arg(long)]
    pub pipeline: bool,
    /// Comes into the local parts of senders, such as "+body550"
    #[arg(long, default_value = "")]
    pub sender_tag: String,
    /// The same for recipients
    #[arg(long, default_value = "")]
    pub recipient_tag: String,
    /// Connects with MPTCP
    #[arg(long)]
    pub mptcp: bool,
    /// Milliseconds between messages
    #[arg(long, default_value_t = 0)]
    pub pause: u64,
    /// Milliseconds that an answer may take
    #[arg(long, default_value_t = 20_000)]
    pub patience: u64,
    /// When to give up altogether, in seconds
    #[arg(long, default_value_t = 120)]
    pub deadline: u32,
    #[command(flatten)]
    pub who: Who,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// By the answers it got.
    pub seen: Tally,
    /// Connections that could not be made, by the error's name.
    pub unconnected: BTreeMap<String, u64>,
    /// Messages in which the connection ended, by the error's name, "EOF" or "silence".
    pub cut: BTreeMap<String, u64>,
    /// The longest time, in milliseconds, from the last thing said to noticing such an end.
    pub slowest_cut: u64,
    /// Payload that was written and read.
    pub sent: u64,
    pub received: u64,
}

impl Report {
    pub fn cuts(&self) -> u64 {
        self.cut.values().sum()
    }

    /// Connections that were refused for good.
    pub fn eperm(&self) -> u64 {
        self.unconnected.get("EPERM").copied().unwrap_or(0)
    }

    fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        for (sum, more) in [(&mut self.unconnected, &other.unconnected), (&mut self.cut, &other.cut)] {
            more.iter().for_each(|(name, count)| *sum.entry(name.clone()).or_default() += count);
        }
        self.slowest_cut = self.slowest_cut.max(other.slowest_cut);
        self.sent += other.sent;
        self.received += other.received;
    }
}

impl std::iter::Sum for Report {
    fn sum<I: Iterator<Item = Self>>(reports: I) -> Self {
        reports.fold(Self::default(), |mut sum, report| {
            sum.add(&report);
            sum
        })
    }
}

/// A mailer to be run.
#[derive(Clone)]
pub struct Mailer {
    to: SocketAddr,
    arguments: Vec<String>,
    /// Kept until it has ended: its path leads through this process.
    ns: Option<Netns>,
}

impl Mailer {
    pub fn to(address: impl Into<SocketAddr>) -> Self {
        Self { to: address.into(), arguments: Vec::new(), ns: None }
    }

    fn with(mut self, option: &str, value: impl fmt::Display) -> Self {
        self.arguments.push(format!("--{option}={value}"));
        self
    }

    pub fn uid(self, uid: u32) -> Self {
        self.with("uid", uid)
    }

    pub fn cgroup(self, cgroup: &Cgroup) -> Self {
        self.with("cgroup", cgroup.path().display())
    }

    pub fn netns(mut self, ns: &Netns) -> Self {
        self.ns = Some(ns.clone());
        self.with("netns", ns.path().display())
    }

    pub fn threads(self, count: u32) -> Self {
        self.with("threads", count)
    }

    /// Messages to be tried, by each thread.
    pub fn messages(self, count: u32) -> Self {
        self.with("messages", count)
    }

    pub fn recipients(self, count: u32) -> Self {
        self.with("recipients", count)
    }

    /// Messages of one connection (10).
    pub fn each(self, count: u32) -> Self {
        self.with("each", count)
    }

    pub fn how(self, how: How) -> Self {
        self.with("how", how)
    }

    pub fn pipeline(mut self) -> Self {
        self.arguments.push("--pipeline".into());
        self
    }

    /// Comes into the local parts of senders, such as "+body550" for an obedient sink.
    pub fn sender_tag(self, tag: &str) -> Self {
        self.with("sender-tag", tag)
    }

    /// The same for recipients.
    pub fn recipient_tag(self, tag: &str) -> Self {
        self.with("recipient-tag", tag)
    }

    /// Connects with MPTCP, which servers that do not know it take for TCP.
    pub fn mptcp(mut self) -> Self {
        self.arguments.push("--mptcp".into());
        self
    }

    /// Between two messages.
    pub fn pause(self, pause: Duration) -> Self {
        self.with("pause", pause.as_millis())
    }

    /// How long an answer may take (20 s).
    pub fn patience(self, patience: Duration) -> Self {
        self.with("patience", patience.as_millis())
    }

    #[track_caller]
    pub fn run(self) -> Report {
        let mut command = self.command();
        let output = process::output(command.stdin(Stdio::null()), Duration::from_secs(130)).expect_ok("smtp-mailer");
        serde_json::from_str(&output.stdout).must(format_args!("smtp-mailer printed {:?}", output.stdout))
    }

    /// Starts a conversation that the test leads step by step.
    #[track_caller]
    pub fn talk(self) -> Talk {
        let mut command = self.command();
        Talk::start(command.arg("--talk"), self.ns)
    }

    #[track_caller]
    fn command(&self) -> Command {
        let mut command = Command::new(tools::program("smtp-mailer", "CARGO_BIN_EXE_smtp-mailer"));
        command.arg(format!("--to={}", self.to)).args(&self.arguments);
        command
    }
}

/// The inside of `smtp-mailer`.
pub fn run(plan: &Plan) -> Result<()> {
    alarm::set(plan.deadline);
    plan.who.become_it()?;
    if plan.talk {
        return talk::lead(plan);
    }
    println!("{}", serde_json::to_string(&bulk::send(plan))?);
    Ok(())
}

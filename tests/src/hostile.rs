//! A client that makes it hard to tell what it says, from a process of its own: `smtp-hostile`, and how tests use it.
//!
//! Its bytes are cut anywhere, its texts are full of commands and answers, it stops where it likes. But it waits for
//! answers where SMTP says so, and says who shall be answered how by addresses that an obedient sink understands:
//! what has to be counted is exactly defined. It tells twice what that is, by what it meant to do and by the answers
//! it saw.

mod bodies;
mod ends;
mod player;
mod scenes;
mod script;
mod speaker;

pub(crate) use player::reply;

use crate::{Cgroup, Must, Netns, process, sink, tally::Tally, tools, who::Who};
use anyhow::Result;
use clap::Parser;
use nix::unistd::alarm;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

/// What `smtp-hostile` is asked to do: its command line.
#[derive(Clone, Parser)]
#[command(name = "smtp-hostile", about = "Plays seeded conversations that are hard to follow")]
pub struct Plan {
    /// Where to connect to
    #[arg(long)]
    pub to: SocketAddr,
    /// What to say: the same for the same number
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Connections, one after the other
    #[arg(long, default_value_t = 4)]
    pub sessions: u32,
    /// Speak LMTP
    #[arg(long)]
    pub lmtp: bool,
    /// When to give up altogether, in seconds
    #[arg(long, default_value_t = 120)]
    pub deadline: u32,
    #[command(flatten)]
    pub who: Who,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostileReport {
    /// By the answers it saw.
    pub seen: Tally,
    /// By what it meant to do.
    pub intended: Tally,
    /// Answers that were not the ones asked for.
    pub surprises: Vec<String>,
    /// What was played, session by session, for the message of a failed test.
    pub played: Vec<String>,
    /// Bytes it has sent.
    pub bytes: u64,
}

impl HostileReport {
    /// What both of its own witnesses say; fails the test when they differ.
    #[track_caller]
    pub fn tally(&self) -> Tally {
        assert!(self.surprises.is_empty(), "{:?}\n{:#?}", self.surprises, self.played);
        assert_eq!(self.seen, self.intended, "{:#?}", self.played);
        self.seen
    }
}

/// A hostile client to be run.
pub struct Hostile {
    to: SocketAddr,
    arguments: Vec<String>,
    /// Kept until it has ended: its path leads through this process.
    ns: Option<Netns>,
}

impl Hostile {
    pub fn new(to: impl Into<SocketAddr>) -> Self {
        Self { to: to.into(), arguments: Vec::new(), ns: None }
    }

    /// What a sink has to offer to be talked to; add [`sink::Builder::lmtp`] for [`Self::lmtp`].
    #[track_caller]
    pub fn opponent(sink: sink::Builder) -> sink::Builder {
        sink.obedient().chunking().auth().prdr().starttls()
    }

    fn with(mut self, option: &str, value: impl fmt::Display) -> Self {
        self.arguments.push(format!("--{option}={value}"));
        self
    }

    pub fn seed(self, seed: u64) -> Self {
        self.with("seed", seed)
    }

    /// Connections, one after the other (4).
    pub fn sessions(self, count: u32) -> Self {
        self.with("sessions", count)
    }

    pub fn lmtp(mut self) -> Self {
        self.arguments.push("--lmtp".into());
        self
    }

    pub fn uid(self, uid: u32) -> Self {
        self.with("uid", uid)
    }

    pub fn gid(self, gid: u32) -> Self {
        self.with("gid", gid)
    }

    pub fn cgroup(self, cgroup: &Cgroup) -> Self {
        self.with("cgroup", cgroup.path().display())
    }

    pub fn netns(mut self, ns: &Netns) -> Self {
        self.ns = Some(ns.clone());
        self.with("netns", ns.path().display())
    }

    #[track_caller]
    pub fn run(self) -> HostileReport {
        let mut command = Command::new(tools::program("smtp-hostile", "CARGO_BIN_EXE_smtp-hostile"));
        command.arg(format!("--to={}", self.to)).args(&self.arguments).stdin(Stdio::null());
        let output = process::output(&mut command, Duration::from_secs(130)).expect_ok("smtp-hostile");
        serde_json::from_str(&output.stdout).must(format_args!("smtp-hostile printed {:?}", output.stdout))
    }
}

/// The inside of `smtp-hostile`.
pub fn play(plan: &Plan) -> Result<()> {
    alarm::set(plan.deadline);
    plan.who.become_it()?;
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let (mut seen, mut intended) = (Tally::default(), Tally::default());
    let (mut surprises, mut played, mut bytes) = (Vec::new(), Vec::new(), 0);
    for n in 0..plan.sessions {
        let script = scenes::session(&mut rng, plan.lmtp);
        intended += script.intended;
        let came = player::play(plan.to, &script, &mut rng)?;
        seen += came.tally;
        bytes += came.bytes;
        surprises.extend(came.surprises.into_iter().map(|surprise| format!("session {n}: {surprise}")));
        played.push(format!("session {n}: {}", script.names.join(", ")));
    }
    println!("{}", serde_json::to_string(&HostileReport { seen, intended, surprises, played, bytes })?);
    Ok(())
}

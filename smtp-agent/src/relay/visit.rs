//! One address of a server, probe by probe, over as many connections as it takes.
//!
//! Servers end a conversation after some errors, or say 421 when there are too many. So a connection carries few
//! probes, a probe that a broken connection has cut short is tried once more, and each new connection waits longer than
//! the one before it when that was of no use.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    Options,
    command::{Command, HelloName},
    probe::{Kind, Names, Probe, probes},
    reply::Reply,
    target::Vantage,
    verdict::{Conclusion, Reason, Verdict, conclude},
    wire::{Clock, Trouble, Wire},
};

/// Postfix slows down after 10 errors and hangs up after 20; Exim hangs up after 10 commands other than mail.
const PROBES_A_CONNECTION: usize = 8;
/// Connections in a row that came to nothing, until the server is left alone.
const MOST_FAILURES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What was found at one address.
#[derive(Debug, Serialize)]
pub struct Visit {
    pub address: SocketAddr,
    /// Our own, as the server saw it; `None` where there was no connection.
    pub from: Option<IpAddr>,
    pub vantage: Option<Vantage>,
    /// What the verdict is worth from here.
    pub worth: Option<&'static str>,
    pub verdict: Verdict,
    /// Why.
    pub because: String,
    /// The probe that shows it.
    pub shown_by: Option<usize>,
    /// This host has no way to the address, such as no IPv6 at all.
    pub no_route: bool,
    /// Greeting and hello of the first connection.
    pub opening: Vec<String>,
    pub probes: Vec<Tried>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The recipient was taken.
    Accepted,
    Refused,
    /// Not now, says the server.
    Deferred,
    /// No answer that could be understood.
    Unanswered,
}

/// A probe and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    pub name: &'static str,
    pub from: String,
    pub to: String,
    #[serde(flatten)]
    pub kind: Kind,
    pub outcome: Outcome,
    /// What a refusal is about.
    pub reason: Option<Reason>,
    /// The deciding line of the server, or why there is none.
    pub answer: String,
    pub dialogue: Vec<String>,
}

impl Tried {
    /// Whether it was only there to be compared with.
    pub fn is_control(&self) -> bool {
        matches!(self.kind, Kind::Control { .. })
    }
}

pub(super) fn visit(server: SocketAddr, own: &[IpNet], options: &Options, whole: Duration) -> Visit {
    let clock = Clock::new(options.timeout, whole);
    let mut caller = Caller { server, clock, hello: options.hello.as_ref(), opening: Vec::new(), client: None };
    let mut no_route = false;
    let (probes, conclusion) = match caller.call() {
        Ok((wire, greeting)) => {
            let names = Names::of(options.target.name(), &greeting, server.ip());
            let probes = probes(&names, &options.from, &options.to, &absent());
            let tried = Round::new(&mut caller, wire).all(probes, options);
            let conclusion = conclude(&tried, caller.vantage(own).unwrap_or(Vantage::Outside));
            (tried, conclusion)
        }
        Err(trouble) => {
            no_route = matches!(trouble, Trouble::NoRoute(_));
            (Vec::new(), Conclusion { verdict: Verdict::Unclear, because: trouble.to_string(), by: None })
        }
    };
    let Conclusion { verdict, because, by: shown_by } = conclusion;
    let vantage = caller.vantage(own);
    let worth = vantage.map(Vantage::worth);
    let Caller { client: from, opening, .. } = caller;
    Visit { address: server, from, vantage, worth, verdict, because, shown_by, no_route, opening, probes }
}

/// A local part that nobody has: different each time, so that no server has learned it.
fn absent() -> String {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("nobody-{:x}{:x}", time.as_millis(), std::process::id())
}

/// Whoever makes connections.
struct Caller<'a> {
    server: SocketAddr,
    clock: Clock,
    hello: Option<&'a HelloName>,
    /// The conversation up to the first probe, of the first connection.
    opening: Vec<String>,
    client: Option<IpAddr>,
}

impl Caller<'_> {
    fn vantage(&self, own: &[IpNet]) -> Option<Vantage> {
        self.client.map(|client| Vantage::of(self.server.ip(), client, own))
    }

    /// Connects and says hello.
    fn call(&mut self) -> Result<(Wire, Reply), Trouble> {
        let mut wire = Wire::connect(self.server, self.clock)?;
        self.client = self.client.or(wire.client());
        let greeted = self.hello(&mut wire);
        let said = wire.take_dialogue();
        if self.opening.is_empty() {
            self.opening = said;
        }
        greeted.map(|greeting| (wire, greeting))
    }

    fn hello(&self, wire: &mut Wire) -> Result<Reply, Trouble> {
        let greeting = wire.greeting()?;
        if !greeting.is_positive() {
            return Err(Trouble::Refused(greeting.lines[0].clone()));
        }
        let name = match self.hello {
            Some(name) => name.clone(),
            None => own_name().unwrap_or_else(|| HelloName::literal(self.client.unwrap_or(self.server.ip()))),
        };
        let mut answer = wire.ask(&Command::Ehlo(&name))?;
        if !answer.is_positive() {
            // A server from before 1995, or one that likes old clients better.
            answer = wire.ask(&Command::Helo(&name))?;
        }
        if answer.is_positive() { Ok(greeting) } else { Err(Trouble::Refused(answer.lines[0].clone())) }
    }
}

/// This host's name, where it is one that means something elsewhere.
fn own_name() -> Option<HelloName> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    if name.contains('.') { name.parse().ok() } else { None }
}

/// All probes in their order.
struct Round<'a, 'b> {
    caller: &'a mut Caller<'b>,
    wire: Option<Wire>,
    /// Probes on this connection.
    used: usize,
    /// Connections in a row without a decided probe.
    failures: u32,
    /// What became of the last of them.
    last: Trouble,
}

impl<'a, 'b> Round<'a, 'b> {
    fn new(caller: &'a mut Caller<'b>, wire: Wire) -> Self {
        Self { caller, wire: Some(wire), used: 0, failures: 0, last: Trouble::Closed }
    }

    fn all(mut self, probes: Vec<Probe>, options: &Options) -> Vec<Tried> {
        let mut pending: VecDeque<Probe> = probes.into();
        let mut tried: Vec<Tried> = Vec::with_capacity(pending.len());
        while let Some(probe) = pending.pop_front() {
            let from = probe.from.clone().unwrap_or_else(|| sender(&tried, options));
            tried.push(self.one(&probe, from));
        }
        if let Some(wire) = self.wire {
            wire.quit();
        }
        tried
    }

    fn one(&mut self, probe: &Probe, from: String) -> Tried {
        let Probe { name, to, kind, .. } = probe.clone();
        let mut dialogue = Vec::new();
        let mut trouble = Trouble::OutOfTime;
        for _ in 0..2 {
            let mut wire = match self.connected() {
                Ok(wire) => wire,
                Err(why) => {
                    trouble = why;
                    break;
                }
            };
            let answer = transaction(&mut wire, &from, &to);
            // The connection goes on only after a clean end of the transaction.
            let reset = answer.is_ok() && wire.ask(&Command::Rset).is_ok_and(|reply| reply.is_positive());
            dialogue.extend(wire.take_dialogue());
            if reset {
                self.wire = Some(wire);
                self.used += 1;
            }
            match answer {
                Ok((outcome, reason, reply)) => {
                    self.failures = 0;
                    let answer = reply.lines[0].clone();
                    return Tried { name, from, to, kind, outcome, reason, answer, dialogue };
                }
                Err(why) => {
                    self.failures += 1;
                    self.last = why.clone();
                    trouble = why;
                }
            }
        }
        let answer = trouble.to_string();
        Tried { name, from, to, kind, outcome: Outcome::Unanswered, reason: None, answer, dialogue }
    }

    /// The connection there is, or a new one.
    fn connected(&mut self) -> Result<Wire, Trouble> {
        match self.wire.take() {
            Some(wire) if self.used < PROBES_A_CONNECTION => return Ok(wire),
            Some(wire) => wire.quit(),
            None => {}
        }
        self.used = 0;
        loop {
            if self.failures >= MOST_FAILURES {
                return Err(self.last.clone());
            }
            if self.failures > 0 {
                self.caller.clock.pause(FIRST_PAUSE * 4u32.pow(self.failures - 1));
            }
            match self.caller.call() {
                Ok((wire, _)) => return Ok(wire),
                Err(Trouble::OutOfTime) => return Err(Trouble::OutOfTime),
                Err(trouble) => {
                    self.failures += 1;
                    self.last = trouble;
                }
            }
        }
    }
}

/// The sender of what depends on the recipient alone: the first whose recipient was judged.
fn sender(tried: &[Tried], options: &Options) -> String {
    let judged = tried.iter().find(|one| {
        one.kind == Kind::Relay && (one.outcome == Outcome::Accepted || one.reason.is_some_and(Reason::is_decisive))
    });
    judged.map_or_else(|| options.from.to_string(), |one| one.from.clone())
}

/// Up to the recipient, and never further.
fn transaction(wire: &mut Wire, from: &str, to: &str) -> Result<(Outcome, Option<Reason>, Reply), Trouble> {
    let sender = wire.ask(&Command::Mail(from))?;
    if !sender.is_positive() {
        let reason = match Reason::of(&sender) {
            // Nobody has been named yet to whom it might be relayed.
            Reason::Relaying | Reason::Unnamed => Reason::Addresses,
            reason => reason,
        };
        return Ok((refusal(&sender), Some(reason), sender));
    }
    let recipient = wire.ask(&Command::Rcpt(to))?;
    if recipient.is_positive() {
        return Ok((Outcome::Accepted, None, recipient));
    }
    Ok((refusal(&recipient), Some(Reason::of(&recipient)), recipient))
}

fn refusal(reply: &Reply) -> Outcome {
    if reply.is_transient() { Outcome::Deferred } else { Outcome::Refused }
}

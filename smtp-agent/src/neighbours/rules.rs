//! What a firewall's rules do to outgoing connections to the configured ports, whichever tool they were read with.
//!
//! Chains are walked from the output and postrouting hooks. A condition that is not understood makes a rule a conditional
//! one, never one that is left out.

use std::collections::{HashMap, HashSet};

/// A set of the configured ports, one bit for each.
pub(super) type Mask = u32;

/// The configured ports, as bits.
#[derive(Clone, Copy)]
pub(super) struct Ports<'a>(pub(super) &'a [u16]);

impl Ports<'_> {
    pub(super) fn all(self) -> Mask {
        self.within(0, u16::MAX)
    }

    pub(super) fn within(self, first: u16, last: u16) -> Mask {
        let bits = self.0.iter().take(32).enumerate().filter(|(_, port)| (first..=last).contains(port));
        bits.fold(0, |mask, (bit, _)| mask | 1 << bit)
    }

    pub(super) fn list(self, mask: Mask) -> Vec<u16> {
        self.0.iter().take(32).enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, port)| *port).collect()
    }
}

/// A port by number or by the names it has in /etc/services.
pub(super) fn port(text: &str) -> Option<u16> {
    match text {
        "smtp" | "mail" => Some(25),
        "submissions" | "smtps" | "ssmtp" | "urd" => Some(465),
        "submission" | "msa" => Some(587),
        number => number.parse().ok(),
    }
}

/// When a rule holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct When {
    pub(super) ports: Mask,
    /// It names ports; one that does not holds for all of them.
    pub(super) named: bool,
    /// It is for sockets of these only: "uid 33", "gid 12".
    pub(super) owners: Vec<String>,
    /// It is not for sockets of these.
    pub(super) but: Vec<String>,
    /// It counts: a rate, a quota, a number of connections.
    pub(super) rate: bool,
    /// It asks for something else besides.
    pub(super) narrowed: bool,
}

impl When {
    pub(super) fn always(ports: Ports<'_>) -> Self {
        Self { ports: ports.all(), named: false, owners: Vec::new(), but: Vec::new(), rate: false, narrowed: false }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            ports: self.ports & other.ports,
            named: self.named || other.named,
            owners: self.owners.iter().chain(&other.owners).cloned().collect(),
            but: self.but.iter().chain(&other.but).cloned().collect(),
            rate: self.rate || other.rate,
            narrowed: self.narrowed || other.narrowed,
        }
    }

    fn is_open(&self) -> bool {
        self.is_for_all() && !self.rate && !self.narrowed
    }

    fn is_for_all(&self) -> bool {
        self.owners.is_empty() && self.but.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Stop {
    Reject,
    Drop,
    /// Sent somewhere else: REDIRECT, DNAT, TPROXY.
    Redirect,
    /// Left to a program.
    Queue,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Does {
    Nothing,
    Accept,
    Return,
    Stop(Stop),
    Jump(String),
    /// As a jump without a return.
    Goto(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// Safe to print.
    pub(super) text: String,
    pub(super) when: When,
    pub(super) does: Does,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    /// What packets meet that leave: it hangs on the output or postrouting hook.
    pub(super) leaving: bool,
    pub(super) drops_by_policy: bool,
    pub(super) rules: Vec<Rule>,
}

/// Chains by their names, which hold family and table: "inet filter output".
#[derive(Debug, Default)]
pub(super) struct Ruleset {
    pub(super) chains: HashMap<String, Chain>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Effect {
    Stop(Stop),
    /// Stopped beyond a rate.
    Limit,
    /// Stopped at the end of a chain since nothing lets it through.
    Default(Stop),
}

/// A rule that decides about configured ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) effect: Effect,
    pub(super) ports: Mask,
    pub(super) chain: String,
    pub(super) rule: String,
    /// Rules that lead to its chain.
    pub(super) via: Vec<String>,
    /// Whom it is for; empty for everyone.
    pub(super) owners: Vec<String>,
    /// Whom rules before it let pass.
    pub(super) spared: Vec<String>,
    /// It asks for more than ports and owners.
    pub(super) conditional: bool,
}

/// Deeper than kernels permit (16 for nftables), so that a broken listing ends too.
const DEEPEST: usize = 20;
/// More rules than one packet can pass in any time.
const MOST_STEPS: usize = 200_000;
/// More findings than anybody reads.
const MOST_FOUND: usize = 200;

impl Ruleset {
    /// The rules that decide about outgoing connections to these ports.
    pub(super) fn find(&self, ports: Ports<'_>) -> Vec<Found> {
        let mut walk = Walk { set: self, found: Vec::new(), steps: 0, base: Base::default(), seen: HashSet::new() };
        let mut bases: Vec<_> = self.chains.iter().filter(|(_, chain)| chain.leaving).collect();
        bases.sort_by_key(|(name, _)| *name);
        for (name, chain) in bases {
            walk.base = Base { first: walk.found.len(), ..Base::default() };
            let when = When::always(ports);
            let ended = walk.chain(name, &Path { when, via: Vec::new(), spared: Vec::new(), rated: false });
            if chain.drops_by_policy && !ended {
                walk.end_of_chain(name, "policy drop", Stop::Drop, ports.all());
            }
        }
        walk.found
    }
}

/// How a walk came to a chain.
#[derive(Clone)]
struct Path {
    when: When,
    via: Vec<String>,
    spared: Vec<String>,
    rated: bool,
}

struct Walk<'a> {
    set: &'a Ruleset,
    found: Vec<Found>,
    steps: usize,
    base: Base,
    seen: HashSet<(String, String)>,
}

/// What the walk from one hook has seen.
#[derive(Default)]
struct Base {
    /// Where its findings begin.
    first: usize,
    /// Ports that some rule lets through for everyone.
    let_through: Mask,
    /// Whom some rule lets through.
    spared: Vec<String>,
}

impl Walk<'_> {
    /// Whether no packet comes back from this chain.
    fn chain(&mut self, name: &str, path: &Path) -> bool {
        let set = self.set;
        let Some(chain) = set.chains.get(name) else { return false };
        let mut path = path.clone();
        for rule in &chain.rules {
            self.steps += 1;
            if self.steps > MOST_STEPS || self.found.len() >= MOST_FOUND {
                return true;
            }
            let when = path.when.and(&rule.when);
            if when.ports == 0 {
                continue;
            }
            let open = rule.when.is_open() && rule.when.ports & path.when.ports == path.when.ports;
            match &rule.does {
                Does::Nothing => {}
                Does::Accept | Does::Return => {
                    let accepts = rule.does == Does::Accept;
                    if accepts && when.is_for_all() && (when.named || !when.narrowed) {
                        self.base.let_through |= when.ports;
                    } else if accepts {
                        self.base.spared.extend(when.owners.iter().cloned());
                    }
                    if open {
                        return accepts;
                    }
                    path.rated |= rule.when.rate;
                    path.spared.extend(rule.when.owners.iter().cloned());
                }
                Does::Stop(stop) => {
                    self.stop(name, rule, *stop, &when, &path);
                    if open {
                        return true;
                    }
                }
                Does::Jump(to) | Does::Goto(to) => {
                    if path.via.len() >= DEEPEST {
                        continue;
                    }
                    let mut inner = Path { when, ..path.clone() };
                    inner.via.push(rule.text.clone());
                    let ended = self.chain(to, &inner);
                    let goes = matches!(rule.does, Does::Goto(_));
                    if open && (ended || goes) {
                        return ended;
                    }
                }
            }
        }
        false
    }

    fn stop(&mut self, chain: &str, rule: &Rule, stop: Stop, when: &When, path: &Path) {
        if !when.named && when.is_for_all() {
            // A chain that ends so drops what nobody let through; what asks for something else is not about SMTP.
            if when.is_open() && stop != Stop::Redirect && stop != Stop::Queue {
                self.end_of_chain(chain, &rule.text, stop, when.ports);
            }
            return;
        }
        // Ways to one chain are many, and its rules the same.
        if !self.seen.insert((chain.to_owned(), rule.text.clone())) {
            return;
        }
        let rated = path.rated || when.rate;
        self.found.push(Found {
            effect: if rated { Effect::Limit } else { Effect::Stop(stop) },
            ports: when.ports,
            chain: chain.to_owned(),
            rule: rule.text.clone(),
            via: path.via.clone(),
            owners: when.owners.clone(),
            spared: path.spared.iter().chain(&when.but).cloned().collect(),
            conditional: when.narrowed,
        });
    }

    fn end_of_chain(&mut self, chain: &str, rule: &str, stop: Stop, ports: Mask) {
        let stopped = self.found[self.base.first..].iter().filter(|f| f.owners.is_empty() && !f.conditional);
        let known = stopped.fold(self.base.let_through, |mask, f| mask | f.ports);
        let ports = ports & !known;
        if ports != 0 && self.seen.insert((chain.to_owned(), rule.to_owned())) {
            self.found.push(Found {
                effect: Effect::Default(stop),
                ports,
                chain: chain.to_owned(),
                rule: rule.to_owned(),
                via: Vec::new(),
                owners: Vec::new(),
                spared: self.base.spared.clone(),
                conditional: false,
            });
        }
    }
}

//! Rules for cgroups: which chain a path gets.
//!
//! A rule holds for a cgroup that its pattern matches and for everything below. Of several, all limits hold; the innermost
//! says what is in place of the default plan; "deny" of any closes.

use std::collections::HashMap;

use smtp_common::{
    connection::{Account, kind},
    level::{Chain, LINKS, Level, Purse, chain_flag, path_hash, purse_flag},
    rule::{Action, Limit, Origin, Rule},
};

use super::{
    ledger::{self, Ledger},
    limits::{self, Moment},
    patterns::{Patterns, ancestry},
};
use crate::config::{Config, Pattern, Plan, PlanRef, RuleEntry};

/// Everything that patterns of cgroups say.
#[derive(Debug, Clone, Default)]
pub struct CgroupRules {
    patterns: Patterns,
    /// By number of the pattern.
    does: Vec<Does>,
    /// Purses of rules that give each cgroup its own, by rule and path.
    own_purses: HashMap<(usize, String), u32>,
}

#[derive(Debug, Clone)]
enum Does {
    /// A plan for what is in it.
    Plan { base: Rule, purse: Shared },
    /// An exception speaks of it, with this number.
    Mark(u32),
    /// Said by hand; lapses at this time of the boot clock, 0 for never.
    ByHand { blocked: bool, until: u64 },
}

#[derive(Debug, Clone)]
enum Shared {
    Nothing,
    /// By all cgroups that match.
    Purse(u32),
    /// Not shared: a purse like this for each.
    Each(Purse),
}

impl CgroupRules {
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    fn add(&mut self, pattern: &Pattern, does: Does) {
        self.patterns.add(pattern.clone());
        self.does.push(does);
    }

    /// A `[[rule]] cgroup`. `total` is the chain of the plan's own total.
    pub fn rule(
        &mut self,
        config: &Config,
        pattern: &Pattern,
        entry: &RuleEntry,
        moment: Moment,
        total: u16,
        ledger: &mut Ledger,
    ) {
        // Connections are charged to the rule's purse alone; what is left holds for each account in it.
        let rule = limits::rule(config, entry.plan, Origin::RuleCgroup, moment);
        let base = Rule { hour: Limit::NONE, day: Limit::NONE, chain: total, ..rule };
        let plan = match entry.plan {
            PlanRef::Plan(index) => config.plans.get(index),
            PlanRef::Deny | PlanRef::Allow => None,
        };
        let purse = plan.map(|plan| purse(pattern, entry, plan, moment)).filter(ledger::is_set);
        let purse = match purse {
            None => Shared::Nothing,
            Some(purse) if entry.each => Shared::Each(purse),
            Some(purse) => Shared::Purse(ledger.purse(purse, pattern.as_str().to_owned())),
        };
        self.add(pattern, Does::Plan { base, purse });
    }

    /// A pattern that exceptions speak of.
    pub fn mark(&mut self, pattern: &Pattern, number: u32) {
        self.add(pattern, Does::Mark(number));
    }

    pub fn by_hand(&mut self, pattern: &Pattern, blocked: bool, until: u64) {
        self.add(pattern, Does::ByHand { blocked, until });
    }

    /// Paths that will match once they are there.
    pub fn exact_paths(&self) -> Vec<String> {
        self.patterns.exact().map(str::to_owned).collect()
    }

    /// Number of the chain of a cgroup, if a pattern matches this very path: what is below one that does has its chain
    /// anyway. The second is how many limits found no place.
    pub fn chain(&mut self, path: &str, ledger: &mut Ledger) -> Option<(u32, usize)> {
        if self.patterns.matching(path).is_empty() {
            return None;
        }
        let matching: Vec<(&str, usize)> = ancestry(path)
            .flat_map(|above| self.patterns.matching(above).into_iter().map(move |number| (above, number)))
            .collect();
        let mut chain = Chain::NONE;
        let (mut purses, mut marks) = (Vec::new(), Vec::new());
        for (at, number) in matching {
            match &self.does[number] {
                Does::Mark(mark) => marks.push(*mark),
                Does::ByHand { blocked, until } => {
                    // The inner one speaks, and of two for the same cgroup the later.
                    chain.flags &= !(chain_flag::ALLOWED | chain_flag::BLOCKED);
                    chain.flags |= if *blocked { chain_flag::BLOCKED } else { chain_flag::ALLOWED };
                    chain.until = *until;
                }
                Does::Plan { base, purse } => {
                    chain.flags |= chain_flag::BASE;
                    chain.base = *base;
                    if base.action == Action::Closed as u8 {
                        chain.flags |= chain_flag::CLOSED;
                    }
                    match purse {
                        Shared::Nothing => {}
                        Shared::Purse(number) => purses.push(*number),
                        Shared::Each(template) => {
                            let own = self.own_purses.entry((number, at.to_owned())).or_insert_with(|| {
                                let hash = template.scope.id.rotate_left(1) ^ path_hash(at.as_bytes());
                                let scope = Account::new(kind::RULE, hash);
                                ledger.purse(Purse { scope, ..*template }, at.to_owned())
                            });
                            purses.push(*own);
                        }
                    }
                }
            }
        }
        marks.dedup();
        let left_out = purses.len().saturating_sub(LINKS) + marks.len().saturating_sub(LINKS);
        purses.iter().take(LINKS).enumerate().for_each(|(link, number)| chain.purses[link] = *number);
        marks.iter().take(LINKS).enumerate().for_each(|(link, number)| chain.marks[link] = *number);
        Some((ledger.chain(chain), left_out))
    }
}

fn purse(pattern: &Pattern, entry: &RuleEntry, plan: &Plan, moment: Moment) -> Purse {
    let scope = Account::new(kind::RULE, path_hash(pattern.as_str().as_bytes()));
    let mut purse = limits::purse(Level::Cgroup, scope, moment.quotas(plan), Some(plan));
    if entry.strict {
        purse.flags |= purse_flag::STRICT;
    }
    purse
}

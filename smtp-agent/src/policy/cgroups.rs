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
    Plan { base: Rule, purse: Shared, total: Option<u32> },
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

    /// A `[[rule]] cgroup`. `total` is the purse of its plan's total.
    pub fn rule(
        &mut self,
        config: &Config,
        pattern: &Pattern,
        entry: &RuleEntry,
        moment: Moment,
        total: Option<u32>,
        ledger: &mut Ledger,
    ) {
        // Its limits are the purse's alone; what is left, the brake, holds for each account in it.
        let rule = limits::rule(config, entry.plan, Origin::RuleCgroup, moment);
        let base = Rule { hour: Limit::NONE, day: Limit::NONE, ..limits::without_units(config, rule) };
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
        self.add(pattern, Does::Plan { base, purse, total });
    }

    /// A pattern that exceptions speak of.
    pub fn mark(&mut self, pattern: &Pattern, number: u32) {
        self.add(pattern, Does::Mark(number));
    }

    pub fn by_hand(&mut self, pattern: &Pattern, blocked: bool, until: u64) {
        self.add(pattern, Does::ByHand { blocked, until });
    }

    /// Numbers of the purses that a `[[rule]] cgroup` with this pattern has filled or can fill: one for all, or one for each
    /// cgroup that was found.
    pub fn purses_of(&self, pattern: &Pattern) -> Vec<u32> {
        let of = |rule: usize| match &self.does[rule] {
            Does::Plan { purse: Shared::Purse(number), .. } => vec![*number],
            Does::Plan { purse: Shared::Each(_), .. } => {
                self.own_purses.iter().filter(|((of, _), _)| *of == rule).map(|(_, number)| *number).collect()
            }
            _ => Vec::new(),
        };
        self.patterns.numbers_of(pattern).flat_map(of).collect()
    }

    /// Paths that will match once they are there.
    pub fn exact_paths(&self) -> Vec<String> {
        self.patterns.exact().map(str::to_owned).collect()
    }

    /// Whether a pattern matches this very path: what is below one that does has its chain anyway.
    pub fn matches(&self, path: &str) -> bool {
        !self.patterns.matching(path).is_empty()
    }

    /// Number of the chain of a path, by its own rules and those of what it lies in; 0 for none. The second is how many
    /// limits found no place.
    pub fn chain(&mut self, path: &str, ledger: &mut Ledger) -> (u32, usize) {
        let matching: Vec<(&str, usize)> = ancestry(path)
            .flat_map(|above| self.patterns.matching(above).into_iter().map(move |number| (above, number)))
            .collect();
        let mut chain = Chain::NONE;
        let (mut purses, mut marks) = (Vec::new(), Vec::new());
        for (at, number) in matching {
            match &self.does[number] {
                Does::Mark(mark) => push_last(&mut marks, *mark),
                Does::ByHand { blocked, until } => {
                    // The inner one speaks, and of two for the same cgroup the later.
                    chain.flags &= !(chain_flag::ALLOWED | chain_flag::BLOCKED);
                    chain.flags |= if *blocked { chain_flag::BLOCKED } else { chain_flag::ALLOWED };
                    chain.until = *until;
                }
                Does::Plan { base, purse, total } => {
                    chain.flags |= chain_flag::BASE;
                    chain.base = *base;
                    if base.action == Action::Closed as u8 {
                        chain.flags |= chain_flag::CLOSED;
                    }
                    total.iter().for_each(|total| push_last(&mut purses, *total));
                    match purse {
                        Shared::Nothing => {}
                        Shared::Purse(number) => push_last(&mut purses, *number),
                        Shared::Each(template) => {
                            let own = self.own_purses.entry((number, at.to_owned())).or_insert_with(|| {
                                let hash = template.scope.id.rotate_left(1) ^ path_hash(at.as_bytes());
                                let scope = Account::new(kind::RULE, hash);
                                ledger.purse(Purse { scope, ..*template }, at.to_owned())
                            });
                            push_last(&mut purses, *own);
                        }
                    }
                }
            }
        }
        let left_out = purses.len().saturating_sub(LINKS) + marks.len().saturating_sub(LINKS);
        keep_strictest(&mut purses, ledger);
        purses.iter().enumerate().for_each(|(link, number)| chain.purses[link] = *number);
        // Of exceptions the inner ones speak first.
        let inner = &marks[marks.len().saturating_sub(LINKS)..];
        inner.iter().enumerate().for_each(|(link, number)| chain.marks[link] = *number);
        (ledger.chain(chain), left_out)
    }
}

/// Of more limits than a chain has room for those that are surely not used up first are left out, as far as their numbers
/// tell.
fn keep_strictest(purses: &mut Vec<u32>, ledger: &Ledger) {
    if purses.len() <= LINKS {
        return;
    }
    let per_hour = |number: &u32| {
        let Purse { hour, day, messages, recipients, .. } = ledger.purses()[*number as usize - 1];
        let in_a_day = [day.limit, messages.day, recipients.day].map(|limit| limit / 24);
        [hour.limit, messages.hour, recipients.hour].into_iter().chain(in_a_day).min()
    };
    let mut strictest = purses.clone();
    strictest.sort_by_key(per_hour);
    strictest.truncate(LINKS);
    purses.retain(|number| strictest.contains(number));
}

/// A pattern can match a cgroup and one inside it: it counts once, where it matched last.
fn push_last(numbers: &mut Vec<u32>, number: u32) {
    numbers.retain(|known| *known != number);
    numbers.push(number);
}

fn purse(pattern: &Pattern, entry: &RuleEntry, plan: &Plan, moment: Moment) -> Purse {
    let scope = Account::new(kind::RULE, path_hash(pattern.as_str().as_bytes()));
    let mut purse = limits::purse(Level::Cgroup, scope, moment.quotas(plan), Some(plan));
    if entry.strict {
        purse.flags |= purse_flag::STRICT;
    }
    purse
}

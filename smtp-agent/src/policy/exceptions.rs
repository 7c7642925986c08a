//! Exceptions: rules with a destination, a port or several subjects.

use std::collections::{BTreeMap, HashMap, HashSet};

use smtp_common::{
    connection::{Account, Address, Port},
    level::{ExceptionKey, Exceptions, shape},
    rule::Action,
};

use super::compile::Compiler;
use crate::config::{ExceptionEntry, Pattern};

/// One entry of the kernel's trie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception {
    /// Number of the cgroup's pattern; 0 for any cgroup.
    pub mark: u32,
    /// `None`: anybody.
    pub account: Option<Account>,
    /// 0: any.
    pub port: Port,
    pub address: Address,
    /// How many bits of the key count.
    pub bits: u32,
    pub action: Action,
}

impl Exception {
    pub fn key(&self, generation: u32) -> ExceptionKey {
        ExceptionKey::new(generation, self.mark, self.account, self.port, self.address)
    }

    fn shape(&self) -> u32 {
        let bit = |set, bit| if set { bit } else { 0 };
        bit(self.account.is_some(), shape::ACCOUNT)
            | bit(self.mark != 0, shape::CGROUP)
            | bit(self.port != 0, shape::PORT)
    }
}

/// The entries of one policy, asked as the kernel asks its trie: of generation 0.
pub struct List {
    /// By length, what keys that begin so are told.
    prefixes: BTreeMap<u32, HashMap<ExceptionKey, Action>>,
}

impl List {
    pub fn of(entries: &[Exception]) -> Self {
        let mut prefixes: BTreeMap<u32, HashMap<_, _>> = BTreeMap::new();
        for entry in entries {
            let prefix = beginning(&entry.key(0), entry.bits);
            prefixes.entry(entry.bits).or_default().entry(prefix).or_insert(entry.action);
        }
        Self { prefixes }
    }
}

impl Exceptions for List {
    fn exception(&self, key: &ExceptionKey) -> Option<u8> {
        let mut longest = self.prefixes.iter().rev();
        longest.find_map(|(bits, prefixes)| prefixes.get(&beginning(key, *bits))).map(|action| *action as u8)
    }
}

/// A key's first bits: all that come before the address, and so much of that.
fn beginning(key: &ExceptionKey, bits: u32) -> ExceptionKey {
    let mut address = key.address;
    for (at, word) in address.0.iter_mut().enumerate() {
        let beyond = (ExceptionKey::HEAD + 32 * (at as u32 + 1)).saturating_sub(bits);
        *word &= u32::MAX.checked_shl(beyond).unwrap_or(0).to_be();
    }
    ExceptionKey { address, ..*key }
}

/// Which shapes there are, as [`smtp_common::rule::Policy::exceptions`] has them.
pub fn shapes(exceptions: &[Exception]) -> u32 {
    exceptions.iter().fold(0, |shapes, exception| shapes | 1 << exception.shape())
}

/// The entries, and the patterns of cgroups they speak of with their numbers. Of two for the same connections the earlier
/// holds.
pub(super) fn compile(compiler: &mut Compiler<'_>) -> (Vec<Exception>, Vec<(Pattern, u32)>) {
    let mut entries = Vec::new();
    let mut marks: HashMap<&Pattern, u32> = HashMap::new();
    let mut order = Vec::new();
    for entry in &compiler.config().exceptions {
        let Some(accounts) = accounts(compiler, entry) else { continue };
        let mark = entry.cgroup.as_ref().map_or(0, |pattern| {
            *marks.entry(&pattern.value).or_insert_with(|| {
                order.push(pattern.value.clone());
                order.len() as u32
            })
        });
        // With a destination it is meant as it stands; a port alone leaves the local MTA open, as the plan "deny" does.
        let action = match (entry.allow, entry.to.is_empty()) {
            (true, _) => Action::Exempt,
            (false, true) => Action::Closed,
            (false, false) => Action::Deny,
        };
        for account in accounts {
            for &port in if entry.ports.is_empty() { &[0][..] } else { &entry.ports } {
                let with = |address, bits| Exception { mark, account, port, address, bits, action };
                if entry.to.is_empty() {
                    entries.extend([Address::v4(0), Address::v6([0; 4])].map(|any| with(any, ExceptionKey::HEAD)));
                }
                entries.extend(entry.to.iter().map(|network| {
                    let bits = network.prefix as u32 + if network.address.is_ipv4() { 96 } else { 0 };
                    with(Address::from(network.address), ExceptionKey::HEAD + bits)
                }));
            }
        }
    }
    let mut seen = HashSet::new();
    entries.retain(|entry: &Exception| seen.insert((entry.key(0), entry.bits)));
    let marks = order.into_iter().zip(1..).collect();
    (entries, marks)
}

/// Whom it speaks of: `[None]` for anybody; `None` for nobody that this host has.
fn accounts(compiler: &mut Compiler<'_>, entry: &ExceptionEntry) -> Option<Vec<Option<Account>>> {
    const LIST: &str = "[[rule]]";
    let user = match &entry.user {
        Some(name) => Some(compiler.uid(name, LIST)?),
        None => None,
    };
    let members = match &entry.group {
        Some(name) => Some(compiler.gid(name, LIST).map(|gid| compiler.members(gid))?),
        None => None,
    };
    let uids = match (user, members) {
        (None, None) => return Some(vec![None]),
        (Some(uid), None) => vec![uid],
        (None, Some(members)) => members,
        (Some(uid), Some(members)) => members.into_iter().filter(|member| *member == uid).collect(),
    };
    Some(uids.into_iter().map(|uid| Some(Account::user(uid))).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        /// Of few accounts, ports and addresses, so that they meet.
        fn key()(mark in 0..2_u32, user in prop::option::of(0..2_u32), port in 0..2_u16, v4: bool, words: [u32; 4], near in 0..9_usize)
            -> (u32, Option<Account>, Port, Address) {
            let near = [0, 1, 0x8000_0000, 0xffff_0000, u32::MAX].get(near).copied();
            let words = words.map(|word| near.unwrap_or(word).to_be());
            let address = if v4 { Address::v4(words[3]) } else { Address::v6(words) };
            (mark, user.map(Account::user), port, address)
        }
    }

    proptest! {
        #[test]
        fn the_longest_prefix_speaks_as_in_a_search_through_all(
            entries in prop::collection::vec((key(), 0..=128_u32), 0..40), asked in prop::collection::vec(key(), 1..20),
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .zip(0..)
                .map(|(((mark, account, port, address), bits), at): (_, usize)| {
                    let action = [Action::Exempt, Action::Deny, Action::Closed][at % 3];
                    Exception { mark, account, port, address, bits: ExceptionKey::HEAD + bits, action }
                })
                .collect();
            let list = List::of(&entries);
            let own = entries.iter().map(|entry| entry.key(0));
            let others = asked.into_iter().map(|(mark, account, port, to)| ExceptionKey::new(0, mark, account, port, to));
            for key in own.chain(others) {
                // Of two that are alike the first holds.
                let holds = entries.iter().rev().filter(|entry| entry.key(0).shares(&key, entry.bits));
                let wanted = holds.max_by_key(|entry| entry.bits).map(|entry| entry.action as u8);
                prop_assert_eq!(list.exception(&key), wanted);
            }
        }
    }
}

//! Exceptions: rules with a destination, a port or several subjects.

use std::collections::{HashMap, HashSet};

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
pub struct List<'a>(pub &'a [Exception]);

impl Exceptions for List<'_> {
    fn exception(&self, key: &ExceptionKey) -> Option<u8> {
        let holds = self.0.iter().filter(|entry| entry.key(0).shares(key, entry.bits));
        holds.max_by_key(|entry| entry.bits).map(|entry| entry.action as u8)
    }
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

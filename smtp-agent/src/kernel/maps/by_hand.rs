//! What was said by hand, in the maps: of accounts in a map of its own, of cgroups in their chains. And the other thing a
//! hand can do: letting somebody begin anew.

use std::collections::HashMap as Table;

use aya::maps::MapError;
use smtp_common::{
    connection::{Account, Cgroup},
    level::{ByHand, chain_flag},
    names::map,
    rule::Rules,
    window::{Lane, Span, WindowKey},
};

use super::{Maps, entries, failed, install::put};
use crate::exit::Result;

fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(e) => e.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

impl Maps {
    /// What was said of accounts, lapsed or not.
    pub fn said_by_hand(&self) -> Result<Vec<(Account, ByHand)>> {
        entries(&self.by_hand, map::BY_HAND)
    }

    /// What was said of cgroups that are there, lapsed or not: the chains of those a pattern matches hold it.
    pub fn said_of_cgroups(&self) -> Result<Vec<(Cgroup, ByHand)>> {
        let generation = self.active()?;
        let mut all = entries(&self.cgroups, map::CGROUPS)?;
        all.retain(|(key, _)| key.generation == generation);
        let said = all.into_iter().filter_map(|(key, path)| {
            let chain = self.chain_of(path)?;
            let hand = ByHand { until: chain.until, blocked: chain.has(chain_flag::BLOCKED) as u32, _pad: 0 };
            let cgroup = Cgroup { id: key.id, v1: key.v1 != 0 };
            chain.has(chain_flag::ALLOWED | chain_flag::BLOCKED).then_some((cgroup, hand))
        });
        Ok(said.collect())
    }

    /// Makes what was said of accounts the given. What is in both stays throughout.
    pub fn set_by_hand(&mut self, said: &[(Account, ByHand)]) -> Result<()> {
        let old: Table<Account, ByHand> = self.said_by_hand()?.into_iter().collect();
        let new: Table<Account, ByHand> = said.iter().copied().collect();
        let changed = said.iter().filter(|(account, hand)| old.get(account) != Some(hand));
        put(&self.by_hand, map::BY_HAND, changed.copied())?;
        for account in old.keys().filter(|account| !new.contains_key(account)) {
            self.by_hand.remove(account).map_err(|e| failed(map::BY_HAND, &e))?;
        }
        Ok(())
    }

    /// Lets an account, or all that share a purse, begin anew: its windows are emptied and its failure brake let go. Returns
    /// whether something was charged in a window that has not slid away.
    pub fn release(&mut self, scope: Account) -> Result<bool> {
        let mut charged = false;
        for lane in Lane::ALL {
            let used = self.used(scope, lane)?;
            match self.windows.remove(&WindowKey::new(scope, lane)) {
                Ok(()) => charged |= Span::ALL.iter().any(|span| used.of(*span).total > 0),
                Err(e) if is_absent(&e) => {}
                Err(e) => return Err(failed(map::WINDOWS, &e)),
            }
        }
        match self.brakes.remove(&scope) {
            Err(e) if !is_absent(&e) => Err(failed(map::BRAKES, &e)),
            _ => Ok(charged),
        }
    }
}

//! Windows, counters, tripped brakes and accounts taken out of the maps, and put back into those of a fresh gate.

use smtp_common::{
    connection::Account,
    counter::{AccountState, CounterKey},
    names::{Tripped, map},
    tally::TallyKey,
    window::{LockedWindows, WindowKey, Windows},
};

use super::{Maps, entries, failed, text, walk};
use crate::exit::Result;

/// What a fresh gate begins with.
#[derive(Default)]
pub struct Begin {
    pub windows: Vec<(WindowKey, Windows)>,
    pub counters: Vec<(CounterKey, u64)>,
    pub tallies: Vec<(TallyKey, u64)>,
    /// In the order in which they were first seen.
    pub accounts: Vec<Account>,
    pub brakes: Vec<(Account, Tripped)>,
    /// Containers with their names and identities.
    pub names: Vec<(Account, String, u64)>,
}

impl Maps {
    /// Every window there is, each as a whole.
    pub fn all_windows(&self) -> Result<Vec<(WindowKey, Windows)>> {
        let mut keys = Vec::new();
        walk(&self.windows, map::WINDOWS, |key, _| keys.push(key))?;
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            all.extend(self.windows(&key)?.map(|windows| (key, windows)));
        }
        Ok(all)
    }

    /// Every brake that was tripped, whether it holds or not.
    pub fn all_brakes(&self) -> Result<Vec<(Account, Tripped)>> {
        entries(&self.brakes, map::BRAKES)
    }

    /// What a container is called, and what it is known by where that is known.
    pub fn identified(&self, account: Account) -> Option<(String, u64)> {
        let name = self.names.get(&account, 0).ok()?;
        (name.identity != 0).then(|| (text(&name), name.identity))
    }

    /// Puts back what was taken out of the maps of another boot. For a gate that is not attached yet.
    pub fn begin_with(&mut self, begin: &Begin) -> Result<()> {
        for (key, windows) in &begin.windows {
            let locked = LockedWindows { windows: *windows, ..LockedWindows::default() };
            self.windows.insert(key, locked, 0).map_err(|e| failed(map::WINDOWS, &e))?;
        }
        for (key, count) in &begin.counters {
            self.counters.insert(key, count, 0).map_err(|e| failed(map::COUNTERS, &e))?;
        }
        for (key, count) in &begin.tallies {
            self.tallies.insert(key, count, 0).map_err(|e| failed(map::TALLIES, &e))?;
        }
        for (account, tripped) in &begin.brakes {
            self.brakes.insert(account, tripped, 0).map_err(|e| failed(map::BRAKES, &e))?;
        }
        for (account, name, identity) in &begin.names {
            self.set_name(*account, name, *identity)?;
        }
        for (order, account) in begin.accounts.iter().enumerate() {
            // Before everyone who is seen from now on.
            let state = AccountState { first_seen: order as u64 + 1, last_seen: 0, second: 0, events: [0; 4], _pad: 0 };
            self.accounts.insert(account, state, 0).map_err(|e| failed(map::ACCOUNTS, &e))?;
        }
        Ok(())
    }
}

//! Windows, counters and accounts taken out of the maps, and put back into those of a fresh gate.

use smtp_common::{
    connection::Account,
    counter::{AccountState, CounterKey},
    names::map,
    tally::TallyKey,
    window::{LockedWindows, WindowKey, Windows},
};

use super::{Maps, failed, walk};
use crate::exit::Result;

/// What a fresh gate begins with.
#[derive(Default)]
pub struct Begin {
    pub windows: Vec<(WindowKey, Windows)>,
    pub counters: Vec<(CounterKey, u64)>,
    pub tallies: Vec<(TallyKey, u64)>,
    /// In the order in which they were first seen.
    pub accounts: Vec<Account>,
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
        for (order, account) in begin.accounts.iter().enumerate() {
            // Before everyone who is seen from now on.
            let state = AccountState { first_seen: order as u64 + 1, last_seen: 0, second: 0, events: [0; 4], _pad: 0 };
            self.accounts.insert(account, state, 0).map_err(|e| failed(map::ACCOUNTS, &e))?;
        }
        Ok(())
    }
}

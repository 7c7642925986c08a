//! Which accounts have a label of their own.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use smtp_common::{connection::Account, names::capacity, tally::TallyKey};

use super::families::Result;
use crate::{accounts::label::OTHER, daemon::shared::Shared, kernel::maps::Maps};

/// The first accounts that were seen, up to the cap, so that a label once given is kept over restarts and no counter
/// ever falls.
pub(super) struct Named {
    pub(super) labels: HashMap<Account, String>,
    /// In the order they were seen.
    pub(super) seen: Vec<Account>,
    /// How many may have one.
    pub(super) room: usize,
}

impl Named {
    pub(super) fn of(shared: &Shared, maps: &Maps, tallies: &[(TallyKey, u64)]) -> Result<Self> {
        let room = shared.status.max_users.load(Ordering::Relaxed);
        let accounts = maps.accounts()?.into_iter().map(|(account, _)| account).collect();
        let seen = with_tallied(accounts, tallies);
        let label = |account| shared.naming.label(account, maps);
        Ok(Self::first(room, seen, label))
    }

    pub(super) fn first(room: usize, seen: Vec<Account>, name: impl Fn(Account) -> String) -> Self {
        let mut labels = HashMap::new();
        let mut taken = HashSet::new();
        for &account in &seen {
            let label = name(account);
            // Two accounts may share a name: a container that was started anew has the label it had.
            if taken.contains(&label) || taken.len() < room {
                taken.insert(label.clone());
                labels.insert(account, label);
            }
        }
        Self { labels, seen, room }
    }

    pub(super) fn label(&self, account: Account) -> &str {
        self.labels.get(&account).map_or(OTHER, String::as_str)
    }
}

/// A session that was open before the gate stood is counted before its account is known for a connection of its own.
/// Under `other` until then, its counts would leave `other` again, and a counter that falls is a reset to Prometheus.
fn with_tallied(mut accounts: Vec<Account>, tallies: &[(TallyKey, u64)]) -> Vec<Account> {
    // An account that found no room there stays `other`.
    if accounts.len() < capacity::ACCOUNTS {
        let known: HashSet<Account> = accounts.iter().copied().collect();
        let mut more: Vec<Account> = tallies.iter().map(|(key, _)| key.account).collect();
        more.retain(|account| *account != Account::OTHER && !known.contains(account));
        more.sort();
        more.dedup();
        accounts.extend(more);
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_common::{connection::Route, tally::family};

    #[test]
    fn accounts_that_only_joined_late_come_last_and_each_once() {
        let [early, late, later] = [9, 7, 8].map(Account::user);
        let tally = |account, which| (TallyKey::new(account, family::UNSEEN, which, Route::Remote), 1);
        let tallies = [tally(later, 1), tally(late, 1), tally(late, 2), tally(early, 1), tally(Account::OTHER, 1)];
        assert_eq!(with_tallied(vec![early], &tallies), [early, late, later]);
    }

    #[test]
    fn the_cap_counts_labels_and_those_who_share_one_share_it() {
        let seen: Vec<_> = (1..=4).map(Account::user).collect();
        let names = Named::first(2, seen, |account| if account.id == 3 { "1".into() } else { account.id.to_string() });
        let labels: Vec<_> = (1..=5).map(|uid| names.label(Account::user(uid))).collect();
        assert_eq!(labels, ["1", "2", "1", OTHER, OTHER]);
    }
}

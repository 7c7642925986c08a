//! The shared purses of a policy and the chains they hang in, by the numbers the kernel knows them by.

use std::collections::HashMap;

use smtp_common::{
    connection::Account,
    level::{Chain, LINKS, Purse, chain_flag, purse_flag},
    window::UNLIMITED,
};

/// Grows by what is entered; what is in it keeps its number.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    purses: Vec<Purse>,
    chains: Vec<Chain>,
    chain_numbers: HashMap<Chain, u32>,
    /// What each purse is called, by the scope of its windows.
    names: Vec<(Account, String)>,
}

impl Ledger {
    /// Enters a purse and returns its number.
    pub fn purse(&mut self, purse: Purse, name: String) -> u32 {
        self.names.push((purse.scope, name));
        self.purses.push(purse);
        self.purses.len() as u32
    }

    /// Enters a chain, unless there is one like it, and returns its number; 0 for one that says nothing. What its purses
    /// limit is noted in it.
    pub fn chain(&mut self, mut chain: Chain) -> u32 {
        for number in chain.purses.into_iter().filter(|&number| number != 0) {
            let Purse { hour, day, messages, recipients, flags, .. } = self.purses[number as usize - 1];
            let flag = |set, flag| if set { flag } else { 0 };
            let units = messages.is_set() || recipients.is_set();
            chain.flags |= flag(hour.is_set() || day.is_set(), chain_flag::CONNECTIONS);
            chain.flags |= flag(units, chain_flag::UNITS);
            chain.flags |= flag(units && flags & purse_flag::LOCAL != 0, chain_flag::LOCAL_UNITS);
            chain.flags |= flag(units && flags & purse_flag::STRICT != 0, chain_flag::STRICT_UNITS);
        }
        if chain == Chain::NONE {
            return 0;
        }
        *self.chain_numbers.entry(chain).or_insert_with(|| {
            self.chains.push(chain);
            self.chains.len() as u32
        })
    }

    /// A chain of purses and nothing else. Those that find no place in it are left out.
    pub fn chain_of(&mut self, purses: &[u32]) -> u32 {
        let mut chain = Chain::NONE;
        purses.iter().take(LINKS).enumerate().for_each(|(link, number)| chain.purses[link] = *number);
        self.chain(chain)
    }

    /// By their numbers, which begin at 1.
    pub fn purses(&self) -> &[Purse] {
        &self.purses
    }

    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    pub fn names(&self) -> &[(Account, String)] {
        &self.names
    }

    pub fn get(&self, number: u32) -> Option<&Chain> {
        self.chains.get((number as usize).checked_sub(1)?)
    }
}

/// Whether a purse limits anything.
pub fn is_set(purse: &Purse) -> bool {
    let Purse { hour, day, messages, recipients, .. } = purse;
    let numbers = [hour.limit, day.limit, messages.hour, messages.day, recipients.hour, recipients.day];
    numbers.into_iter().any(|number| number != UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smtp_common::{level::Level, rule::Limit, window::Both};

    #[test]
    fn chains_that_are_alike_are_one_and_know_what_their_purses_limit() {
        let mut ledger = Ledger::default();
        let purse = Purse::new(Level::Group, Account::user(1));
        let hourly = ledger.purse(Purse { hour: Limit { limit: 1, band: 0 }, ..purse }, "a".to_owned());
        let messages = Purse { messages: Both { hour: 1, day: 1 }, ..purse };
        let messages = ledger.purse(messages, "b".to_owned());
        assert_eq!(ledger.chain_of(&[]), 0);
        let first = ledger.chain_of(&[hourly]);
        assert_eq!((first, ledger.chain_of(&[hourly])), (1, 1));
        assert_eq!(ledger.chain_of(&[hourly, messages]), 2);
        assert_eq!(ledger.get(1).unwrap().flags, chain_flag::CONNECTIONS);
        assert_eq!(ledger.get(2).unwrap().flags, chain_flag::CONNECTIONS | chain_flag::UNITS);
        assert_eq!(ledger.get(0), None);
    }
}

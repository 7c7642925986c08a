//! What exceptions say of what was counted. Counts know the account and the port; where exceptions ask for the destination,
//! events tell how a stretch's connections were shared out among them.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use rusqlite::Result;
use smtp_common::{
    connection::{Account, Address, Port},
    level::{ExceptionKey, LINKS, exception},
};

use crate::{
    policy::exceptions::{Exception, List, shapes},
    store::{Counts, Level, Millis, Reader, read::Counted},
};

/// What no exception names: no address, and the unknown one.
const UNKNOWN: (i64, Address) = (-1, Address([0; 4]));

/// Addresses by their numbers.
type Addresses = HashMap<i64, Address>;
/// What events tell of each account's destinations.
type Went = HashMap<i64, Vec<(i64, Counts)>>;

pub(super) struct Destinations<'a> {
    reader: &'a Reader,
    /// The only account that is asked about.
    of: Option<i64>,
    list: List,
    shapes: u32,
    /// Every destination there was, by port and route; empty where no exception asks for one.
    targets: HashMap<(Port, u8), Addresses>,
    /// What was said already, by account, port and address.
    said: HashMap<(Account, Port, i64), u8>,
    /// The stretch that was looked at last.
    stretch: Option<(Level, Millis)>,
    went: Went,
}

impl<'a> Destinations<'a> {
    /// Exceptions for cgroups are passed over.
    pub(super) fn new(reader: &'a Reader, of: Option<i64>, exceptions: &[Exception]) -> Result<Self> {
        let known: Vec<_> = exceptions.iter().filter(|one| one.mark == 0).copied().collect();
        let mut targets: HashMap<_, Addresses> = HashMap::new();
        if asks(&known) {
            for (number, text, port, route) in reader.targets()? {
                if let Ok(address) = text.parse::<IpAddr>() {
                    targets.entry((port, route)).or_default().insert(number, address.into());
                }
            }
        }
        Ok(Self {
            reader,
            of,
            list: List::of(&known),
            shapes: shapes(&known),
            targets,
            said: HashMap::new(),
            stretch: None,
            went: Went::new(),
        })
    }

    /// What exceptions say of what was counted of an account, each with the part of it of which they do. What no event tells
    /// of went where the rest did.
    pub(super) fn shares(&mut self, counted: &Counted, account: Account) -> Result<Vec<(u8, u64)>> {
        let n = counted.n.max(0) as u64;
        if self.shapes == 0 {
            return Ok(vec![(0, n)]);
        }
        let mut shares = Shares::default();
        if let Some(addresses) = self.targets.get(&(counted.port, counted.route)) {
            let stretch = (counted.level, counted.from);
            if self.stretch != Some(stretch) {
                self.went = self.reader.destinations(counted.level, counted.from, self.of)?;
                self.stretch = Some(stretch);
            }
            for (number, counts) in self.went.get(&counted.account).into_iter().flatten() {
                if let Some(address) = addresses.get(number) {
                    let says = say(&mut self.said, &self.list, self.shapes, account, counted.port, (*number, *address));
                    shares.add(says, counts, counted);
                }
            }
        }
        let unknown = say(&mut self.said, &self.list, self.shapes, account, counted.port, UNKNOWN);
        Ok(shares.of(n, unknown))
    }
}

/// Whether one of them asks for a destination.
pub(super) fn asks(exceptions: &[Exception]) -> bool {
    exceptions.iter().any(|one| one.mark == 0 && one.bits > ExceptionKey::HEAD)
}

fn say(
    said: &mut HashMap<(Account, Port, i64), u8>,
    list: &List,
    shapes: u32,
    account: Account,
    port: Port,
    (number, address): (i64, Address),
) -> u8 {
    *said
        .entry((account, port, number))
        .or_insert_with(|| exception(list, 0, shapes, &[0; LINKS], account, port, address))
}

/// Weights of what exceptions say.
#[derive(Default)]
struct Shares {
    /// Of the very thing that was counted, and of all attempts.
    weights: BTreeMap<u8, [u64; 2]>,
}

impl Shares {
    fn add(&mut self, says: u8, counts: &Counts, counted: &Counted) {
        let weights = self.weights.entry(says).or_default();
        weights[0] += counts.like(counted.what, counted.route, counted.which).max(0) as u64;
        weights[1] += counts.attempts().max(0) as u64;
    }

    /// `n`, shared out to the last. Where nothing has any weight, all of it is the unknown's.
    fn of(&self, n: u64, unknown: u8) -> Vec<(u8, u64)> {
        let sum = |which: usize| self.weights.values().map(|weights| u128::from(weights[which])).sum::<u128>();
        let Some(which) = [0, 1].into_iter().find(|which| sum(*which) > 0) else { return vec![(unknown, n)] };
        let (all, mut before, mut given) = (sum(which), 0, 0);
        let share = |(says, weights): (&u8, &[u64; 2])| {
            before += u128::from(weights[which]);
            let until = ((2 * u128::from(n) * before + all) / (2 * all)) as u64;
            let part = until - given;
            given = until;
            (*says, part)
        };
        self.weights.iter().map(share).filter(|(_, part)| *part > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use smtp_common::{connection::Route, counter::Verdict};

    use super::*;
    use crate::store::record::what;

    fn counted(which: Verdict, n: i64) -> Counted {
        let route = Route::Remote as u8;
        Counted {
            from: 0,
            level: Level::Minute,
            account: 1,
            what: what::CONNECTIONS,
            route,
            port: 25,
            which: which as u8,
            n,
        }
    }

    fn counts(allowed: i64, refused: i64) -> Counts {
        let mut counts = Counts::default();
        counts.0[Verdict::Allowed as usize] = allowed;
        counts.0[Verdict::Refused as usize] = refused;
        counts
    }

    #[test]
    fn what_was_counted_is_shared_out_as_events_tell_and_to_the_last() {
        let of = |which, n| {
            let counted = counted(which, n);
            let mut shares = Shares::default();
            for (says, counts) in [(0, counts(2, 0)), (3, counts(1, 9)), (0, counts(0, 1))] {
                shares.add(says, &counts, &counted);
            }
            shares.of(n as u64, 7)
        };
        assert_eq!(of(Verdict::Allowed, 3), [(0, 2), (3, 1)]);
        assert_eq!(of(Verdict::Allowed, 100), [(0, 67), (3, 33)]);
        assert_eq!(of(Verdict::Refused, 4), [(3, 4)], "a tenth of four is none");
        assert_eq!(of(Verdict::Refused, 1000), [(0, 100), (3, 900)]);
        // No event tells of these: they went where all went.
        assert_eq!(of(Verdict::Deferred, 13), [(0, 3), (3, 10)]);
        assert_eq!(Shares::default().of(5, 7), [(7, 5)]);
    }
}

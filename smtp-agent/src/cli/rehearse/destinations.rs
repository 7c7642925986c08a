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
    store::{
        Counts, Level, Millis, Reader,
        counts::{column_of, is_passed},
        read::Counted,
        record::what,
    },
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
    /// The stretch that was looked at last, and what went where in it.
    stretch: Option<(Level, Millis)>,
    went: Went,
    /// Connections of one account in it that were let through, by route and port.
    passed: BTreeMap<(u8, Port), u64>,
    passed_of: Option<i64>,
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
            passed: BTreeMap::new(),
            passed_of: None,
        })
    }

    /// What exceptions say of what was counted of an account, each with the part of it of which they do. What no event tells
    /// of went where the rest did. Connections of an account come before its messages, which are counted without a port.
    pub(super) fn shares(&mut self, counted: &Counted, account: Account) -> Result<Vec<(u8, u64)>> {
        let n = counted.n.max(0) as u64;
        if self.shapes == 0 {
            return Ok(vec![(0, n)]);
        }
        self.turn_to(counted)?;
        if counted.what == what::CONNECTIONS && is_passed(counted.which) {
            *self.passed.entry((counted.route, counted.port)).or_default() += n;
        }
        let ports: Vec<_> = if counted.what == what::CONNECTIONS {
            vec![(counted.port, n)]
        } else {
            let of_route = (counted.route, Port::MIN)..=(counted.route, Port::MAX);
            self.passed.range(of_route).map(|((_, port), passed)| (*port, *passed)).collect()
        };
        let (list, shapes) = (&self.list, self.shapes);
        let mut say = |port, (number, address)| {
            let said = self.said.entry((account, port, number));
            *said.or_insert_with(|| exception(list, 0, shapes, &[0; LINKS], account, port, address))
        };
        let mut shares = Shares::default();
        let column = column_of(counted.what, counted.which);
        let went = self.went.get(&counted.account).map_or(&[][..], Vec::as_slice);
        for (port, weight) in ports {
            let addresses = self.targets.get(&(port, counted.route));
            for (number, counts) in went {
                if let Some(address) = addresses.and_then(|addresses| addresses.get(number)) {
                    let like = column.and_then(|column| counts.0.get(column)).copied().unwrap_or_default();
                    let weights = [like, counts.attempts()];
                    shares.add(say(port, (*number, *address)), weights.map(|n| n.max(0) as u64), 0);
                }
            }
            shares.add(say(port, UNKNOWN), [0, 0], weight);
        }
        Ok(shares.of(n, say(counted.port, UNKNOWN)))
    }

    fn turn_to(&mut self, counted: &Counted) -> Result<()> {
        let stretch = Some((counted.level, counted.from));
        if self.stretch != stretch && !self.targets.is_empty() {
            self.went = self.reader.destinations(counted.level, counted.from, self.of)?;
        }
        if self.stretch != stretch || self.passed_of != Some(counted.account) {
            self.passed.clear();
        }
        (self.stretch, self.passed_of) = (stretch, Some(counted.account));
        Ok(())
    }
}

/// Whether one of them asks for a destination.
pub(super) fn asks(exceptions: &[Exception]) -> bool {
    exceptions.iter().any(|one| one.mark == 0 && one.bits > ExceptionKey::HEAD)
}

/// Weights of what exceptions say.
#[derive(Default)]
struct Shares {
    /// By events, of the very thing that was counted and of all attempts; and by connections that were counted.
    weights: BTreeMap<u8, [u64; 3]>,
}

impl Shares {
    fn add(&mut self, says: u8, [like, attempts]: [u64; 2], counted: u64) {
        let weights = self.weights.entry(says).or_default();
        weights.iter_mut().zip([like, attempts, counted]).for_each(|(sum, weight)| *sum += weight);
    }

    /// `n`, shared out to the last by the first weights that there are; where there are none, all of it is the unknown's.
    fn of(&self, n: u64, unknown: u8) -> Vec<(u8, u64)> {
        let sum = |which: usize| self.weights.values().map(|weights| u128::from(weights[which])).sum::<u128>();
        let Some(which) = (0..3).find(|which| sum(*which) > 0) else { return vec![(unknown, n)] };
        let (all, mut before, mut given) = (sum(which), 0, 0);
        let share = |(says, weights): (&u8, &[u64; 3])| {
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
    use super::*;

    #[test]
    fn what_was_counted_is_shared_out_by_the_best_weights_and_to_the_last() {
        // Of 10 attempts that events tell of, 2 and 1 of the very kind; 4 connections counted.
        let of = |n, like: [u64; 2], attempts: [u64; 2]| {
            let mut shares = Shares::default();
            shares.add(0, [like[0], attempts[0]], 0);
            shares.add(3, [like[1], attempts[1]], 0);
            shares.add(5, [0, 0], 4);
            shares.of(n, 7)
        };
        assert_eq!(of(3, [2, 1], [9, 1]), [(0, 2), (3, 1)]);
        assert_eq!(of(100, [2, 1], [9, 1]), [(0, 67), (3, 33)]);
        assert_eq!(of(4, [1, 9], [9, 1]), [(3, 4)], "a tenth of four is none");
        assert_eq!(of(u64::MAX, [1, 1], [9, 1]), [(0, 1 << 63), (3, (1 << 63) - 1)]);
        // No event tells of any of the kind: they went where all went.
        assert_eq!(of(13, [0, 0], [3, 10]), [(0, 3), (3, 10)]);
        assert_eq!(of(13, [0, 0], [0, 0]), [(5, 13)]);
        assert_eq!(Shares::default().of(5, 7), [(7, 5)]);
    }
}

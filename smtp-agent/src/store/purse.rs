//! What names may cost: how many rows of them, and how many octets, one account and all together may add.
//!
//! Octets are a share of `max_size`: whoever makes up long names fills the disk no sooner than who makes up many.

use std::collections::HashMap;

use super::{record::Millis, schema::Level};

/// Accounts that are remembered at a time.
const REMEMBERED: usize = 50_000;
/// Of `max_size`, what names of one kind may take at once and in each hour: with all kinds about half of it in a month.
const AT_ONCE: u64 = 32;
const AN_HOUR: u64 = 4_096;
/// Of what all may add, the part that one account may.
const OWN: f64 = 4.0;

/// What may be there at once, and what comes back in each hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Purse {
    pub(super) burst: f64,
    pub(super) per_hour: f64,
}

/// Of one account, and of all.
pub(super) type Purses = [Purse; 2];

/// The octets that names of one kind may take in a history of this size.
pub(super) fn octets(max_size: u64) -> Purses {
    let all = Purse { burst: (max_size / AT_ONCE) as f64, per_hour: (max_size / AN_HOUR) as f64 };
    [Purse { burst: all.burst / OWN, per_hour: all.per_hour / OWN }, all]
}

/// What is left of rows and octets, of each account and of all (`None`), and since when.
#[derive(Default)]
pub(super) struct Budget(HashMap<Option<i64>, ([f64; 2], Millis)>);

impl Budget {
    /// Takes one row of so many octets, if both purses of the account and of all hold that much.
    pub(super) fn take(&mut self, account: i64, rows: Purses, octets: Purses, size: usize, now: Millis) -> bool {
        if self.0.len() > REMEMBERED {
            self.0.retain(|account, _| account.is_none());
        }
        let cost = [1.0, size as f64];
        let parties = [(Some(account), [rows[0], octets[0]]), (None, [rows[1], octets[1]])];
        let left = parties.map(|(whose, purses)| {
            let (had, since) = self.0.get(&whose).copied().unwrap_or((purses.map(|purse| purse.burst), now));
            let hours = (now - since).max(0) as f64 / Level::Hour.millis() as f64;
            let has = [0, 1].map(|of| (had[of] + hours * purses[of].per_hour).min(purses[of].burst));
            (whose, has, now.max(since))
        });
        let may = left.iter().all(|(_, has, _)| has.iter().zip(cost).all(|(has, cost)| *has >= cost));
        for (whose, has, since) in left {
            let less = if may { [has[0] - cost[0], has[1] - cost[1]] } else { has };
            self.0.insert(whose, (less, since));
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDLESS: Purses = [Purse { burst: 1e12, per_hour: 0.0 }; 2];
    const TWO: Purses = [Purse { burst: 3.0, per_hour: 2.0 }, Purse { burst: 5.0, per_hour: 2.0 }];

    #[test]
    fn a_purse_of_names_fills_up_again_and_one_account_cannot_empty_it_for_all() {
        let mut budget = Budget::default();
        let mut taken = |account, now| (0..10).filter(|_| budget.take(account, TWO, ENDLESS, 9, now)).count();
        assert_eq!(taken(1, 0), 3);
        assert_eq!(taken(2, 0), 2, "what is left of all");
        assert_eq!(taken(1, 0), 0);
        let hour = Level::Hour.millis();
        assert_eq!(taken(1, hour), 2);
        assert_eq!(taken(2, hour), 0);
        assert_eq!(taken(1, hour * 1000), 3, "never more than the purse holds");
        assert_eq!(taken(1, 0), 0, "a clock that is set back fills nothing");
    }

    #[test]
    fn octets_are_counted_as_rows_are() {
        let mut budget = Budget::default();
        let mut taken = |account, size| (0..10).filter(|_| budget.take(account, ENDLESS, TWO, size, 0)).count();
        assert_eq!(taken(1, 2), 1, "one octet is left");
        assert_eq!(taken(1, 1), 1);
        assert_eq!(taken(2, 2), 1, "what is left of all");
        assert_eq!(taken(3, 1), 0);
    }

    #[test]
    fn what_names_of_all_kinds_may_take_in_a_month_leaves_room_for_events() {
        for max_size in [16 << 20, 512 << 20] {
            let [own, all] = octets(max_size);
            let month = |purse: Purse| 3.0 * (purse.burst + 31.0 * 24.0 * purse.per_hour) / max_size as f64;
            assert!((0.5..0.7).contains(&month(all)), "{}", month(all));
            assert!(month(own) < 0.2, "{}", month(own));
        }
    }
}

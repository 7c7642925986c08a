//! Sums by minute, hour and day, kept in step with the events of the same transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Result};

use super::{
    counts::Counts,
    record::Millis,
    schema::{Kept, Level, OTHER},
};

/// Whose sum it is: level, by what, stretch, account, value. The order is that of the table.
type Key = (u8, u8, i64, i64, i64);
/// Stretches whose pairs are remembered.
const REMEMBERED: usize = 128;
/// Of the room of a stretch, the part that one account may have.
const OWN: usize = 4;

/// Sums that are not written yet.
#[derive(Default)]
pub(super) struct Rollups {
    sums: BTreeMap<Key, Counts>,
    /// What each stretch has room for.
    stretches: HashMap<(u8, u8, i64), Stretch>,
}

/// The pairs of account and value that a stretch has.
#[derive(Default)]
struct Stretch {
    pairs: HashSet<(i64, i64)>,
    /// How many values each account has in it.
    values: HashMap<i64, usize>,
}

impl Stretch {
    fn insert(&mut self, pair: (i64, i64)) {
        if self.pairs.insert(pair) && pair.1 != OTHER {
            *self.values.entry(pair.0).or_default() += 1;
        }
    }

    /// The pair, or what stands for it where there are too many, of all or of its account.
    fn room_for(&mut self, level: Level, pair: (i64, i64)) -> (i64, i64) {
        if self.pairs.contains(&pair) {
            return pair;
        }
        let others = (pair.0, OTHER);
        let own = self.values.get(&pair.0).copied().unwrap_or_default();
        let stands = if self.pairs.len() < level.room() && own < level.room() / OWN {
            pair
        } else if self.pairs.contains(&others) || self.pairs.len() < 2 * level.room() {
            others
        } else {
            (OTHER, OTHER)
        };
        self.insert(stands);
        stands
    }
}

impl Rollups {
    /// Adds an event: one value for each way in which sums are kept. `minutes` is whether those of its time are still kept.
    pub(super) fn add(
        &mut self,
        db: &Connection,
        time: Millis,
        minutes: bool,
        account: i64,
        values: [i64; Kept::ALL.len()],
        counts: Counts,
    ) -> Result<()> {
        let levels = if minutes { &Level::ALL[..] } else { &Level::ALL[1..] };
        for (by, value) in Kept::ALL.into_iter().zip(values) {
            for &level in levels {
                let bucket = level.bucket(time);
                let (account, value) = self.with_room(db, level, by, bucket, (account, value))?;
                *self.sums.entry((level as u8, by as u8, bucket, account, value)).or_default() += counts;
            }
        }
        Ok(())
    }

    /// The pair, or what stands for it where its stretch has no room for it.
    fn with_room(
        &mut self,
        db: &Connection,
        level: Level,
        by: Kept,
        bucket: i64,
        pair: (i64, i64),
    ) -> Result<(i64, i64)> {
        let key = (level as u8, by as u8, bucket);
        if !self.stretches.contains_key(&key) {
            if self.stretches.len() >= REMEMBERED {
                self.stretches.clear();
            }
            self.stretches.insert(key, written(db, key, &self.sums)?);
        }
        Ok(self.stretches.entry(key).or_default().room_for(level, pair))
    }

    /// Adds what has gathered to the tables.
    pub(super) fn write(&mut self, db: &Connection) -> Result<()> {
        let mut find = db.prepare_cached(
            "SELECT counts FROM rollup WHERE level = ?1 AND dim = ?2 AND t = ?3 AND account = ?4 AND value = ?5",
        )?;
        let mut put = db.prepare_cached(
            "INSERT INTO rollup (level, dim, t, account, value, counts) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET counts = excluded.counts",
        )?;
        for ((level, by, bucket, account, value), counts) in &self.sums {
            let key = (level, by, bucket, account, value);
            let mut sum = *counts;
            let before: Option<Vec<u8>> = find.query_row(key, |row| row.get(0)).optional()?;
            sum.add_packed(&before.unwrap_or_default());
            put.execute((level, by, bucket, account, value, sum.packed()))?;
        }
        self.sums.clear();
        Ok(())
    }

    /// Forgets what a transaction that failed would have written, and what was removed.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What a stretch has already, in the table or waiting for it.
fn written(db: &Connection, key: (u8, u8, i64), waiting: &BTreeMap<Key, Counts>) -> Result<Stretch> {
    let (level, by, bucket) = key;
    let mut find = db.prepare_cached("SELECT account, value FROM rollup WHERE level = ?1 AND dim = ?2 AND t = ?3")?;
    let mut stretch = Stretch::default();
    for row in find.query_map((level, by, bucket), |row| Ok((row.get(0)?, row.get(1)?)))? {
        stretch.insert(row?);
    }
    let range = (level, by, bucket, i64::MIN, i64::MIN)..=(level, by, bucket, i64::MAX, i64::MAX);
    waiting.range(range).for_each(|(&(_, _, _, account, value), _)| stretch.insert((account, value)));
    Ok(stretch)
}

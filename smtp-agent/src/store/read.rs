//! Asking the history: exact totals from the kernel's counters, and what events say of who and what was behind them.
//!
//! All questions of one [`Reader`] see the same moment, whatever is written meanwhile.

mod culprits;
mod look;
mod period;

pub use culprits::{Behind, Culprits, Note, Sample};
pub use period::Period;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension, Result, ToSql, params_from_iter};

use super::{
    counts::{Counts, column},
    file::{self, Trouble},
    prune::{self, From},
    record::Millis,
    schema::{Dimension, Kept, Level, NO_NAMES, OTHER},
};

pub struct Reader {
    pub(super) db: Connection,
    from: From,
}

/// An account as the history knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub id: i64,
    pub name: String,
    /// A number of `smtp_common::connection::kind`.
    pub kind: u32,
    pub uid: u32,
    /// Its first attempt that the history knows of.
    pub first: Millis,
    /// The day of its last, or the one before: see [`Reader::last_seen`].
    pub last: Millis,
}

/// What a counter of the kernel has grown by in a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub from: Millis,
    /// How long the stretch is.
    pub level: Level,
    /// Number of the account.
    pub account: i64,
    /// One of [`super::record::what`].
    pub what: u8,
    pub route: u8,
    /// Of connections alone.
    pub port: u16,
    /// Verdict or outcome.
    pub which: u8,
    pub n: i64,
}

impl Reader {
    pub fn open(state: &Path) -> Result<Self, Trouble> {
        let db = file::open_to_read(state)?;
        db.execute_batch("BEGIN")?;
        let from = prune::kept_from(&db)?;
        Ok(Self { db, from })
    }

    /// The beginning of what is kept.
    pub fn beginning(&self, now: Millis) -> Millis {
        period::beginning(&self.from, now)
    }

    /// The period that can be told of exactly: the given, widened to whole stretches of what is kept. Empty where nothing of
    /// it is.
    pub fn widened(&self, wanted: Period, now: Millis) -> Period {
        period::widened(wanted, &self.from, now)
    }

    pub fn account(&self, name: &str) -> Result<Option<Account>> {
        let mut find =
            self.db.prepare_cached("SELECT id, name, kind, uid, first, last FROM account WHERE name = ?1")?;
        find.query_row([name], account).optional()
    }

    pub fn accounts(&self) -> Result<HashMap<i64, Account>> {
        let mut all = self.db.prepare_cached("SELECT id, name, kind, uid, first, last FROM account")?;
        let rows = all.query_map([], account)?;
        rows.map(|row| row.map(|account| (account.id, account))).collect()
    }

    /// What the kernel has counted of each account. Limits that were used up it does not count: they are from events.
    pub fn totals(&self, period: Period, of: Option<i64>) -> Result<HashMap<i64, Counts>> {
        let mut sums: HashMap<i64, Counts> = HashMap::new();
        self.each_total(period, of, |_, account, add| add(sums.entry(account).or_default()))?;
        for (account, events) in self.events(Dimension::User, period, of)? {
            sums.entry(account).or_default().0[column::OVER_LIMIT] = events.over_limit();
        }
        Ok(sums)
    }

    /// What events tell of each value of a dimension.
    pub fn events(&self, dimension: Dimension, period: Period, of: Option<i64>) -> Result<HashMap<i64, Counts>> {
        let mut sums: HashMap<i64, Counts> = HashMap::new();
        self.each_event(dimension, period, of, |_, account, value, counts| {
            let key = if dimension == Dimension::User { account } else { value };
            *sums.entry(key).or_default() += counts;
        })?;
        Ok(sums)
    }

    /// What the kernel has counted in each stretch, and which of them have a line at all.
    pub fn series(&self, period: Period, step: Level, of: Option<i64>) -> Result<BTreeMap<Millis, Counts>> {
        let mut sums: BTreeMap<Millis, Counts> = BTreeMap::new();
        let start = |time: Millis| step.bucket(time) * step.millis();
        let period = Period { finest: step, ..period };
        self.each_total(period, of, |time, _, add| add(sums.entry(start(time)).or_default()))?;
        self.each_event(Dimension::User, period, of, |time, _, _, counts| {
            sums.entry(start(time)).or_default().0[column::OVER_LIMIT] += counts.over_limit();
        })?;
        Ok(sums)
    }

    /// What the kernel has counted, in stretches as long as the period's, by time, account and what it is.
    pub fn counted(&self, period: Period, of: Option<i64>, mut each: impl FnMut(Counted) -> Result<()>) -> Result<()> {
        for part in period::parts(period, &self.from) {
            let sql = format!(
                "SELECT t, account, what, route, port, which, n FROM total WHERE level = ?1 AND t >= ?2 AND t < ?3 {}
                 ORDER BY t, account, what",
                if of.is_some() { "AND account = ?4" } else { "" }
            );
            let mut find = self.db.prepare_cached(&sql)?;
            let mut rows = find.query(params_from_iter(part.arguments(None, of)))?;
            while let Some(row) = rows.next()? {
                each(Counted {
                    from: row.get::<_, i64>(0)? * part.level.millis(),
                    level: part.level,
                    account: row.get(1)?,
                    what: row.get(2)?,
                    route: row.get(3)?,
                    port: row.get(4)?,
                    which: row.get(5)?,
                    n: row.get(6)?,
                })?;
            }
        }
        Ok(())
    }

    fn each_total(
        &self,
        period: Period,
        of: Option<i64>,
        mut each: impl FnMut(Millis, i64, &dyn Fn(&mut Counts)),
    ) -> Result<()> {
        self.counted(period, of, |counted| {
            let Counted { what, route, which, n, .. } = counted;
            each(counted.from, counted.account, &|counts| counts.add_counter(what, route, which, n));
            Ok(())
        })
    }

    /// Each sum of events: the beginning of its stretch, account, value of the dimension (of users: nothing), and counts.
    fn each_event(
        &self,
        dimension: Dimension,
        period: Period,
        of: Option<i64>,
        mut each: impl FnMut(Millis, i64, i64, Counts),
    ) -> Result<()> {
        let (by, column) = match dimension {
            Dimension::Destination => (Kept::Destination, None),
            Dimension::User => (Kept::Facet, None),
            other => (Kept::Facet, Some(other.name())),
        };
        let facets = column.map(|column| self.facets(column)).transpose()?;
        for part in period::parts(period, &self.from) {
            let sql = format!(
                "SELECT t, account, value, counts FROM rollup WHERE level = ?1 AND t >= ?2 AND t < ?3 AND dim = ?4 {}",
                if of.is_some() { "AND account = ?5" } else { "" }
            );
            let mut find = self.db.prepare_cached(&sql)?;
            let mut rows = find.query(params_from_iter(part.arguments(Some(by as i64), of)))?;
            while let Some(row) = rows.next()? {
                let time = row.get::<_, i64>(0)? * part.level.millis();
                let value = row.get(2)?;
                let value = facets.as_ref().map_or(value, |facets| facets.get(&value).copied().unwrap_or(OTHER));
                let mut counts = Counts::default();
                // Rot is no reason to tell nothing of the rest.
                counts.add_packed(row.get_ref(3)?.as_blob().unwrap_or_default());
                each(time, row.get(1)?, value, counts);
            }
        }
        Ok(())
    }

    /// What events of one stretch tell of the destinations of each account, by the number of the address.
    pub fn destinations(
        &self,
        level: Level,
        from: Millis,
        of: Option<i64>,
    ) -> Result<HashMap<i64, Vec<(i64, Counts)>>> {
        let mut all: HashMap<i64, Vec<_>> = HashMap::new();
        let bucket = level.bucket(from);
        let period = Period { finest: level, ..Period::new(bucket * level.millis(), (bucket + 1) * level.millis()) };
        self.each_event(Dimension::Destination, period, of, |_, account, address, counts| {
            all.entry(account).or_default().push((address, counts));
        })?;
        Ok(all)
    }

    /// Every destination there was: number and text of its address, port and route.
    pub fn targets(&self) -> Result<Vec<(i64, String, u16, u8)>> {
        let mut all = self.db.prepare_cached(
            "SELECT target.address, text.text, target.port, target.route
             FROM target JOIN text ON text.id = target.address",
        )?;
        all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?.collect()
    }

    /// One name of each facet.
    fn facets(&self, column: &str) -> Result<HashMap<i64, i64>> {
        let mut all = self.db.prepare_cached(&format!("SELECT id, {column} FROM facet"))?;
        all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// What numbers of texts stand for.
    pub fn texts(&self, ids: impl IntoIterator<Item = i64>) -> Result<HashMap<i64, String>> {
        let mut find = self.db.prepare_cached("SELECT text FROM text WHERE id = ?1")?;
        let mut text = |id: i64| {
            let known = NO_NAMES.iter().find(|(none, _)| *none == id).map(|(_, name)| (*name).to_owned());
            let text = match known {
                Some(name) => name,
                // Rotted away, not unknown to the kernel.
                None => find.query_row([id], |row| row.get(0)).optional()?.unwrap_or_else(|| NO_NAMES[1].1.to_owned()),
            };
            Ok((id, text))
        };
        ids.into_iter().map(&mut text).collect()
    }

    /// The last event of an account.
    pub fn last_seen(&self, account: &Account) -> Result<Millis> {
        let mut find = self.db.prepare_cached("SELECT max(last) FROM actor WHERE account = ?1")?;
        let last: Option<Millis> = find.query_row([account.id], |row| row.get(0))?;
        Ok(last.unwrap_or_default().max(account.last))
    }

    /// The first and the last event there is.
    pub fn extent(&self) -> Result<Option<(Millis, Millis)>> {
        let sql = "SELECT min(t), max(t) FROM total WHERE level = 1";
        let (first, last): (Option<i64>, Option<i64>) =
            self.db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let hour = Level::Hour.millis();
        Ok(first.zip(last).map(|(first, last)| (first * hour, (last + 1) * hour)))
    }
}

fn account(row: &rusqlite::Row<'_>) -> Result<Account> {
    Ok(Account {
        id: row.get(0)?,
        name: row.get(1)?,
        kind: row.get(2)?,
        uid: row.get(3)?,
        first: row.get(4)?,
        last: row.get(5)?,
    })
}

/// Numbers for the places of a statement.
fn places(numbers: impl IntoIterator<Item = i64>) -> Vec<Box<dyn ToSql>> {
    numbers.into_iter().map(|n| Box::new(n) as Box<dyn ToSql>).collect()
}

//! Keeping the history within its age and its size, a little at a time. Where it is too large, actors that no event refers to
//! go first; then the oldest events, and with them the sums of minutes that reach further back; then the sums of hours, and of
//! days.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Result, params};

use super::{
    clock::Trust,
    file::WAL_LIMIT,
    record::Millis,
    schema::{Kept, Level, event_id, event_time},
};

/// How long sums of minutes are kept.
const MINUTES: Millis = 2 * Level::Day.millis();
/// Rows that one step removes: its transaction holds nobody up for long.
const STEP: i64 = 5_000;
/// How long one round of tidying up may take.
const ROUND: Duration = Duration::from_millis(300);
/// Pages that one step gives back to the file system.
const PAGES: i64 = 500;
/// How much later than its time the number of an event may say that it was, since each has one of its own.
const CROWDED: Millis = Level::Minute.millis();
/// How long actors are not looked through again for want of room: all of them are read.
const ACTORS_REST: Duration = Duration::from_secs(600);
/// How long after what its row says a name may have been used: the row learns of that once a day.
const MARGIN: Millis = 3 * Level::Day.millis();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub keep: Duration,
    /// Octets, the journal included.
    pub max_size: u64,
}

impl Limits {
    /// The smallest `max_size` that there may be.
    pub(super) const SMALLEST: u64 = 16 << 20;

    /// For the database alone. The journal is written back at 2 MiB and may grow while somebody reads.
    fn for_database(&self) -> i64 {
        let journal = (2 * WAL_LIMIT).min(self.max_size / 4);
        i64::try_from(self.max_size - journal).unwrap_or(i64::MAX)
    }

    fn oldest(&self, now: Millis) -> Millis {
        now.saturating_sub(i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// There is more to remove at once.
    pub more: bool,
    /// Numbers of names may be somebody else's from now on.
    pub removed_names: bool,
    pub minutes_from: Millis,
}

/// How much is used, and how large the file is.
struct Space {
    page: i64,
    used: i64,
    file: i64,
    free_pages: i64,
}

fn space(db: &Connection) -> Result<Space> {
    let ask = |pragma: &str| db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let (page, pages, free_pages) = (ask("page_size")?, ask("page_count")?, ask("freelist_count")?);
    Ok(Space { page, used: (pages - free_pages) * page, file: pages * page, free_pages })
}

/// What is remembered from one round of tidying up to the next.
pub struct Tidying {
    trust: Trust,
    actors_swept: Option<Instant>,
}

impl Tidying {
    pub fn new(db: &Connection) -> Result<Self> {
        // Of a file that nobody has tidied up yet, the time of its last event is believed.
        let sql = "SELECT max(value) FROM meta WHERE key = 'tended'";
        let tended: Option<Millis> = db.query_row(sql, [], |row| row.get(0))?;
        let sql = "SELECT max(last) FROM (SELECT max(id) AS last FROM attempt UNION ALL SELECT max(id) FROM session)";
        let last: Option<i64> = db.query_row(sql, [], |row| row.get(0))?;
        Ok(Self { trust: Trust::new(tended.or(last.map(event_time))), actors_swept: None })
    }

    /// As one that has believed the clock at a time.
    #[cfg(test)]
    pub(super) fn believing(time: Millis) -> Self {
        Self { trust: Trust::new(Some(time)), actors_swept: None }
    }

    pub fn tend(&mut self, db: &Connection, limits: &Limits, now: Millis) -> Result<Done> {
        let begin = Instant::now();
        let in_time = || begin.elapsed() < ROUND;
        let cap = limits.for_database();
        let page = space(db)?.page;
        // The last line: beyond it SQLite says that the disk is full, and what is written is lost and counted.
        db.pragma_update_and_check(None, "max_page_count", cap / page, |_| Ok(()))?;
        let is_trusted = self.trust.believes(now, begin, limits.keep);
        let oldest = if is_trusted { limits.oldest(now) } else { 0 };
        // A clock that once ran ahead has said so of times that are still to come.
        let mut from = kept_from(db)?.until(now);
        if is_trusted {
            from.minutes = from.minutes.max(oldest).max(now - MINUTES);
            from.hours = from.hours.max(oldest);
            from.days = from.days.max(oldest);
        }
        let mut events_from = oldest;
        let mut more = remove_before(db, &from, events_from, &in_time)?;
        let (mut removed_names, mut swept_all) = (false, false);
        while in_time() && space(db)?.used > cap / 100 * 90 {
            let (recent, next) = (now - Level::Hour.millis(), oldest_events(db)?);
            let is_last_resort = next.is_none() && !swept_all;
            if is_last_resort || self.actors_swept.is_none_or(|last| last.elapsed() >= ACTORS_REST) {
                swept_all |= next.is_none();
                let before = next.map_or(Millis::MAX, |(oldest, _)| oldest - CROWDED);
                let (removed, is_done) = sweep_actors(db, before, &in_time)?;
                self.actors_swept = is_done.then_some(begin);
                more |= !is_done;
                removed_names |= removed > 0;
                if removed > 0 {
                    continue;
                }
            }
            match next {
                // Minutes would tell of what nobody can be named for.
                Some((oldest, _)) if from.minutes < oldest.min(recent) => {
                    from.minutes = halfway(from.minutes, now, MINUTES)
                }
                Some((_, until)) => events_from = until,
                None if from.minutes < recent => from.minutes = halfway(from.minutes, now, MINUTES),
                None if from.hours < now - Level::Day.millis() => {
                    from.hours = halfway(from.hours, now, now - limits.oldest(now))
                }
                None if from.days < now - Level::Day.millis() => {
                    from.days = halfway(from.days, now, now - limits.oldest(now))
                }
                None => break,
            }
            more |= remove_before(db, &from, events_from, &in_time)?;
        }
        // Sums that are still to go refer to them.
        removed_names |= !more && sweep_names(db, from.days, now)?;
        let left = space(db)?;
        more |= left.used > cap / 100 * 95;
        // Only what a smaller `max_size` asks for: what is free is used again.
        if left.file > cap && left.free_pages > 0 {
            let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
            let mut rows = vacuum.query([])?;
            while rows.next()?.is_some() {}
            more = true;
        }
        if is_trusted {
            tended(db, now, Trust::far(limits.keep) / 4)?;
        }
        Ok(Done { more, removed_names, minutes_from: from.minutes })
    }
}

/// Writes down which time was believed, for the next start. Not each time.
fn tended(db: &Connection, now: Millis, apart: Millis) -> Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO meta VALUES ('tended', ?1)
         ON CONFLICT DO UPDATE SET value = excluded.value WHERE abs(value - excluded.value) > ?2",
    )?;
    put.execute([now, apart]).map(drop)
}

/// Says from when on sums are kept, and then removes what is older: who reads in between, or after a crash, must not take
/// for nothing what is gone.
fn remove_before(db: &Connection, from: &From, events_from: Millis, in_time: &impl Fn() -> bool) -> Result<bool> {
    keep_from(db, from)?;
    sweep(db, from, events_from, in_time)
}

/// From when on each kind of sum is kept.
#[derive(Debug, Clone, Copy)]
pub struct From {
    pub minutes: Millis,
    pub hours: Millis,
    pub days: Millis,
}

impl From {
    /// Nothing is kept from a time on that is still to come.
    fn until(self, now: Millis) -> Self {
        Self { minutes: self.minutes.min(now), hours: self.hours.min(now), days: self.days.min(now) }
    }

    pub fn of(&self, level: Level) -> Millis {
        match level {
            Level::Minute => self.minutes,
            Level::Hour => self.hours,
            Level::Day => self.days,
        }
    }
}

pub fn kept_from(db: &Connection) -> Result<From> {
    let ask = |key: &str| {
        let mut find = db.prepare_cached("SELECT max(value) FROM meta WHERE key = ?1")?;
        find.query_row([key], |row| row.get::<_, Option<i64>>(0)).map(Option::unwrap_or_default)
    };
    Ok(From { minutes: ask("minutes_from")?, hours: ask("hours_from")?, days: ask("days_from")? })
}

fn keep_from(db: &Connection, from: &From) -> Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
    )?;
    for (key, value) in [("minutes_from", from.minutes), ("hours_from", from.hours), ("days_from", from.days)] {
        put.execute(params![key, value])?;
    }
    Ok(())
}

/// A later time to keep from, so that half of what is left goes.
fn halfway(from: Millis, now: Millis, span: Millis) -> Millis {
    let from = from.max(now - span);
    from + (now - from) / 2
}

/// The time of the oldest event, and the one before which events are few enough for one step.
fn oldest_events(db: &Connection) -> Result<Option<(Millis, Millis)>> {
    let mut ends = Vec::new();
    for table in ["attempt", "session"] {
        let sql = format!("SELECT min(id), max(id) FROM (SELECT id FROM {table} ORDER BY id LIMIT {STEP})");
        let (first, last): (Option<i64>, Option<i64>) = db.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        ends.extend(first.zip(last));
    }
    let oldest = ends.iter().map(|(first, _)| *first).min();
    let until = ends.iter().map(|(_, last)| *last).min();
    Ok(oldest.zip(until).map(|(oldest, until)| (event_time(oldest), event_time(until) + 1)))
}

/// Removes what is older. Returns whether there was no time for all of it.
fn sweep(db: &Connection, from: &From, events_from: Millis, in_time: &impl Fn() -> bool) -> Result<bool> {
    let mut more = false;
    let mut in_steps = |sql: String, until: i64| -> Result<()> {
        loop {
            if db.prepare_cached(&sql)?.execute([until])? < STEP as usize {
                return Ok(());
            }
            if !in_time() {
                more = true;
                return Ok(());
            }
        }
    };
    for table in ["attempt", "session"] {
        let first = format!("SELECT id FROM {table} WHERE id < ?1 ORDER BY id LIMIT {STEP}");
        in_steps(format!("DELETE FROM {table} WHERE id IN ({first})"), event_id(events_from))?;
    }
    for level in Level::ALL {
        let number = level as u8;
        // A stretch that is only partly too old is kept.
        let until = level.bucket(from.of(level));
        for by in Kept::ALL {
            let (by, key) = (by as u8, "level, dim, t, account, value");
            let first = format!(
                "SELECT {key} FROM rollup WHERE level = {number} AND dim = {by} AND t < ?1
                 ORDER BY {key} LIMIT {STEP}"
            );
            in_steps(format!("DELETE FROM rollup WHERE ({key}) IN ({first})"), until)?;
        }
        let key = "level, t, account, what, route, port, which";
        let first = format!("SELECT {key} FROM total WHERE level = {number} AND t < ?1 ORDER BY {key} LIMIT {STEP}");
        in_steps(format!("DELETE FROM total WHERE ({key}) IN ({first})"), until)?;
    }
    in_steps(format!("DELETE FROM note WHERE id IN (SELECT id FROM note WHERE t < ?1 LIMIT {STEP})"), from.days)?;
    Ok(more)
}

/// Removes actors whose last event was before. Returns how many, and whether that is all of them.
fn sweep_actors(db: &Connection, before: Millis, in_time: &impl Fn() -> bool) -> Result<(usize, bool)> {
    let mut removed = 0;
    loop {
        let step = db.unchecked_transaction()?;
        let gone = "SELECT id FROM actor WHERE last < ?1 ORDER BY id LIMIT ?2";
        // Sums outlive events, and with them the facets they are kept by.
        let keep = format!(
            "UPDATE facet SET last = max(facet.last, gone.last)
             FROM (SELECT facet AS id, max(last) AS last FROM actor WHERE id IN ({gone}) GROUP BY facet) AS gone
             WHERE facet.id = gone.id"
        );
        step.prepare_cached(&keep)?.execute([before, STEP])?;
        let remove = format!("DELETE FROM actor WHERE id IN ({gone})");
        let now = step.prepare_cached(&remove)?.execute([before, STEP])?;
        step.commit()?;
        removed += now;
        if now < STEP as usize {
            return Ok((removed, true));
        }
        if !in_time() {
            return Ok((removed, false));
        }
    }
}

/// Removes names that nothing refers to any more. Not each minute: once an hour at most.
fn sweep_names(db: &Connection, days_from: Millis, now: Millis) -> Result<bool> {
    let mut find = db.prepare_cached("SELECT max(value) FROM meta WHERE key = 'names_swept'")?;
    let last: Option<i64> = find.query_row([], |row| row.get(0))?;
    if last.is_some_and(|last| (0..Level::Hour.millis()).contains(&(now - last))) {
        return Ok(false);
    }
    let events: Option<i64> = db.query_row(
        "SELECT min(first) FROM (SELECT min(id) AS first FROM attempt UNION ALL SELECT min(id) FROM session)",
        [],
        |row| row.get(0),
    )?;
    let events_from = events.map_or(now, event_time);
    let names_until = days_from.min(events_from) - MARGIN;
    db.execute_batch("BEGIN IMMEDIATE")?;
    let swept = (|| {
        // Sums outlive events, and with them the facets they are kept by.
        db.execute(
            "UPDATE facet SET last = max(facet.last, gone.last)
             FROM (SELECT facet AS id, max(last) AS last FROM actor WHERE last < ?1 GROUP BY facet) AS gone
             WHERE facet.id = gone.id",
            [events_from - MARGIN],
        )?;
        let mut removed = db.execute("DELETE FROM actor WHERE last < ?1", [events_from - MARGIN])?;
        removed += db.execute("DELETE FROM target WHERE last < ?1", [events_from - MARGIN])?;
        removed +=
            db.execute("DELETE FROM facet WHERE last < ?1 AND id NOT IN (SELECT facet FROM actor)", [names_until])?;
        removed += db.execute(
            "DELETE FROM text WHERE last < ?1 AND id NOT IN (SELECT service FROM facet UNION SELECT script FROM facet
             UNION SELECT process FROM facet UNION SELECT plan FROM facet UNION SELECT address FROM target)",
            [names_until],
        )?;
        removed +=
            db.execute("DELETE FROM account WHERE last < ?1 AND id NOT IN (SELECT account FROM facet)", [names_until])?;
        db.execute("DELETE FROM host WHERE asked < ?1", [names_until])?;
        db.execute(
            "INSERT INTO meta VALUES ('names_swept', ?1) ON CONFLICT DO UPDATE SET value = excluded.value",
            [now],
        )?;
        db.execute_batch("COMMIT")?;
        Ok(removed > 0)
    })();
    if swept.is_err() && !db.is_autocommit() {
        let _ = db.execute_batch("ROLLBACK");
    }
    swept
}

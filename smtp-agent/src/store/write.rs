//! A batch of records into the tables: all of it in one transaction, or nothing.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use rusqlite::{Connection, Result, params};
use smtp_common::{connection::kind, counter::Reason};

use super::{
    counts::Counts,
    file::{self, Aside, Trouble},
    names::{Actor, Names},
    prune,
    record::{Attempt, Counter, CounterId, Millis, Record, SessionEnd, what},
    rollup::Rollups,
    saved,
    schema::{Level, event_id, note},
};

/// How long a limit must not have been reached for the next time to be worth a note.
const QUIET: Millis = Level::Hour.millis();
/// Accounts and reasons whose last time is remembered.
const REMEMBERED: usize = 10_000;

/// Says that the counters were looked at from their beginning on, or once.
const COUNTS: &str = "INSERT INTO meta VALUES ('counts', 1) ON CONFLICT DO NOTHING";

/// How high a counter stands.
const KEEP: &str = "INSERT INTO counter (kind, id, what, route, port, which, n) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT DO UPDATE SET n = excluded.n";

/// Whether the kernel counts on or has begun anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// Its counters began at 0 when this agent started.
    Fresh,
    /// Its counters went on while no agent looked.
    Adopted,
    /// They were put back as the history had them, but for those of containers, which have other numbers now: these.
    Restored(Vec<(CounterId, u64)>),
}

/// An open history and what its writer remembers of it.
pub struct Writing {
    pub(super) db: Connection,
    names: Names,
    rollups: Rollups,
    /// How high the counters stood; `None` until they are read from the table.
    counters: Option<HashMap<CounterId, i64>>,
    /// Nobody has ever looked at these counters: what they have counted is of before the history.
    begins: bool,
    windows: saved::Known,
    last_event: [i64; 2],
    noted: HashMap<(i64, u8), Millis>,
    tidying: prune::Tidying,
    /// From when on minutes are kept.
    pub(super) minutes_from: Millis,
}

/// Which table an event is in.
#[derive(Clone, Copy)]
enum Table {
    Attempt = 0,
    Session = 1,
}

impl Writing {
    pub fn open(state: &Path, gate: Gate) -> Result<(Self, Option<Aside>), Trouble> {
        let (mut db, aside) = file::open(state)?;
        if gate == Gate::Fresh {
            db.execute("DELETE FROM counter", [])?;
            db.execute(COUNTS, [])?;
        }
        if let Gate::Restored(counters) = gate {
            let all = db.transaction()?;
            let gone = "DELETE FROM counter WHERE kind IN (?1, ?2)";
            all.execute(gone, [kind::CGROUP, kind::NETNS])?;
            let mut put = all.prepare(KEEP)?;
            for (id, n) in counters {
                let n = i64::try_from(n).unwrap_or(i64::MAX);
                put.execute(params![id.kind, id.id as i64, id.what, id.route, id.port, id.which, n])?;
            }
            drop(put);
            all.commit()?;
        }
        let counts: bool =
            db.query_row("SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'counts')", [], |row| row.get(0))?;
        let last = |table: &str| db.query_row(&format!("SELECT ifnull(max(id), 0) FROM {table}"), [], |row| row.get(0));
        let last_event = [last("attempt")?, last("session")?];
        let writing = Self {
            begins: !counts,
            // Until it is told how large it may be.
            names: Names::new(prune::Limits::SMALLEST),
            rollups: Rollups::default(),
            counters: None,
            windows: saved::Known::default(),
            last_event,
            noted: HashMap::new(),
            tidying: prune::Tidying::new(&db)?,
            minutes_from: Millis::MIN,
            db,
        };
        Ok((writing, aside))
    }

    /// Writes all of them or none.
    pub fn write(&mut self, records: &[Record]) -> Result<()> {
        let outcome = self.try_write(records);
        if outcome.is_ok() {
            self.begins &= !records.iter().any(|record| matches!(record, Record::Counters(..)));
        } else {
            // The transaction was taken back, and with it what was remembered of it.
            self.names.forget();
            self.rollups.forget();
            self.counters = None;
            self.windows = saved::Known::default();
            self.noted.clear();
        }
        outcome
    }

    fn try_write(&mut self, records: &[Record]) -> Result<()> {
        self.db.execute_batch("BEGIN IMMEDIATE")?;
        let written = records.iter().try_for_each(|record| match record {
            Record::Attempt(attempt) => self.attempt(attempt),
            Record::Session(end) => self.session(end),
            Record::Counters(counters, time) => self.counters(counters, *time),
            Record::Windows(windows) => self.windows.write(&self.db, windows),
            Record::Hosts(hosts) => super::hosts::write(&self.db, hosts),
        });
        let written = written.and_then(|()| self.rollups.write(&self.db)).and_then(|()| self.names.save(&self.db));
        match written.and_then(|()| self.db.execute_batch("COMMIT")) {
            Ok(()) => Ok(()),
            Err(e) => {
                // Some errors have ended the transaction already (sqlite3_get_autocommit(3)).
                if !self.db.is_autocommit() {
                    let _ = self.db.execute_batch("ROLLBACK");
                }
                Err(e)
            }
        }
    }

    /// A number that no event has yet: its time, as far as others of the same millisecond leave room.
    fn event_id(&mut self, table: Table, time: Millis) -> Result<i64> {
        let wanted = event_id(time);
        let last = &mut self.last_event[table as usize];
        if wanted > *last {
            *last = wanted;
            return Ok(wanted);
        }
        // Late, or one of many: the next free number, which is the time within a millisecond for each thousand.
        if wanted + 1_023 >= *last {
            *last += 1;
            return Ok(*last);
        }
        let name = ["attempt", "session"][table as usize];
        let mut find = self.db.prepare_cached(&format!(
            "SELECT ifnull((SELECT max(id) FROM {name} WHERE id >= ?1 AND id < ?1 + 1024), ?1 - 1) + 1"
        ))?;
        let mut id: i64 = find.query_row([wanted], |row| row.get(0))?;
        let mut taken = self.db.prepare_cached(&format!("SELECT EXISTS (SELECT 1 FROM {name} WHERE id = ?1)"))?;
        while taken.query_row([id], |row| row.get(0))? {
            id += 1;
        }
        Ok(id)
    }

    fn attempt(&mut self, attempt: &Attempt) -> Result<()> {
        let (time, who) = (attempt.time, &attempt.who);
        let account = self.names.account(&self.db, &who.account, who.kind, who.uid, time)?;
        let actor = self.names.actor(&self.db, account, who, time)?;
        let (target, address) = self.names.target(&self.db, account, attempt.target, time)?;
        let id = self.event_id(Table::Attempt, time)?;
        let mut put = self
            .db
            .prepare_cached("INSERT INTO attempt (id, actor, target, what, tgid) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        put.execute(params![id, actor.id, target, what_of(attempt), who.tgid])?;
        drop(put);
        self.add(time, &actor, address, Counts::of_attempt(attempt))?;
        let notable = if attempt.is_over_limit() {
            note::LIMIT
        } else if attempt.verdict.is_stop() && attempt.reason == Reason::FailedShare {
            note::BRAKE
        } else {
            return Ok(());
        };
        if self.noted.len() > REMEMBERED {
            self.noted.clear();
        }
        let quiet = match self.noted.entry((account, attempt.reason as u8)) {
            Entry::Occupied(mut last) => time - last.insert(time) > QUIET,
            Entry::Vacant(free) => {
                free.insert(time);
                self.was_quiet(account, attempt.reason, time)?
            }
        };
        if quiet { self.note(account, notable, attempt.reason, time) } else { Ok(()) }
    }

    /// Whether an agent before this one has not just written the same note.
    fn was_quiet(&self, account: i64, reason: Reason, time: Millis) -> Result<bool> {
        let mut find = self
            .db
            .prepare_cached("SELECT NOT EXISTS (SELECT 1 FROM note WHERE account = ?1 AND t > ?2 AND reason = ?3)")?;
        find.query_row((account, time - QUIET, reason as u8), |row| row.get(0))
    }

    fn note(&self, account: i64, what: i64, reason: Reason, time: Millis) -> Result<()> {
        let mut put = self.db.prepare_cached("INSERT INTO note (t, account, what, reason) VALUES (?1, ?2, ?3, ?4)")?;
        put.execute((time, account, what, reason as u8)).map(drop)
    }

    fn session(&mut self, end: &SessionEnd) -> Result<()> {
        let (time, who) = (end.time, &end.who);
        let account = self.names.account(&self.db, &who.account, who.kind, who.uid, time)?;
        let actor = self.names.actor(&self.db, account, who, time)?;
        let (target, address) = self.names.target(&self.db, account, end.target, time)?;
        let id = self.event_id(Table::Session, time)?;
        let counts = Counts::of_session(end);
        let big = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let mut put = self.db.prepare_cached(
            "INSERT INTO session (id, actor, target, outcome, counts, ms, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let (ms, bytes) = (big(end.milliseconds), big(end.bytes));
        put.execute(params![id, actor.id, target, end.outcome as u8, counts.packed(), ms, bytes])?;
        drop(put);
        self.add(time, &actor, address, counts)
    }

    fn add(&mut self, time: Millis, actor: &Actor, address: i64, counts: Counts) -> Result<()> {
        let minutes = time >= self.minutes_from;
        self.rollups.add(&self.db, time, minutes, actor.account, [actor.facet, address], counts)
    }

    /// Books by how much each counter has grown. One that stands lower than before has begun anew.
    fn counters(&mut self, counters: &[Counter], time: Millis) -> Result<()> {
        if self.counters.is_none() {
            self.counters = Some(saved::counters(&self.db)?.into_iter().collect());
        }
        let before = self.counters.as_mut().expect("it was just read");
        let mut keep = self.db.prepare_cached(KEEP)?;
        let mut book = self.db.prepare_cached(
            "INSERT INTO total (level, t, account, what, route, port, which, n) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT DO UPDATE SET n = n + excluded.n",
        )?;
        for Counter { id, account, count } in counters {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            let known = before.get(id).copied();
            let grown = match known {
                Some(known) if known <= count => count - known,
                None if self.begins => 0,
                _ => count,
            };
            if known == Some(count) || (count == 0 && known.is_none()) {
                continue;
            }
            keep.execute(params![id.kind, id.id as i64, id.what, id.route, id.port, id.which, count])?;
            before.insert(*id, count);
            if grown == 0 || id.what >= what::KEPT {
                continue;
            }
            let uid = u32::try_from(id.id).unwrap_or(u32::MAX);
            let account = self.names.account_of(&self.db, account, id.kind, uid, time)?;
            for level in Level::ALL {
                if level == Level::Minute && time < self.minutes_from {
                    continue;
                }
                let bucket = level.bucket(time);
                book.execute(params![level as u8, bucket, account, id.what, id.route, id.port, id.which, grown])?;
            }
        }
        if self.begins {
            self.db.execute(COUNTS, [])?;
        }
        Ok(())
    }

    /// Keeps the history within its age and size; a little at a time. Returns whether there is more to do at once.
    pub fn tend(&mut self, limits: &prune::Limits, now: Millis) -> Result<bool> {
        self.names.set_size(limits.max_size);
        let done = self.tidying.tend(&self.db, limits, now).inspect_err(|_| {
            // Rows may have gone before it failed.
            self.names.forget();
            self.rollups.forget();
        })?;
        self.minutes_from = done.minutes_from;
        if done.removed_names {
            self.names.forget_rows(&self.db)?;
            self.rollups.forget();
        }
        Ok(done.more)
    }

    /// Puts the journal into the database, as the last thing before it is closed.
    pub fn close(self) -> Result<()> {
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.db.close().map_err(|(_, e)| e)
    }
}

/// Verdict, reason and unit in one number.
fn what_of(attempt: &Attempt) -> i64 {
    let unit = attempt.unit.map_or(0, |unit| unit as i64 + 1);
    attempt.verdict as i64 | unit << 3 | (attempt.reason as i64) << 5
}

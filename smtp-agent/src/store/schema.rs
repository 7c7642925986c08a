//! The tables, their versions, and how one version becomes the next.
//!
//! `user_version` counts migrations: [`MIGRATIONS`]`[n]` leads from version n to n + 1 and is never changed once it was
//! released. `application_id` tells the file from other programs' databases.
//!
//! ```text
//! attempt, session     one row an event; the row's number is its time (see [`event_id`]), so time needs no index
//! facet                what sums know of an actor: account, service, script, process, plan
//! actor                account, uid and culprit, without what differs from process to process; its last processes
//! text, account        names, by number everywhere else
//! target               address, port and route
//! rollup               sums of events by level (minute, hour, day) and account: by facet, and by destination
//! total                growth of the kernel's counters, by level, account, kind, route, port and verdict or outcome
//! counter              how high the kernel's counters stood last
//! note                 what is worth a line of its own: a limit reached, a brake
//! kernel_window        the kernel's windows, slot by slot, by the wall clock
//! host                 what the DNS calls an address, where the configuration has it asked
//! meta                 single values; of the kernel's state also tripped brakes, containers and the order of accounts
//! ```

use rusqlite::Connection;

use super::record::Millis;

/// "SmtA", for file(1) and for us.
pub const APPLICATION_ID: i64 = 0x536d_7441;

pub const VERSION: i64 = MIGRATIONS.len() as i64;

const MIGRATIONS: [&str; 2] = ["
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE account (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, kind INTEGER NOT NULL, uid INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE text (id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, text TEXT NOT NULL, last INTEGER NOT NULL);
CREATE INDEX text_by_hash ON text (hash);
CREATE TABLE target (
    id INTEGER PRIMARY KEY, address INTEGER NOT NULL, port INTEGER NOT NULL, route INTEGER NOT NULL,
    last INTEGER NOT NULL, UNIQUE (address, port, route));
CREATE TABLE facet (
    id INTEGER PRIMARY KEY, account INTEGER NOT NULL, service INTEGER NOT NULL, script INTEGER NOT NULL,
    process INTEGER NOT NULL, plan INTEGER NOT NULL, last INTEGER NOT NULL,
    UNIQUE (account, service, script, process, plan));
CREATE TABLE actor (
    id INTEGER PRIMARY KEY, hash INTEGER NOT NULL, account INTEGER NOT NULL, uid INTEGER NOT NULL, comm TEXT NOT NULL,
    facet INTEGER NOT NULL, culprit TEXT NOT NULL, processes TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE INDEX actor_by_hash ON actor (hash);
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY, actor INTEGER NOT NULL, target INTEGER NOT NULL, what INTEGER NOT NULL,
    tgid INTEGER NOT NULL);
CREATE TABLE session (
    id INTEGER PRIMARY KEY, actor INTEGER NOT NULL, target INTEGER NOT NULL, outcome INTEGER NOT NULL,
    counts BLOB NOT NULL, ms INTEGER NOT NULL, bytes INTEGER NOT NULL);
CREATE TABLE rollup (
    level INTEGER NOT NULL, dim INTEGER NOT NULL, t INTEGER NOT NULL, account INTEGER NOT NULL, value INTEGER NOT NULL,
    counts BLOB NOT NULL, PRIMARY KEY (level, dim, t, account, value)) WITHOUT ROWID;
CREATE TABLE total (
    level INTEGER NOT NULL, t INTEGER NOT NULL, account INTEGER NOT NULL, what INTEGER NOT NULL, route INTEGER NOT NULL,
    port INTEGER NOT NULL, which INTEGER NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (level, t, account, what, route, port, which)) WITHOUT ROWID;
CREATE TABLE counter (
    kind INTEGER NOT NULL, id INTEGER NOT NULL, what INTEGER NOT NULL, route INTEGER NOT NULL, port INTEGER NOT NULL,
    which INTEGER NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (kind, id, what, route, port, which)) WITHOUT ROWID;
CREATE TABLE note (
    id INTEGER PRIMARY KEY, t INTEGER NOT NULL, account INTEGER NOT NULL, what INTEGER NOT NULL,
    reason INTEGER NOT NULL);
CREATE INDEX note_by_account ON note (account, t);
CREATE TABLE kernel_window (
    kind INTEGER NOT NULL, id INTEGER NOT NULL, lane INTEGER NOT NULL, span INTEGER NOT NULL, charges TEXT NOT NULL,
    PRIMARY KEY (kind, id, lane, span)) WITHOUT ROWID;
", "
CREATE TABLE host (
    address TEXT PRIMARY KEY, name TEXT NOT NULL, how INTEGER NOT NULL, asked INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX actor_by_account ON actor (account);
"];

/// Every table there is.
pub const TABLES: [&str; 14] = [
    "meta",
    "account",
    "text",
    "target",
    "facet",
    "actor",
    "attempt",
    "session",
    "rollup",
    "total",
    "counter",
    "note",
    "kernel_window",
    "host",
];

/// A length of time that sums are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Minute = 0,
    Hour = 1,
    Day = 2,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Length in milliseconds.
    pub const fn millis(self) -> Millis {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// Number of the stretch that a time lies in.
    pub const fn bucket(self, time: Millis) -> i64 {
        time.div_euclid(self.millis())
    }

    /// Different pairs of account and value that are kept apart in one stretch, a quarter of them of one account. The rest of an
    /// account is its `other`: who makes up names fills no disk, and leaves the others theirs.
    pub const fn room(self) -> usize {
        match self {
            Self::Minute => 200,
            Self::Hour => 800,
            Self::Day => 4_000,
        }
    }
}

/// What sums are broken down by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Dimension {
    /// The account alone.
    User = 0,
    Service = 1,
    Script = 2,
    Process = 3,
    Destination = 4,
    Plan = 5,
}

impl Dimension {
    pub const ALL: [Self; 6] = [Self::User, Self::Service, Self::Script, Self::Process, Self::Destination, Self::Plan];

    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Service => "service",
            Self::Script => "script",
            Self::Process => "process",
            Self::Destination => "destination",
            Self::Plan => "plan",
        }
    }
}

/// By what a sum is kept. The number lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kept {
    Facet = 0,
    Destination = 1,
}

impl Kept {
    pub const ALL: [Self; 2] = [Self::Facet, Self::Destination];
}

/// Numbers of texts that are none.
pub const UNKNOWN: i64 = 0;
pub const OTHER: i64 = -1;
/// What they are called.
pub const NO_NAMES: [(i64, &str); 2] = [(UNKNOWN, "unknown"), (OTHER, "other")];

/// Values of `note.what`.
pub mod note {
    /// A limit was reached that had not been for an hour; the reason says which.
    pub const LIMIT: i64 = 1;
    pub const BRAKE: i64 = 2;
}

/// Events of one millisecond that have numbers of their own.
const PER_MILLI: i64 = 1 << 10;
/// 2025-01-01 in milliseconds: before the first event there is, so that numbers need seven octets.
const BEGIN: Millis = 1_735_689_600_000;

/// The first number an event of this time can have.
pub const fn event_id(time: Millis) -> i64 {
    let since = time - BEGIN;
    if since < 0 { 0 } else { since.saturating_mul(PER_MILLI) }
}

/// The time of an event by its number.
pub const fn event_time(id: i64) -> Millis {
    id / PER_MILLI + BEGIN
}

pub fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

pub fn application_id(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("PRAGMA application_id", [], |row| row.get(0))
}

/// Brings a file of an earlier version, or an empty one, to this one: each step is whole or not done.
pub fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    for from in version(db)?..VERSION {
        let step = db.transaction()?;
        step.execute_batch(MIGRATIONS[from as usize])?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", from + 1)?;
        step.commit()?;
    }
    Ok(())
}

//! The file `history.db` in `[paths] state`: made for its owner alone, opened with care, moved aside when it is no use.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::{AccessFlags, faccessat},
};
use rusqlite::{Connection, Error, ErrorCode, OpenFlags};

use super::{schema, schema::APPLICATION_ID};

pub const NAME: &str = "history.db";
/// The journal is cut back to this whenever all of it is in the database.
pub const WAL_LIMIT: u64 = 4 << 20;
/// How many files that were moved aside are kept.
const KEPT_ASIDE: usize = 3;
/// What SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// How long somebody else may hold the file, such as `sqlite3` in a backup script.
const BUSY: Duration = Duration::from_secs(5);

/// Why there is no history.
#[derive(Debug)]
pub enum Trouble {
    /// There is none yet.
    Absent,
    /// It was written by a later version, and is left alone.
    Newer(i64),
    /// It is no history, or a broken one.
    Corrupt(String),
    Io(io::Error),
    /// What stands at its path cannot be used; a sentence.
    Refused(String),
    Sqlite(Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no history yet"),
            Self::Newer(version) => write!(
                f,
                "it was written by a later smtp-agent (version {version} of the tables; this one knows {}); it is left as it \
                 is, and nothing is added to it",
                schema::VERSION
            ),
            Self::Corrupt(why) => write!(f, "it cannot be read: {why}"),
            Self::Io(e) => e.fmt(f),
            Self::Refused(why) => f.write_str(why),
            Self::Sqlite(e) => e.fmt(f),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::NotFound { Self::Absent } else { Self::Io(error) }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        if is_corrupt(&error) { Self::Corrupt(error.to_string()) } else { Self::Sqlite(error) }
    }
}

/// Whether the file itself is broken, rather than the disk full or somebody in the way.
pub fn is_corrupt(error: &Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// A file that was of no use.
#[derive(Debug)]
pub struct Aside {
    pub why: String,
    pub to: PathBuf,
}

/// Opens the history for its one writer, and makes it where there is none. A broken or foreign one is moved aside first.
pub fn open(state: &Path) -> Result<(Connection, Option<Aside>), Trouble> {
    // SQLite refuses links anywhere in the path; only those at its end are none of ours.
    let dir = fs::canonicalize(state)?;
    let path = dir.join(NAME);
    match open_existing(&path) {
        Err(Trouble::Corrupt(why)) => {
            let to = move_aside(&dir)?;
            open_existing(&path).map(|db| (db, Some(Aside { why, to })))
        }
        other => other.map(|db| (db, None)),
    }
}

fn open_existing(path: &Path) -> Result<Connection, Trouble> {
    prepare(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    if is_empty(&db)? {
        // Only a database without tables can be told so.
        db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    } else {
        check(&db)?;
    }
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT as i64, |_| Ok(()))?;
    db.pragma_update_and_check(None, "wal_autocheckpoint", 512, |_| Ok(()))?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "cache_size", -8_192)?;
    db.set_prepared_statement_cache_capacity(64);
    schema::migrate(&mut db)?;
    every_table(&db)?;
    Ok(db)
}

/// A regular file of ours at the path, made where nothing is.
fn prepare(path: &Path) -> Result<(), Trouble> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(Trouble::Io)?;
            return Ok(());
        }
        found => found.map_err(Trouble::Io)?,
    };
    let kind = found.file_type();
    if !kind.is_file() {
        let what = if kind.is_symlink() {
            "a symbolic link"
        } else if kind.is_dir() {
            "a directory"
        } else {
            "no regular file"
        };
        return Err(Trouble::Refused(format!("{shown} is {what}; remove it, and the history begins there")));
    }
    let own = nix::unistd::geteuid().as_raw();
    if found.uid() != own {
        let owner = found.uid();
        return Err(Trouble::Refused(format!("{shown} belongs to uid {owner}, not to {own}; give it to {own}")));
    }
    if found.permissions().mode() & 0o177 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(Trouble::Io)?;
    }
    Ok(())
}

fn is_empty(db: &Connection) -> Result<bool, Trouble> {
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    Ok(tables == 0 && schema::version(db)? == 0)
}

/// Ours, and of a version we know.
fn check(db: &Connection) -> Result<(), Trouble> {
    let (application, version) = (schema::application_id(db)?, schema::version(db)?);
    if application != APPLICATION_ID {
        return Err(Trouble::Corrupt(format!("it is a database of another program (application_id {application:#x})")));
    }
    if version > schema::VERSION { Err(Trouble::Newer(version)) } else { Ok(()) }
}

/// A file of our version that lacks one of its tables is broken, whatever SQLite thinks of it.
fn every_table(db: &Connection) -> Result<(), Trouble> {
    for table in schema::TABLES {
        match db.query_row(&format!("SELECT * FROM {table} LIMIT 1"), [], |_| Ok(())) {
            Ok(()) | Err(Error::QueryReturnedNoRows) => {}
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::Unknown) => {
                return Err(Trouble::Corrupt(e.to_string()));
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Opens the history to read, beside a writer or without one.
pub fn open_to_read(state: &Path) -> Result<Connection, Trouble> {
    open_readable(state, readable)
}

/// The same of any version that was before this one: what is saved over a reboot is in the tables of the first.
pub(super) fn open_to_restore(state: &Path) -> Result<Connection, Trouble> {
    open_readable(state, |db| if is_empty(db)? { Err(Trouble::Absent) } else { check(db) })
}

fn open_readable(state: &Path, readable: impl Fn(&Connection) -> Result<(), Trouble>) -> Result<Connection, Trouble> {
    let path = fs::canonicalize(state)?.join(NAME);
    let found = fs::symlink_metadata(&path)?;
    if !found.is_file() {
        return Err(Trouble::Refused(format!("{} is no regular file", path.display())));
    }
    // SQLite's own message of a missing right names neither. The file is not opened for it: to close it would end the locks
    // of this process's own writer (fcntl(2)), and whoever comes next would take the journal for left over.
    faccessat(AT_FDCWD, &path, AccessFlags::R_OK, AtFlags::AT_EACCESS).map_err(|e| Trouble::Io(e.into()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NOFOLLOW | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(&path, flags).map_err(Trouble::from).and_then(|db| {
        db.busy_timeout(BUSY)?;
        readable(&db)?;
        Ok(db)
    });
    match opened {
        // The files beside it cannot be made here, and nobody else has: then nobody writes, and it is whole by itself.
        Err(Trouble::Sqlite(e))
            if matches!(e.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
                && !beside(&path, BESIDE[0]).exists() =>
        {
            let uri = format!("file:{}?immutable=1", percent(&path));
            let db = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
            readable(&db)?;
            Ok(db)
        }
        other => other,
    }
}

fn readable(db: &Connection) -> Result<(), Trouble> {
    if is_empty(db)? {
        return Err(Trouble::Absent);
    }
    check(db)?;
    if schema::version(db)? < schema::VERSION {
        let why = "it is of an earlier smtp-agent, and is brought up to date when the agent is started".to_owned();
        return Err(Trouble::Refused(why));
    }
    every_table(db)
}

/// A path as SQLite's URIs have it.
fn percent(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    bytes.map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02x}") }).collect()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Gives the history another name, with what lies beside it, so that both can be looked at together.
pub fn move_aside(dir: &Path) -> Result<PathBuf, Trouble> {
    let prefix = format!("{NAME}.corrupt-");
    let to = dir.join(format!("{prefix}{}", humantime::format_rfc3339_millis(SystemTime::now())));
    let path = dir.join(NAME);
    fs::rename(&path, &to).map_err(Trouble::Io)?;
    for suffix in BESIDE {
        match fs::rename(beside(&path, suffix), beside(&to, suffix)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Trouble::Io(e)),
            _ => {}
        }
    }
    // A disk that breaks each new one may not be filled with broken ones. Names sort by their time.
    let names = fs::read_dir(dir).map_err(Trouble::Io)?.flatten().map(|entry| entry.file_name());
    let mut old: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    old.retain(|name| name.starts_with(&prefix) && !BESIDE.iter().any(|suffix| name.ends_with(suffix)));
    old.sort();
    for name in old.iter().rev().skip(KEPT_ASIDE) {
        for suffix in ["", BESIDE[0], BESIDE[1]] {
            // What cannot be removed stays; the next time tries again.
            let _ = fs::remove_file(dir.join(format!("{name}{suffix}")));
        }
    }
    Ok(to)
}

/// Octets that a history takes on the disk, its journal included.
pub fn size(state: &Path) -> u64 {
    let path = state.join(NAME);
    let of = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    of(&path) + BESIDE.iter().map(|suffix| of(&beside(&path, suffix))).sum::<u64>()
}

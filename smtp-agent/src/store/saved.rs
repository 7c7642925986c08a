//! The kernel's windows, counters and tripped brakes as they stood last, to be put back after a reboot.
//!
//! Windows have a table, counters are in that of the totals, and the rest is JSON in `meta`, so that a file of before is read
//! without it.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    file::{self, Trouble},
    record::{CounterId, Window, Windows},
};

/// What is to be put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    pub windows: Windows,
    pub counters: Vec<(CounterId, u64)>,
}

type Key = (u32, i64, u32, u32);

/// What the tables hold, so that only what has changed is written.
#[derive(Default)]
pub(super) struct Known {
    charges: Option<HashMap<Key, String>>,
    /// By their keys in `meta`.
    texts: HashMap<&'static str, String>,
}

impl Known {
    /// Makes what is saved the given.
    pub(super) fn write(&mut self, db: &Connection, now: &Windows) -> Result<()> {
        let known = match &mut self.charges {
            Some(known) => known,
            none => none.insert(read_charges(db)?),
        };
        let mut put = db.prepare_cached(
            "INSERT INTO kernel_window (kind, id, lane, span, charges) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET charges = excluded.charges",
        )?;
        let mut there = HashSet::new();
        for window in now.windows.iter().filter(|window| !window.charges.is_empty()) {
            let key = (window.kind, window.id as i64, window.lane, window.span);
            there.insert(key);
            let charges = written(&window.charges);
            if known.get(&key) != Some(&charges) {
                put.execute(params![key.0, key.1, key.2, key.3, charges])?;
                known.insert(key, charges);
            }
        }
        // What has slid away, or was emptied by hand.
        let mut remove =
            db.prepare_cached("DELETE FROM kernel_window WHERE kind = ?1 AND id = ?2 AND lane = ?3 AND span = ?4")?;
        for key in known.keys().filter(|key| !there.contains(*key)) {
            remove.execute(*key)?;
        }
        known.retain(|key, _| there.contains(key));
        let texts = [
            ("boot", now.boot.clone()),
            ("accounts", json(&now.accounts)),
            ("brakes", json(&now.brakes)),
            ("containers", json(&now.containers)),
        ];
        let mut set =
            db.prepare_cached("INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value")?;
        for (key, text) in texts {
            if self.texts.get(key) != Some(&text) {
                set.execute((key, &text))?;
                self.texts.insert(key, text);
            }
        }
        Ok(())
    }
}

fn json(list: &impl Serialize) -> String {
    serde_json::to_string(list).expect("lists of numbers and texts are always JSON")
}

/// A file of before has none.
fn list<T: DeserializeOwned>(key: &str, text: Option<String>) -> Vec<T> {
    let read = text.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text));
    read.unwrap_or_else(|e| {
        tracing::warn!("the {key} that were saved for the time after a reboot cannot be read and are forgotten: {e}");
        Vec::new()
    })
}

/// "TIME COUNT TIME COUNT …"
fn written(charges: &[(i64, u32)]) -> String {
    charges.iter().map(|(time, count)| format!("{time} {count}")).collect::<Vec<_>>().join(" ")
}

fn parsed(text: &str) -> Vec<(i64, u32)> {
    let numbers: Vec<&str> = text.split(' ').collect();
    numbers.chunks(2).filter_map(|pair| Some((pair[0].parse().ok()?, pair.get(1)?.parse().ok()?))).collect()
}

fn read_charges(db: &Connection) -> Result<HashMap<Key, String>> {
    let mut all = db.prepare_cached("SELECT kind, id, lane, span, charges FROM kernel_window")?;
    let rows = all.query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?), row.get(4)?)))?;
    rows.collect()
}

/// Reads what was saved; `None` where nothing ever was.
pub fn read(state: &Path) -> Result<Option<Saved>, Trouble> {
    let db = match file::open_to_restore(state) {
        Err(Trouble::Absent) => return Ok(None),
        other => other?,
    };
    let meta = |key: &str| {
        let mut find = db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
        find.query_row([key], |row| row.get::<_, String>(0)).optional()
    };
    let Some(boot) = meta("boot")? else { return Ok(None) };
    let accounts = list("accounts", meta("accounts")?);
    let brakes = list("brakes", meta("brakes")?);
    let containers = list("containers", meta("containers")?);
    let windows = read_charges(&db)?.into_iter().map(|((kind, id, lane, span), charges)| Window {
        kind,
        id: id as u64,
        lane,
        span,
        charges: parsed(&charges),
    });
    let windows = Windows { time: 0, boot, windows: windows.collect(), accounts, brakes, containers };
    let counters = counters(&db)?.into_iter().map(|(id, n)| (id, n as u64)).collect();
    Ok(Some(Saved { windows, counters }))
}

/// How high the kernel's counters stood last.
pub(super) fn counters(db: &Connection) -> Result<Vec<(CounterId, i64)>> {
    let mut all = db.prepare_cached("SELECT kind, id, what, route, port, which, n FROM counter")?;
    let counters = all.query_map([], |row| {
        let id = CounterId {
            kind: row.get(0)?,
            id: row.get::<_, i64>(1)? as u64,
            what: row.get(2)?,
            route: row.get(3)?,
            port: row.get(4)?,
            which: row.get(5)?,
        };
        Ok((id, row.get(6)?))
    })?;
    counters.collect()
}

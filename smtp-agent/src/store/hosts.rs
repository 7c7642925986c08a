//! What the DNS calls the addresses that were sent to, where the configuration has it asked.

use std::{collections::HashMap, net::IpAddr};

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::{
    read::Reader,
    record::{Host, Millis, Named},
    schema::Level,
};

/// Addresses that are remembered at most; beyond it no further ones are asked for.
const MOST: i64 = 20_000;
/// How long a name, its absence, and a failure are believed.
const HOLDS: Millis = 7 * Level::Day.millis();
const ABSENCE_HOLDS: Millis = Level::Day.millis();
const FAILURE_HOLDS: Millis = Level::Hour.millis();
/// Of what was not sent to for so long, no name is asked for again.
const RECENT: Millis = 2 * Level::Day.millis();

pub(super) fn write(db: &Connection, hosts: &[Host]) -> Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO host (address, name, how, asked) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET name = excluded.name, how = excluded.how, asked = excluded.asked",
    )?;
    // One that was known is not forgotten for a resolver that fails.
    let mut failed = db.prepare_cached("UPDATE host SET asked = ?2 WHERE address = ?1 AND name <> ''")?;
    for host in hosts {
        let address = host.address.to_string();
        if host.how == Named::Failed && failed.execute(params![address, host.asked - HOLDS + FAILURE_HOLDS])? > 0 {
            continue;
        }
        put.execute(params![address, host.name.as_deref().unwrap_or_default(), host.how as u8, host.asked])?;
    }
    Ok(())
}

impl Reader {
    /// Addresses whose name is to be asked for now, those that were sent to last first.
    pub fn unnamed(&self, most: usize, now: Millis) -> Result<Vec<IpAddr>> {
        let known: i64 = self.db.query_row("SELECT count(*) FROM host", [], |row| row.get(0))?;
        let mut find = self.db.prepare_cached(
            "SELECT text.text FROM target
             JOIN text ON text.id = target.address LEFT JOIN host ON host.address = text.text
             WHERE host.address IS NULL AND ?1 < ?2 OR target.last > ?3 AND host.asked < ?4 - CASE
                 WHEN host.how = ?5 THEN ?6 WHEN host.name = '' THEN ?7 ELSE ?8 END
             GROUP BY text.text ORDER BY max(target.last) DESC, text.text LIMIT ?9",
        )?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = find.query_map(
            params![known, MOST, now - RECENT, now, Named::Failed as u8, FAILURE_HOLDS, ABSENCE_HOLDS, HOLDS, most],
            |row| row.get::<_, String>(0),
        )?;
        let texts: Vec<String> = rows.collect::<Result<_>>()?;
        Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
    }

    /// What addresses are called, and how that is known.
    pub fn hosts(&self) -> Result<HashMap<String, (String, Named)>> {
        let mut all = self.db.prepare_cached("SELECT address, name, how FROM host WHERE name <> ''")?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, Named::from_number(row.get(2)?)))))?;
        rows.collect()
    }

    /// What one address is called.
    pub fn host(&self, address: &str) -> Result<Option<String>> {
        let mut find = self.db.prepare_cached("SELECT name FROM host WHERE address = ?1 AND name <> ''")?;
        find.query_row([address], |row| row.get(0)).optional()
    }
}

//! Who was behind what an account did: its actors, their latest events, and what was worth a note.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Result};
use smtp_common::counter::{Reason, Verdict};

use super::{Period, Reader};
use crate::{
    attribution::Culprit,
    store::{
        actor::{self, Process},
        counts::{Counts, column},
        record::Millis,
        schema::{Dimension, Level, event_id, event_time},
    },
};

/// Events that are looked at, the latest first: as many as a flood of minutes, or days of an ordinary host.
const LOOKED_AT: i64 = 200_000;
/// Events of an actor that are shown.
const SAMPLES: usize = 5;

/// Who did it, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Behind {
    pub uid: u32,
    pub comm: String,
    pub plan: Option<String>,
    /// As it was in the latest of its processes.
    pub culprit: Culprit,
    /// Its latest processes, the latest first.
    pub processes: Vec<Process>,
    pub first: Millis,
    pub last: Millis,
    /// Of the events that were looked at.
    pub counts: Counts,
    /// The latest of them, the latest first.
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub time: Millis,
    pub tgid: u32,
    pub address: String,
    /// What the DNS calls it.
    pub name: Option<String>,
    pub port: u16,
    pub route: u8,
    pub verdict: Option<Verdict>,
    pub reason: Option<Reason>,
}

/// Something that is worth a line of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    pub time: Millis,
    /// A constant of [`crate::store::schema::note`].
    pub what: i64,
    pub reason: Option<Reason>,
}

#[derive(Default)]
struct Found {
    counts: Counts,
    first: Millis,
    last: Millis,
    /// Row of the event, target, what, tgid.
    latest: Vec<(i64, i64, i64, u32)>,
}

fn verdict(what: i64) -> Option<Verdict> {
    Verdict::from_u8((what & 7) as u8)
}

fn reason(what: i64) -> Option<Reason> {
    u8::try_from(what >> 5).ok().and_then(Reason::from_u8)
}

impl Reader {
    /// Who was behind an account in a period, who spent most first. Where others' events stand in the way, its busiest
    /// stretch is looked at instead.
    pub fn behind(&self, account: i64, period: Period, most: usize) -> Result<Vec<Behind>> {
        let mut found = self.look(account, event_id(period.from), event_id(period.to))?;
        if found.is_empty()
            && let Some((from, to)) = self.busiest(account, period)?
        {
            found = self.look(account, event_id(from), event_id(to))?;
        }
        let mut found: Vec<_> = found.into_iter().collect();
        // Exempt or not: the question is who of this account.
        found.sort_by_key(|(id, found)| {
            let counts = &found.counts;
            (std::cmp::Reverse(counts.attempts() + counts.over_limit()), *id)
        });
        found.truncate(most);
        found.into_iter().filter_map(|(id, found)| self.actor(id, found).transpose()).collect()
    }

    fn look(&self, account: i64, from: i64, to: i64) -> Result<HashMap<i64, Found>> {
        let mut actors = self.db.prepare_cached("SELECT id FROM actor WHERE account = ?1 AND last >= ?2")?;
        let mut found: HashMap<i64, Option<Found>> =
            actors.query_map((account, event_time(from) - 1), |row| Ok((row.get(0)?, None)))?.collect::<Result<_>>()?;
        let mut events = self.db.prepare_cached(
            "SELECT id, actor, target, what, tgid FROM attempt WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
        )?;
        let mut rows = events.query((from, to, LOOKED_AT))?;
        while let Some(row) = rows.next()? {
            let Some(found) = found.get_mut(&row.get(1)?) else { continue };
            let (id, target, what, tgid) = (row.get(0)?, row.get(2)?, row.get::<_, i64>(3)?, row.get(4)?);
            let time = event_time(id);
            let found = found.get_or_insert_with(|| Found { last: time, ..Found::default() });
            found.first = time;
            if let Some(verdict) = verdict(what) {
                let is_connection = what >> 3 & 3 == 0;
                found.counts.0[verdict as usize] += is_connection as i64;
                let over = verdict.is_stop() && reason(what).is_some_and(|reason| reason.level().is_some());
                found.counts.0[column::OVER_LIMIT] += over as i64;
            }
            if found.latest.len() < SAMPLES {
                found.latest.push((id, target, what, tgid));
            }
        }
        let mut sessions = self
            .db
            .prepare_cached("SELECT actor, counts FROM session WHERE id >= ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3")?;
        let mut rows = sessions.query((from, to, LOOKED_AT))?;
        while let Some(row) = rows.next()? {
            let Some(Some(found)) = found.get_mut(&row.get(0)?) else { continue };
            found.counts.add_packed(row.get_ref(1)?.as_blob().unwrap_or_default());
        }
        Ok(found.into_iter().filter_map(|(id, found)| Some((id, found?))).collect())
    }

    /// The stretch in which an account spent most.
    fn busiest(&self, account: i64, period: Period) -> Result<Option<(Millis, Millis)>> {
        let hours = Period { finest: Level::Hour, ..period };
        let mut sums: HashMap<Millis, i64> = HashMap::new();
        self.each_event(Dimension::User, hours, Some(account), |time, _, _, counts| {
            *sums.entry(time).or_default() += counts.attempts();
        })?;
        let most = sums.into_iter().max_by_key(|(time, sum)| (*sum, *time)).map(|(time, _)| time);
        Ok(most.map(|time| (time, time + Level::Hour.millis())))
    }

    fn actor(&self, id: i64, found: Found) -> Result<Option<Behind>> {
        let mut find = self.db.prepare_cached("SELECT uid, comm, ifnull((SELECT plan FROM facet WHERE id = facet), 0), culprit, processes FROM actor WHERE id = ?1")?;
        let row = find
            .query_row([id], |row| {
                let row: (u32, String, i64, String, String) =
                    (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
                Ok(row)
            })
            .optional()?;
        let Some((uid, comm, plan, culprit, processes)) = row else { return Ok(None) };
        // What cannot be read is not known.
        let shape: Culprit = serde_json::from_str(&culprit).unwrap_or_default();
        let processes: Vec<Process> = serde_json::from_str(&processes).unwrap_or_default();
        let plan = if plan > 0 { self.texts([plan])?.remove(&plan) } else { None };
        let samples = found.latest.iter().map(|sample| self.sample(*sample)).collect::<Result<_>>()?;
        Ok(Some(Behind {
            uid,
            comm,
            plan,
            culprit: actor::whole(&shape, processes.first()),
            processes,
            first: found.first,
            last: found.last,
            counts: found.counts,
            samples,
        }))
    }

    fn sample(&self, (id, target, what, tgid): (i64, i64, i64, u32)) -> Result<Sample> {
        let mut find = self.db.prepare_cached("SELECT address, port, route FROM target WHERE id = ?1")?;
        let found = find.query_row([target], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?))).optional()?;
        let (address, port, route) = found.unwrap_or((0, 0, u8::MAX));
        let address = self.texts([address])?.remove(&address).unwrap_or_default();
        let name = self.host(&address)?;
        let (verdict, reason) = (verdict(what), reason(what));
        Ok(Sample { time: event_time(id), tgid, address, name, port, route, verdict, reason })
    }

    /// What was worth a note of an account, in order.
    pub fn notes(&self, account: i64, period: Period) -> Result<Vec<Note>> {
        let mut find = self.db.prepare_cached(
            "SELECT t, what, reason FROM note WHERE account = ?1 AND t >= ?2 AND t < ?3 ORDER BY t, id LIMIT 1000",
        )?;
        let rows = find.query_map((account, period.from, period.to), |row| {
            Ok(Note { time: row.get(0)?, what: row.get(1)?, reason: Reason::from_u8(row.get(2)?) })
        })?;
        rows.collect()
    }
}

//! Who was behind what an account did: its actors, their latest events, and what was worth a note.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use rusqlite::{OptionalExtension, Result};
use smtp_common::counter::{Reason, Verdict};

use super::{
    Period, Reader,
    look::{Event, Found, Look},
    period::{Part, parts},
};
use crate::{
    attribution::Culprit,
    store::{
        actor::{self, Process},
        counts::Counts,
        record::Millis,
        schema::{Kept, Level, event_id, event_time, note},
    },
};

/// Events that are looked at, the latest first: as many as a flood of minutes, or days of an ordinary host.
const LOOKED_AT: i64 = 200_000;
/// Events of the busiest stretch of a facet that are looked at.
const STRETCH: i64 = 50_000;
/// How long after an actor's last time its event is looked for: many of one millisecond have numbers of the next. And among
/// how many.
const NEAR: Millis = 100;
const NEAR_MOST: i64 = 20_000;

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
    /// Its first event ever.
    pub first_seen: Millis,
    /// Its first and last event in the period, as far as that is known.
    pub first: Millis,
    pub last: Millis,
    /// Of the events that were looked at; of all where the sums are its alone.
    pub counts: Counts,
    /// The latest of them, the latest first.
    pub samples: Vec<Sample>,
}

/// Who was behind an account.
#[derive(Debug, Clone, PartialEq)]
pub struct Culprits {
    pub behind: Vec<Behind>,
    /// There were more events than were looked at, and some of this account are among the others.
    pub is_cut: bool,
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

pub(super) fn verdict(what: i64) -> Option<Verdict> {
    Verdict::from_u8((what & 7) as u8)
}

pub(super) fn reason(what: i64) -> Option<Reason> {
    u8::try_from(what >> 5).ok().and_then(Reason::from_u8)
}

/// An actor's row, without what is long.
struct Candidate {
    id: i64,
    facet: i64,
    first: Millis,
    last: Millis,
}

/// Sums by facet, and what was done altogether.
type Facets = HashMap<i64, Counts>;

/// What ranks: exempt or not, the question is who of this account.
fn spent(counts: &Counts) -> i64 {
    counts.attempts() + counts.over_limit()
}

impl Reader {
    /// Who was behind each of these accounts in a period. What belongs together (service, script, process, plan) is ranked by
    /// its sums, which hold all events: of each the actor with most events is told first, then who else there was.
    pub fn behind(&self, accounts: &[i64], period: Period, most: usize) -> Result<Vec<Culprits>> {
        let candidates = self.candidates(accounts, period)?;
        let mut look = Look::of(candidates.values().flatten().map(|actor| actor.id));
        look.through(self, event_id(period.from)..event_id(period.to), LOOKED_AT)?;
        let of = |account| candidates.get(account).map_or(&[][..], Vec::as_slice);
        accounts.iter().map(|account| self.behind_one(*account, of(account), period, most, &mut look)).collect()
    }

    fn behind_one(
        &self,
        account: i64,
        candidates: &[Candidate],
        period: Period,
        most: usize,
        look: &mut Look,
    ) -> Result<Culprits> {
        let sums = self.facets_of(account, period)?;
        // What was found, where all that sums know of was not: of a flood, or of others' that stand in the way.
        let is_cut = look.is_cut && total(&found(candidates, look)) < total(&sums);
        if is_cut {
            self.look_at_the_busiest(account, &sums, candidates, period, most, look)?;
        }
        let mut behind = Vec::new();
        for (actor, counts) in ranked(&sums, candidates, look, period, most) {
            if look.found(actor.id).is_none() && actor.last < period.to {
                let last = event_id(actor.last);
                look.through(self, last..event_id(actor.last + NEAR), NEAR_MOST)?;
            }
            let found = look.take(actor.id).unwrap_or_else(|| Found {
                first: actor.first.max(period.from),
                last: actor.last.min(period.to - 1),
                ..Found::default()
            });
            let counts = counts.or_more(&found.counts);
            behind.extend(self.actor(actor, Found { counts, ..found }, period)?);
        }
        Ok(Culprits { behind, is_cut })
    }

    /// What each facet of an account did, by the sums.
    fn facets_of(&self, account: i64, period: Period) -> Result<Facets> {
        let mut sums = Facets::new();
        self.each_facet(account, None, period, |_, facet, counts| *sums.entry(facet).or_default() += counts)?;
        Ok(sums)
    }

    /// The actors of each account.
    fn candidates(&self, accounts: &[i64], period: Period) -> Result<HashMap<i64, Vec<Candidate>>> {
        let mut candidates: HashMap<i64, Vec<Candidate>> = HashMap::new();
        let mut find = self.db.prepare_cached("SELECT account, id, facet, first, last FROM actor WHERE last >= ?1")?;
        let mut rows = find.query([period.from - 1])?;
        while let Some(row) = rows.next()? {
            let account = row.get(0)?;
            if accounts.contains(&account) {
                let actor = Candidate { id: row.get(1)?, facet: row.get(2)?, first: row.get(3)?, last: row.get(4)? };
                candidates.entry(account).or_default().push(actor);
            }
        }
        Ok(candidates)
    }

    /// For each of the first facets of which events are missing: the stretch in which it did most.
    fn look_at_the_busiest(
        &self,
        account: i64,
        sums: &Facets,
        candidates: &[Candidate],
        period: Period,
        most: usize,
        look: &mut Look,
    ) -> Result<()> {
        let found = found(candidates, look);
        let mut first: Vec<_> = sums.iter().map(|(facet, counts)| (*facet, spent(counts))).collect();
        first.sort_by_key(|(facet, spent)| (Reverse(*spent), *facet));
        for (facet, sum) in first.into_iter().take(most) {
            if sum > found.get(&facet).map_or(0, spent)
                && let Some((from, to)) = self.busiest(account, facet, period)?
            {
                look.through(self, event_id(from)..event_id(to), STRETCH)?;
            }
        }
        Ok(())
    }

    /// The minute in which a facet did most, or the hour where minutes are not kept any more: of its busiest day's busiest
    /// hour.
    fn busiest(&self, account: i64, facet: i64, period: Period) -> Result<Option<(Millis, Millis)>> {
        let mut stretch = None;
        let mut within = period;
        for finest in Level::ALL.into_iter().rev().filter(|level| *level <= period.finest) {
            let mut most = None;
            self.each_facet(account, Some(facet), Period { finest, ..within }, |part, _, counts| {
                most = most.max(Some((spent(&counts), part)));
            })?;
            let Some((_, (from, to))) = most else { break };
            stretch = Some((from, to));
            within = Period { from, to, finest };
        }
        Ok(stretch)
    }

    /// Each sum of an account's facets: its stretch, facet and counts. One stretch after the other, since the table is
    /// ordered by time and then by account.
    fn each_facet(
        &self,
        account: i64,
        facet: Option<i64>,
        period: Period,
        mut each: impl FnMut((Millis, Millis), i64, Counts),
    ) -> Result<()> {
        let (low, high) = facet.map_or((i64::MIN, i64::MAX), |facet| (facet, facet));
        let mut find = self.db.prepare_cached(
            "SELECT value, counts FROM rollup
             WHERE level = ?1 AND dim = ?2 AND t = ?3 AND account = ?4 AND value BETWEEN ?5 AND ?6",
        )?;
        for Part { level, from, to } in parts(period, &self.from) {
            for t in from..to {
                let mut rows = find.query((level as u8, Kept::Facet as u8, t, account, low, high))?;
                while let Some(row) = rows.next()? {
                    let mut counts = Counts::default();
                    counts.add_packed(row.get_ref(1)?.as_blob().unwrap_or_default());
                    each((t * level.millis(), (t + 1) * level.millis()), row.get(0)?, counts);
                }
            }
        }
        Ok(())
    }

    fn actor(&self, of: &Candidate, found: Found, period: Period) -> Result<Option<Behind>> {
        let mut find = self.db.prepare_cached(
            "SELECT uid, comm, ifnull((SELECT plan FROM facet WHERE id = facet), 0), culprit, processes
             FROM actor WHERE id = ?1",
        )?;
        let row = find
            .query_row([of.id], |row| {
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
        // The row knows both ends, also where the events between them were not looked at.
        let inside = |time: &Millis| (period.from..period.to).contains(time);
        let first = Some(of.first).filter(inside).map_or(found.first, |first| first.min(found.first));
        let last = Some(of.last).filter(inside).map_or(found.last, |last| last.max(found.last));
        Ok(Some(Behind {
            uid,
            comm,
            plan,
            culprit: actor::whole(&shape, processes.first()),
            processes,
            first_seen: of.first,
            first,
            last,
            counts: found.counts,
            samples,
        }))
    }

    fn sample(&self, Event { id, target, what, tgid }: Event) -> Result<Sample> {
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

    /// When a limit was reached: the first time in the period. One that was reached before and has not let go since has no
    /// note in it.
    pub fn limit_reached(&self, account: i64, period: Period) -> Result<Option<Millis>> {
        let mut find = self.db.prepare_cached(
            "SELECT ifnull((SELECT min(t) FROM note WHERE account = ?1 AND what = ?2 AND t >= ?3 AND t < ?4),
                           (SELECT max(t) FROM note WHERE account = ?1 AND what = ?2 AND t < ?3))",
        )?;
        find.query_row((account, note::LIMIT, period.from, period.to), |row| row.get(0))
    }
}

/// What was found of each facet.
fn found(candidates: &[Candidate], look: &Look) -> Facets {
    let mut sums = Facets::new();
    for actor in candidates {
        if let Some(found) = look.found(actor.id) {
            *sums.entry(actor.facet).or_default() += found.counts;
        }
    }
    sums
}

fn total(sums: &Facets) -> i64 {
    sums.values().map(spent).sum()
}

/// The first of all actors, each with what it did: of each facet the one with most events, then the others.
fn ranked<'a>(
    sums: &Facets,
    candidates: &'a [Candidate],
    look: &Look,
    period: Period,
    most: usize,
) -> Vec<(&'a Candidate, Counts)> {
    let found = found(candidates, look);
    // Who has no events that were looked at may be whom the sums tell of.
    let active = |actor: &&Candidate| {
        look.found(actor.id).is_some() || sums.contains_key(&actor.facet) && actor.first < period.to
    };
    let mut actors_of: HashMap<i64, usize> = HashMap::new();
    candidates.iter().filter(active).for_each(|actor| *actors_of.entry(actor.facet).or_default() += 1);
    let counts = |actor: &Candidate| {
        let counts = look.found(actor.id).map_or_else(Counts::default, |found| found.counts);
        // The sums of a facet that has one actor are the actor's.
        let sum = sums.get(&actor.facet).filter(|_| actors_of[&actor.facet] == 1);
        sum.map_or(counts, |sum| counts.or_more(sum))
    };
    let mut actors: Vec<_> = candidates.iter().filter(active).map(|actor| (actor, counts(actor))).collect();
    let rank = |facet: &i64| sums.get(facet).map_or(0, spent).max(found.get(facet).map_or(0, spent));
    actors.sort_by_cached_key(|(actor, counts)| {
        (Reverse(rank(&actor.facet)), actor.facet, Reverse(spent(counts)), Reverse(actor.last), actor.id)
    });
    let mut facets = HashSet::new();
    let (mut first, mut others): (Vec<_>, Vec<_>) =
        actors.into_iter().partition(|(actor, _)| facets.insert(actor.facet));
    // Of those that no event tells of it is not known that they did anything.
    others.retain(|(actor, _)| look.found(actor.id).is_some());
    others.sort_by_key(|(actor, counts)| (Reverse(spent(counts)), actor.id));
    first.extend(others);
    first.truncate(most);
    first
}

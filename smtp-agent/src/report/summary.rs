//! `report`: who and what sent how much in a period.

use std::collections::HashMap;

use serde::Serialize;

use super::{Left, Numbers, Quotas, Span, date, rank, sum};
use crate::store::{
    Counts, Dimension, Level, Millis, Reader,
    read::{Account, Period},
};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub period: Period,
    pub by: Dimension,
    pub top: usize,
    /// Only of this account.
    pub user: Option<Account>,
    pub host: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub host: String,
    /// As far as the history tells the edges apart, wider than what was asked for.
    pub since: String,
    pub until: String,
    pub by: &'static str,
    pub user: Option<String>,
    /// What the kernel has counted: exact.
    pub totals: Numbers,
    /// Attempts that events tell of. Only of them it is known what was behind them.
    pub attributed: i64,
    pub rows: Vec<Row>,
    /// All that are not among the first.
    pub rest: Option<Row>,
    pub series: Vec<Point>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    #[serde(flatten)]
    pub numbers: Numbers,
    /// Of an account, where a gate tells.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    pub time: String,
    #[serde(skip)]
    pub millis: Millis,
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// Stretches that are few enough to be seen side by side.
pub fn step(period: Period) -> Level {
    let length = period.to - period.from;
    if length <= 3 * Level::Hour.millis() {
        Level::Minute
    } else if length <= 4 * Level::Day.millis() {
        Level::Hour
    } else {
        Level::Day
    }
}

impl Report {
    /// `now` is what the end of a period that is not over yet is shown as.
    pub fn make(reader: &Reader, asked: &Asked, quotas: &Quotas, now: Millis) -> rusqlite::Result<Self> {
        let Span { period, since, until, note } = Span::of(reader, asked.period, now);
        let of = asked.user.as_ref().map(|account| account.id);
        let totals = reader.totals(period, of)?;
        let all = sum(totals.values());
        let events = reader.events(asked.by, period, of)?;
        let attributed = sum(events.values()).attempts();
        let (mut rows, has_names) = named(reader, asked, totals, events)?;
        rank(&mut rows, |counts| counts.attempts() + counts.over_limit() + counts.sessions());
        let others = rows.split_off(asked.top.min(rows.len()));
        let row = |name: String, counts: Counts| {
            let left =
                if asked.by == Dimension::User { quotas.get(&name).cloned().unwrap_or_default() } else { Vec::new() };
            Row { name, numbers: counts.into(), left }
        };
        let rest = (!others.is_empty()).then(|| {
            let name = format!("{} more", others.len());
            Row { name, numbers: sum(others.iter().map(|(_, counts)| counts)).into(), left: Vec::new() }
        });
        let step = step(Period { to: period.to.min(now), ..period });
        let series = reader.series(period, step, of)?;
        let series =
            series.into_iter().map(|(millis, counts)| Point { time: date(millis), millis, numbers: counts.into() });
        let told = notes(&all, attributed, asked.by).into_iter().chain(has_names.then(|| HOW_NAMED.to_owned()));
        let notes = note.into_iter().chain(told).collect();
        Ok(Self {
            host: asked.host.clone(),
            since,
            until,
            by: asked.by.name(),
            user: asked.user.as_ref().map(|account| account.name.clone()),
            totals: all.into(),
            attributed,
            rows: rows.into_iter().map(|(name, counts)| row(name, counts)).collect(),
            rest,
            series: series.collect(),
            notes,
        })
    }
}

const HOW_NAMED: &str = "names of destinations: by MX, a server of that domain (of those in [history] mx_domains); else by PTR \
                         and the way back, the domain of the name; addresses have neither";

/// Each line with its name: accounts by what the kernel has counted, all others by what events tell. And whether some of
/// them are names that the DNS gave to addresses.
fn named(
    reader: &Reader,
    asked: &Asked,
    totals: HashMap<i64, Counts>,
    events: HashMap<i64, Counts>,
) -> rusqlite::Result<(Vec<(String, Counts)>, bool)> {
    let mut merged: HashMap<String, Counts> = HashMap::new();
    let mut has_names = false;
    if asked.by == Dimension::User {
        let accounts = reader.accounts()?;
        for (id, counts) in totals {
            let name = accounts.get(&id).map_or_else(|| "other".to_owned(), |account| account.name.clone());
            *merged.entry(name).or_default() += counts;
        }
    } else {
        let names = reader.texts(events.keys().copied())?;
        let hosts = if asked.by == Dimension::Destination { reader.hosts()? } else { HashMap::new() };
        for (id, counts) in events {
            let name = &names[&id];
            let shown = hosts.get(name).map_or(name.as_str(), |(host, how)| how.domain(host));
            has_names |= shown != name;
            *merged.entry(shown.to_owned()).or_default() += counts;
        }
    }
    Ok((merged.into_iter().filter(|(_, counts)| *counts != Counts::default()).collect(), has_names))
}

fn notes(all: &Counts, attributed: i64, by: Dimension) -> Vec<String> {
    use super::numbers::grouped;
    let mut notes = Vec::new();
    let attempts = all.attempts();
    if by != Dimension::User && attributed < attempts {
        notes.push(format!(
            "attributed {} of {} attempts: the lines hold what events told of, of which the gate tells so many a second \
             ([events] per_second)",
            grouped(attributed),
            grouped(attempts)
        ));
    }
    if by == Dimension::User && attributed < attempts && all.over_limit() > 0 {
        notes.push(format!(
            "\"over limit\" is from events, which tell of {} of {} attempts",
            grouped(attributed),
            grouped(attempts)
        ));
    }
    notes
}

//! `timeline`: what a user did, stretch by stretch, and what happened to him.

use serde::Serialize;
use smtp_common::counter::Reason;

use super::{
    Numbers, Span, date, seconds,
    summary::{Point, step},
};
use crate::store::{
    Level, Millis, Reader,
    read::{Account, Note, Period},
    schema::note,
};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Timeline {
    pub user: String,
    pub since: String,
    pub until: String,
    /// `minute`, `hour` or `day`.
    pub step: &'static str,
    /// The first attempt that the history knows of, and the last.
    pub first_ever: String,
    pub last: String,
    pub points: Vec<Point>,
    /// In order.
    pub happenings: Vec<Happening>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Happening {
    #[serde(skip)]
    pub millis: Millis,
    pub time: String,
    pub what: String,
}

impl Happening {
    pub fn new(millis: Millis, what: String) -> Self {
        Self { millis, time: seconds(millis), what }
    }

    fn of(note: &Note) -> Self {
        let reason = note.reason.map_or("unknown", Reason::name);
        let what = match note.what {
            note::LIMIT => format!("a limit was reached: {reason}"),
            note::BRAKE => "the failure brake held it".to_owned(),
            _ => format!("something a later smtp-agent has noted ({reason})"),
        };
        Self::new(note.time, what)
    }
}

impl Timeline {
    /// `more` is what others know of that happened to the account, in any order.
    pub fn make(
        reader: &Reader,
        account: &Account,
        wanted: Period,
        more: Vec<Happening>,
        now: Millis,
    ) -> rusqlite::Result<Self> {
        let Span { mut period, since, until, note } = Span::of(reader, wanted, now);
        let level = step(Period { to: period.to.min(now), ..period });
        period.finest = level;
        let series = reader.series(period, level, Some(account.id))?;
        let points = series.into_iter().map(|(millis, counts)| (millis, Numbers::from(counts)));
        let points = points.filter(|(_, numbers)| *numbers != Numbers::default());
        let mut happenings: Vec<Happening> = reader.notes(account.id, period)?.iter().map(Happening::of).collect();
        let first = Happening::new(account.first, "the first attempt that the history knows of".to_owned());
        happenings.extend([first].into_iter().filter(|first| (period.from..period.to).contains(&first.millis)));
        happenings.extend(more.into_iter().filter(|one| (period.from..period.to).contains(&one.millis)));
        happenings.sort();
        Ok(Self {
            user: account.name.clone(),
            since,
            until,
            step: match level {
                Level::Minute => "minute",
                Level::Hour => "hour",
                Level::Day => "day",
            },
            first_ever: seconds(account.first),
            last: seconds(reader.last_seen(account)?),
            points: points.map(|(millis, numbers)| Point { time: date(millis), millis, numbers }).collect(),
            happenings,
            notes: note.into_iter().collect(),
        })
    }
}

//! The history against what it was told, and against what disks do.

mod clock;
mod culprits;
mod disk;
mod hosts;
mod room;
mod saved;
mod sums;

use std::{path::Path, sync::Arc, time::Duration};

use rusqlite::Connection;
use smtp_common::{
    connection::{Route, kind},
    counter::{Reason, Verdict},
    tally::SessionOutcome,
};

use super::{read::Period, *};
use crate::attribution::{Culprit, culprit::Script};

pub(crate) const MINUTE: Millis = Level::Minute.millis();
pub(crate) const HOUR: Millis = Level::Hour.millis();
pub(crate) const DAY: Millis = Level::Day.millis();
/// 2026-11-20, 0:00.
pub(crate) const TODAY: Millis = 1_795_132_800_000;

pub(crate) const ROOMY: Limits = Limits { keep: Duration::from_secs(31 * 86_400), max_size: 512 << 20 };

pub(crate) fn who(account: &str, script: u32) -> Who {
    let script = Script { path: format!("/home/{account}/{script}.php"), how: "argument".into() };
    let culprit = Culprit { exe: Some("/usr/bin/php".into()), script: Some(script), ..Culprit::default() };
    Who {
        account: account.into(),
        kind: kind::USER,
        uid: 1000,
        tgid: 4711,
        comm: "php".into(),
        plan: Some("standard".into()),
        culprit: Arc::new(culprit),
    }
}

pub(crate) fn target(n: u8) -> Target {
    Target { address: [192, 0, 2, n].into(), port: 25, route: Route::Remote }
}

pub(crate) fn attempt(time: Millis, who: Who, verdict: Verdict) -> Attempt {
    let reason = if verdict.is_stop() { Reason::AccountHour } else { Reason::WithinLimits };
    Attempt { time, who, target: target(1), unit: None, verdict, reason }
}

pub(crate) fn told(attempt: Attempt) -> Record {
    Record::Attempt(Box::new(attempt))
}

pub(crate) fn one(time: Millis) -> Record {
    told(attempt(time, who("shop", 1), Verdict::Allowed))
}

pub(crate) fn ended(time: Millis, who: Who, accepted: u32) -> Record {
    Record::Session(Box::new(SessionEnd {
        time,
        who,
        target: target(1),
        outcome: SessionOutcome::Closed,
        messages: [accepted, 0, 0, 0],
        recipients: [accepted, 0, 0],
        milliseconds: 5,
        bytes: 100,
    }))
}

pub(crate) fn counter(account: &str, id: u64, verdict: Verdict, count: u64) -> Counter {
    let id = CounterId {
        kind: kind::USER,
        id,
        what: record::what::CONNECTIONS,
        route: Route::Remote as u8,
        port: 25,
        which: verdict as u8,
    };
    Counter { id, account: account.into(), count }
}

pub(crate) fn write(state: &Path, gate: Gate, records: &[Record]) {
    let (mut writing, aside) = Writing::open(state, gate).unwrap();
    assert!(aside.is_none(), "{aside:?}");
    writing.write(records).unwrap();
    writing.close().unwrap();
}

pub(crate) fn whole(reader: &Reader) -> Period {
    reader.widened(Period::new(0, TODAY + 400 * DAY), TODAY + 400 * DAY)
}

/// Of the whole history: exact, and by events.
fn attempts(state: &Path) -> (i64, i64) {
    let reader = Reader::open(state).unwrap();
    let period = whole(&reader);
    let sum = |counts: std::collections::HashMap<i64, Counts>| counts.values().map(Counts::attempts).sum();
    (sum(reader.totals(period, None).unwrap()), sum(reader.events(Dimension::User, period, None).unwrap()))
}

fn check_integrity(state: &Path) {
    let db = Connection::open(state.join(NAME)).unwrap();
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

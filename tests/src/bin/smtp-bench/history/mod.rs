//! How long reports take over a month of a busy host: ten million events, made up and written by the agent's own store.

mod month;
mod report;

use crate::{is_interrupted, progress, stats::Summary};
use month::Month;
use report::{Line, Report};
use rusqlite::Connection;
use smtp_agent::{
    report::{Asked, Quotas, Report as Summed, timeline::Timeline, who},
    store::{Dimension, Gate, Limits, NAME, Reader, Record, Writing, file, read::Period},
};
use smtp_tests::{Must, scratch};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Events of the month: attempts, and ends of sessions.
const EVENTS: u64 = 10_000_000;
/// Written at a time. The agent writes a thousand, or what a second brings.
const BATCH: usize = 20_000;
const DAY: i64 = 86_400_000;
/// Questions are asked so often at most.
const ROUNDS: usize = 10;

/// `None` when a signal came.
pub(crate) fn measure(rounds: usize) -> Option<Report> {
    let dir = scratch::dir();
    let month = Month::until(smtp_agent::store::now());
    let written = write(dir.path(), &month)?;
    let size = file::size(dir.path());
    let kept = kept(dir.path());
    assert!(kept == EVENTS, "{kept} events of {EVENTS} are kept: the others found no room");
    let rounds = rounds.min(ROUNDS);
    let mut lines = Vec::new();
    for (name, ask) in questions(&month) {
        if is_interrupted() {
            return None;
        }
        let took = (0..rounds).map(|_| {
            let begin = Instant::now();
            // Opened each time, as each command does.
            let reader = Reader::open(dir.path()).must("the history");
            ask(&reader);
            begin.elapsed().as_secs_f64() * 1e3
        });
        lines.push(Line { name, took: Summary::of(&took.collect::<Vec<_>>()) });
    }
    Some(Report { lines, written, size, events: EVENTS })
}

/// Writes the month and returns how long it took, in seconds.
fn write(state: &Path, month: &Month) -> Option<f64> {
    let limits = Limits { keep: Duration::from_secs(31 * 86_400), max_size: 512 << 20 };
    let (mut writing, _) = Writing::open(state, Gate::Fresh).must("a history");
    let begin = Instant::now();
    // Which minutes are kept is known from the first time on that it is tidied up.
    writing.tend(&limits, month.end).must("tidying up");
    let batches = EVENTS as usize / BATCH;
    let mut records: Vec<Record> = Vec::with_capacity(BATCH);
    for batch in 0..batches {
        if is_interrupted() {
            return None;
        }
        progress("history", batch, batches);
        let first = (batch * BATCH) as u64;
        records.extend((first..first + BATCH as u64).map(|n| month.event(n, EVENTS)));
        records.push(month.counters(first + BATCH as u64, EVENTS));
        writing.write(&records).must("writing");
        records.clear();
        // The agent does so each half minute.
        if batch % 20 == 0 {
            while writing.tend(&limits, month.end).must("tidying up") {}
        }
    }
    while writing.tend(&limits, month.end).must("tidying up") {}
    writing.close().must("closing");
    Some(begin.elapsed().as_secs_f64())
}

fn kept(state: &Path) -> u64 {
    let db = Connection::open(state.join(NAME)).must("the history");
    let sql = "SELECT (SELECT count(*) FROM attempt) + (SELECT count(*) FROM session)";
    db.query_row(sql, [], |row| row.get(0)).map(|rows: i64| rows as u64).must("a count")
}

type Question = (String, Box<dyn Fn(&Reader)>);

fn questions(month: &Month) -> Vec<Question> {
    let now = month.end;
    // So that no edge falls together with a day's or an hour's.
    let whole = Period::new(now - 31 * DAY + 4_000_000, now);
    let day = Period::new(now - DAY, now);
    let mut all: Vec<Question> = Vec::new();
    for by in Dimension::ALL {
        let ask = move |reader: &Reader| {
            let asked = Asked { period: whole, by, top: 20, user: None, host: "bench".to_owned() };
            let report = Summed::make(reader, &asked, &Quotas::new(), now).must("a report");
            assert!(!report.rows.is_empty(), "an empty report");
        };
        all.push((format!("report of the month by {}", by.name()), Box::new(ask)));
    }
    let user = month.busiest();
    let of_user = user.clone();
    let ask = move |reader: &Reader| {
        let user = reader.account(&of_user).must("accounts");
        let asked = Asked { period: whole, by: Dimension::Script, top: 20, user, host: String::new() };
        let report = Summed::make(reader, &asked, &Quotas::new(), now).must("a report");
        assert!(report.rows.len() > 1, "no scripts of {of_user}");
    };
    all.push(("report of the month by script, of one user".to_owned(), Box::new(ask)));
    for (name, period) in [("hour", Period::new(now - DAY / 24, now)), ("day", day), ("month", whole)] {
        let ask = move |reader: &Reader| {
            let asked = who::Asked { period, top: 3, user: None };
            let answer = who::Answer::find(reader, &asked, now).must("an answer");
            assert!(answer.culprits.iter().all(|named| !named.actors.is_empty()), "somebody without a culprit");
            assert_eq!(answer.culprits.len(), 3);
        };
        all.push((format!("who of the {name}"), Box::new(ask)));
    }
    for (name, period) in [("day", day), ("month", whole)] {
        let user = user.clone();
        let ask = move |reader: &Reader| {
            let account = reader.account(&user).must("accounts").must("the user");
            let timeline = Timeline::make(reader, &account, period, Vec::new(), now).must("a timeline");
            assert!(timeline.points.len() > 20, "{} points", timeline.points.len());
        };
        all.push((format!("timeline of the {name}"), Box::new(ask)));
    }
    all
}

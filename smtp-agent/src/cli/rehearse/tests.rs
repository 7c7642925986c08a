use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::store::{Counter, CounterId, Gate, NAME, Record, Writing, now};

const MINUTE: Millis = Level::Minute.millis();
const HOUR: Millis = Level::Hour.millis();

/// A host whose user 4711 was allowed so many connections at these times.
fn host(allowed: &[(Millis, u64)]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.toml");
    std::fs::write(&config, format!("[paths]\nstate = {:?}\n", dir.path())).expect("written");
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).expect("a history");
    let id = CounterId {
        kind: kind::USER,
        id: 4711,
        what: what::CONNECTIONS,
        route: Route::Remote as u8,
        port: 25,
        which: Verdict::Allowed as u8,
    };
    let mut count = 0;
    for (time, n) in allowed {
        count += n;
        let counters = vec![Counter { id, account: "4711".into(), count }];
        writing.write(&[Record::Counters(counters, *time)]).expect("written");
    }
    writing.close().expect("closed");
    (dir, config)
}

fn last_hour(config: &Path) -> Recorded {
    let period = super::super::Since { since: Some("1h".to_owned()), until: None };
    let args = Arguments { period, user: None, json: super::super::Json { json: false } };
    recorded(config, &args, &Database::default()).unwrap_or_else(|_| panic!("recorded"))
}

#[test]
fn the_day_before_the_period_is_read_too_and_nothing_holds_the_history_open() {
    let now = now();
    let times = [(now - 30 * HOUR, 1), (now - 20 * HOUR, 7), (now - 10 * MINUTE, 5)];
    let (dir, config) = host(&times);
    let recorded = last_hour(&config);
    let read: Vec<_> = recorded.flows.iter().map(|flow| (flow.from < recorded.period.from, flow.attempts)).collect();
    assert_eq!(read, [(true, 7), (false, 5)]);
    assert_eq!(recorded.filled_from, Some(recorded.period.from - DAY));
    assert!(windows(recorded.filled_from, recorded.period.from).starts_with("windows: filled from "));
    let db = Connection::open(dir.path().join(NAME)).expect("a database");
    let mut writing = Writing::open(dir.path(), Gate::Adopted).expect("a history").0;
    writing.write(&[Record::Counters(Vec::new(), now)]).expect("written");
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).expect("a checkpoint");
    assert_eq!(busy, 0, "while `recorded` is kept, its reader is gone");
    drop(recorded);
}

#[test]
fn a_history_that_does_not_reach_so_far_says_how_far_it_does() {
    let now = now();
    let (_dir, config) = host(&[(now - 3 * HOUR, 7), (now - 10 * MINUTE, 5)]);
    let recorded = last_hour(&config);
    let from = recorded.filled_from.expect("some of it");
    assert!((now - 4 * HOUR..=now - 3 * HOUR).contains(&from), "{from} of {now}");
    let told = windows(recorded.filled_from, recorded.period.from);
    assert!(told.starts_with("windows: filled from ") && told.ends_with("may be met too late"), "{told}");
    let (_dir, config) = host(&[(now - 10 * MINUTE, 5)]);
    let recorded = last_hour(&config);
    assert_eq!((recorded.filled_from, recorded.flows.len()), (None, 1));
    assert!(windows(None, recorded.period.from).starts_with("windows: empty at the beginning; "));
}

#[test]
fn of_a_sum_that_reaches_into_the_period_only_the_part_before_it_fills_the_windows() {
    let users = Database::default();
    let account = read::Account { id: 1, name: "4711".to_owned(), kind: kind::USER, uid: 4711, first: 0, last: 0 };
    let mut tally = Tally::new(HashMap::from([(1, account)]), &users);
    let day = Counted {
        from: 0,
        length: DAY,
        account: 1,
        what: what::CONNECTIONS,
        route: Route::Remote as u8,
        which: Verdict::Allowed as u8,
        n: 2400,
    };
    let refused = Counted { which: Verdict::Refused as u8, n: 240, ..day };
    let local = Counted { route: Route::Local as u8, ..day };
    let hour = Counted { from: 6 * HOUR, length: HOUR, n: 3, ..day };
    for counted in [day, refused, local, hour] {
        tally.add(&counted, 6 * HOUR);
    }
    let read: Vec<_> = tally.flows.iter().map(|flow| (flow.length, flow.attempts, flow.admitted)).collect();
    assert_eq!(read, [(6 * HOUR, 660, 600), (6 * HOUR, 600, 600)]);
    tally.add(&hour, Millis::MAX);
    assert_eq!(tally.flows.last().map(|flow| (flow.from, flow.attempts)), Some((6 * HOUR, 3)));
}

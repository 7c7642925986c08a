use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use smtp_common::{counter::Verdict, rule::Action};

use crate::{
    config,
    store::{
        self, Counter, CounterId, Gate, NAME, Reader, Record, Writing, now,
        tests::{attempt, counter, ended, target, told, who},
    },
};

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

fn arguments(since: &str) -> Arguments {
    let period = super::super::Since { since: Some(since.to_owned()), until: None };
    Arguments { period, user: None, json: super::super::Json { json: false } }
}

fn last_hour(config: &Path) -> Recorded {
    recorded(config, &arguments("1h"), &Database::default(), &[]).unwrap_or_else(|_| panic!("recorded"))
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
    let (dir, _) = host(&[]);
    let reader = Reader::open(dir.path()).expect("a history");
    let destinations = Destinations::new(&reader, None, &[]).expect("nothing to read");
    let mut tally = Tally::new(HashMap::from([(1, account)]), &users, destinations);
    let day = Counted {
        from: 0,
        level: Level::Day,
        account: 1,
        what: what::CONNECTIONS,
        route: Route::Remote as u8,
        port: 25,
        which: Verdict::Allowed as u8,
        n: 2400,
    };
    let refused = Counted { which: Verdict::Refused as u8, n: 240, ..day };
    let local = Counted { route: Route::Local as u8, ..day };
    let hour = Counted { from: 6 * HOUR, level: Level::Hour, n: 3, ..day };
    for counted in [day, refused, local, hour] {
        tally.add(&counted, 6 * HOUR).expect("added");
    }
    let read: Vec<_> = tally.flows.iter().map(|flow| (flow.length, flow.attempts, flow.admitted)).collect();
    assert_eq!(read, [(6 * HOUR, 660, 600), (6 * HOUR, 600, 600)]);
    tally.add(&hour, Millis::MAX).expect("added");
    assert_eq!(tally.flows.last().map(|flow| (flow.from, flow.attempts)), Some((6 * HOUR, 3)));
}

#[test]
fn flows_are_told_apart_by_what_exceptions_say_of_where_they_went() {
    const SHOP: u32 = 1000;
    let now = now();
    let (dir, config) = host(&[(now - 40 * MINUTE, 1)]);
    let time = now - 10 * MINUTE;
    let (mut writing, _) = Writing::open(dir.path(), Gate::Adopted).expect("a history");
    let connections = counter("shop", SHOP.into(), Verdict::Allowed, 90);
    let accepted = CounterId { what: what::MESSAGES, port: 0, which: MessageOutcome::Accepted as u8, ..connections.id };
    let counters = vec![connections, Counter { id: accepted, account: "shop".into(), count: 12 }];
    let mut records = vec![Record::Counters(counters, time)];
    // One event of three is told.
    for (to, n) in [(1, 20), (2, 10)] {
        for _ in 0..n {
            let event = attempt(time, who("shop", 1), Verdict::Allowed);
            records.push(told(store::Attempt { target: target(to), ..event }));
        }
    }
    // All messages that are told of went to the second.
    let Record::Session(end) = ended(time, who("shop", 1), 3) else { panic!("a session") };
    records.push(Record::Session(Box::new(store::SessionEnd { target: target(2), ..*end })));
    writing.write(&records).expect("written");
    writing.close().expect("closed");
    let users = Database::of(&[("shop", SHOP, SHOP)], &[]);
    let split = |rule: &str| {
        let config = config::parse_str("test", &format!("[[rule]]\n{rule}\n")).expect("a configuration").config;
        policy::compile(&config, &users, "", &Circumstances::default()).exceptions
    };
    let flows = |rule: &str| {
        let exceptions = split(rule);
        let recorded = recorded(&config, &arguments("30m"), &users, &exceptions).unwrap_or_else(|_| panic!("recorded"));
        let mut flows: Vec<_> = recorded
            .flows
            .iter()
            .filter(|flow| flow.from >= recorded.period.from)
            .map(|flow| (flow.exception, flow.attempts, flow.messages))
            .collect();
        flows.sort_unstable();
        (asks(&exceptions), flows)
    };
    let [exempt, deny, closed] = [Action::Exempt, Action::Deny, Action::Closed].map(|action| action as u8);
    assert_eq!(flows("to = \"192.0.2.2\"\nplan = \"allow\""), (true, vec![(0, 60, 0), (exempt, 30, 12)]));
    assert_eq!(
        flows("user = \"shop\"\nto = \"192.0.2.0/31\"\nplan = \"deny\""),
        (true, vec![(0, 30, 12), (deny, 60, 0)])
    );
    assert_eq!(flows("ports = [25]\nplan = \"deny\""), (false, vec![(closed, 90, 12)]), "counts know the port");
    for other in ["ports = [465]", "to = \"198.51.100.0/24\"", "user = \"root\"\nto = \"192.0.2.0/24\""] {
        assert_eq!(flows(&format!("{other}\nplan = \"deny\"")).1, [(0, 90, 12)], "{other}");
    }
    let of_a_cgroup = "cgroup = \"/web\"\nto = \"192.0.2.0/24\"\nplan = \"deny\"";
    assert_eq!(flows(of_a_cgroup), (false, vec![(0, 90, 12)]), "it is named as not rehearsed");
}

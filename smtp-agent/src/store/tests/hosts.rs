//! What the DNS called addresses: who is to be asked for, for how long it holds, and what reports make of it.

use super::*;
use crate::report::{Asked, Report};

fn sent(time: Millis, last: u8) -> Record {
    let mut attempt = attempt(time, who("shop", 1), Verdict::Allowed);
    attempt.target = target(last);
    told(attempt)
}

fn host(last: u8, name: Option<&str>, how: Named, asked: Millis) -> Host {
    Host { address: [192, 0, 2, last].into(), name: name.map(Into::into), how, asked }
}

fn unnamed(state: &Path, now: Millis) -> Vec<u8> {
    let all = Reader::open(state).unwrap().unnamed(10, now).unwrap();
    all.into_iter().map(|ip| ip.to_string().rsplit('.').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn names_are_asked_for_once_and_again_when_they_are_old() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    write(state, Gate::Adopted, &[sent(TODAY, 1), sent(TODAY + 1, 2), sent(TODAY + 2, 3), sent(TODAY + 3, 4)]);
    assert_eq!(unnamed(state, TODAY), [4, 3, 2, 1], "those of late first");
    let hosts = vec![
        host(1, Some("mx.big.example"), Named::Ptr, TODAY),
        host(2, None, Named::Not, TODAY),
        host(3, None, Named::Failed, TODAY),
        host(4, Some("big.example"), Named::Mx, TODAY),
    ];
    write(state, Gate::Adopted, &[Record::Hosts(hosts)]);
    assert_eq!(unnamed(state, TODAY + HOUR), [0_u8; 0]);
    assert_eq!(unnamed(state, TODAY + HOUR + 1), [3], "it had failed");
    assert_eq!(unnamed(state, TODAY + DAY + 1), [3, 2], "there was none");
    // Nobody sends there any more.
    assert_eq!(unnamed(state, TODAY + 8 * DAY), [0_u8; 0]);
    write(state, Gate::Adopted, &[sent(TODAY + 8 * DAY, 1), sent(TODAY + 8 * DAY, 4)]);
    assert_eq!(unnamed(state, TODAY + 8 * DAY), [1, 4]);
    // A resolver that fails takes no name away.
    let hosts = vec![host(1, None, Named::Failed, TODAY + 8 * DAY), host(4, None, Named::Not, TODAY + 8 * DAY)];
    write(state, Gate::Adopted, &[Record::Hosts(hosts)]);
    assert_eq!(unnamed(state, TODAY + 8 * DAY + HOUR), [0_u8; 0]);
    assert_eq!(unnamed(state, TODAY + 8 * DAY + HOUR + 1), [1]);
    let names = Reader::open(state).unwrap().hosts().unwrap();
    assert_eq!(names.get("192.0.2.1"), Some(&("mx.big.example".to_owned(), Named::Ptr)));
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_report_sums_up_what_is_of_one_domain() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let events: Vec<Record> = (0..10).map(|n| sent(TODAY + i64::from(n), n % 5)).collect();
    write(state, Gate::Adopted, &events);
    let hosts = vec![
        host(0, Some("mx1.example.co.uk"), Named::Ptr, TODAY),
        host(1, Some("mx2.example.co.uk"), Named::Ptr, TODAY),
        host(2, Some("gmail.com"), Named::Mx, TODAY),
        host(3, None, Named::Not, TODAY),
    ];
    write(state, Gate::Adopted, &[Record::Hosts(hosts)]);
    let reader = Reader::open(state).unwrap();
    let asked = |by| Asked { period: whole(&reader), by, top: 10, user: None, host: String::new() };
    let report = |by| Report::make(&reader, &asked(by), &Default::default(), TODAY + DAY).unwrap();
    let by_destination = report(Dimension::Destination);
    let rows: Vec<_> = by_destination.rows.iter().map(|row| (row.name.as_str(), row.numbers.attempts)).collect();
    assert_eq!(rows, [("example.co.uk", 4), ("192.0.2.3", 2), ("192.0.2.4", 2), ("gmail.com", 2)]);
    assert!(by_destination.notes.iter().any(|note| note.contains("PTR")), "{:?}", by_destination.notes);
    assert!(!report(Dimension::Script).notes.iter().any(|note| note.contains("PTR")));
    let shop = reader.account("shop").unwrap().unwrap();
    let samples = reader.behind(&[shop.id], whole(&reader), 1).unwrap().remove(0).behind.remove(0).samples;
    let names: Vec<_> = samples.iter().map(|sample| sample.name.as_deref()).collect();
    assert_eq!(names, [None, None, Some("gmail.com"), Some("mx2.example.co.uk"), Some("mx1.example.co.uk")]);
}

#[test]
fn a_history_of_a_version_before_gets_a_table_for_names() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    write(state, Gate::Adopted, &[sent(TODAY, 1)]);
    let db = Connection::open(state.join(NAME)).unwrap();
    db.execute_batch("DROP TABLE host; DROP INDEX actor_by_account; PRAGMA user_version = 1").unwrap();
    drop(db);
    assert!(matches!(Reader::open(state), Err(Trouble::Refused(why)) if why.contains("earlier smtp-agent")));
    assert!(super::super::saved::read(state).is_ok(), "what is to be put back after a reboot is read all the same");
    write(state, Gate::Adopted, &[Record::Hosts(vec![host(1, Some("a.example"), Named::Ptr, TODAY)])]);
    assert_eq!(Reader::open(state).unwrap().host("192.0.2.1").unwrap().as_deref(), Some("a.example"));
}

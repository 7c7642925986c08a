//! What is kept for the time after a reboot.

use super::{
    record::{Brake, Container, Window, Windows},
    *,
};

fn windows() -> Windows {
    Windows {
        time: TODAY,
        boot: "first".into(),
        windows: vec![Window { kind: kind::USER, id: 7, lane: 0, span: 1, charges: vec![(TODAY, 3)] }],
        accounts: vec![(kind::USER, 7), (kind::CGROUP, 1 << 63 | 9)],
        brakes: vec![Brake { kind: kind::USER, id: 7, at: TODAY - DAY, plan: u32::MAX }],
        containers: vec![Container {
            kind: kind::CGROUP,
            id: 1 << 63 | 9,
            identity: u64::MAX,
            name: "box \\n\"".into(),
        }],
    }
}

fn kept(state: &Path) -> Windows {
    crate::store::saved::read(state).unwrap().unwrap().windows
}

fn told(windows: &Windows) -> Record {
    Record::Windows(Box::new(windows.clone()))
}

#[test]
fn windows_brakes_and_containers_are_read_as_they_were_saved_last() {
    let dir = tempfile::tempdir().unwrap();
    let first = windows();
    let later = Windows { brakes: Vec::new(), containers: Vec::new(), ..windows() };
    write(dir.path(), Gate::Fresh, &[told(&first)]);
    assert_eq!(kept(dir.path()), Windows { time: 0, ..first.clone() });
    write(dir.path(), Gate::Adopted, &[told(&later), told(&first), told(&later)]);
    assert_eq!(kept(dir.path()), Windows { time: 0, ..later });
}

#[test]
fn a_file_that_was_saved_without_brakes_is_read_and_a_broken_list_costs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Gate::Fresh, &[told(&windows())]);
    let change = |sql: &str| {
        let db = Connection::open(dir.path().join(NAME)).unwrap();
        db.execute_batch(sql).unwrap();
        drop(db);
        kept(dir.path())
    };
    let without = Windows { time: 0, brakes: Vec::new(), ..windows() };
    assert_eq!(change("UPDATE meta SET value = '[{\"kind\": 1}' WHERE key = 'brakes'"), without);
    let without = Windows { containers: Vec::new(), ..without };
    assert_eq!(change("DELETE FROM meta WHERE key IN ('brakes', 'containers')"), without);
}

#[test]
fn a_container_that_goes_on_under_another_number_is_not_counted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let counter = |kind, id, count| {
        let mut counter = counter("container:box", id, Verdict::Allowed, count);
        counter.id.kind = kind;
        counter
    };
    let counters = |counters| Record::Counters(counters, TODAY);
    let old = [counter(kind::CGROUP, 11, 30), counter(kind::CGROUP, 12, 5), counter(kind::USER, 7, 9)];
    write(dir.path(), Gate::Fresh, &[counters(old.to_vec())]);
    assert_eq!(attempts(dir.path()), (44, 0));
    // Number 12 is another's now, who has been counted once.
    let new = [counter(kind::CGROUP, 1 << 63 | 1, 30), counter(kind::USER, 7, 9), counter(kind::CGROUP, 12, 1)];
    let restored = Gate::Restored(vec![(new[0].id, 30)]);
    write(dir.path(), restored, &[counters(new.to_vec())]);
    assert_eq!(attempts(dir.path()), (45, 0));
}

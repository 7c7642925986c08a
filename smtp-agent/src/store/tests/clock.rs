//! What wrong clocks and readers in between do to what is kept.

use super::*;

fn rows(db: &Connection, table: &str) -> i64 {
    db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn hour(writing: &mut Writing) {
    let minutes: Vec<_> = (0..60).map(|minute| one(TODAY + minute * MINUTE)).collect();
    writing.write(&minutes).unwrap();
}

/// Attempts of one minute of the hour, and the length of the period in which they are told.
fn a_minute(state: &Path, begin: Millis, now: Millis) -> (i64, Millis) {
    let reader = Reader::open(state).unwrap();
    let period = reader.widened(Period::new(begin, begin + MINUTE), now);
    let events = reader.events(Dimension::User, period, None).unwrap();
    (events.values().map(Counts::attempts).sum(), period.to - period.from)
}

#[test]
fn a_clock_that_runs_ahead_for_a_while_costs_no_history() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    hour(&mut writing);
    let now = TODAY + HOUR;
    writing.tend(&ROOMY, now).unwrap();
    // It is ahead while the agent runs, while it writes, and over its next start.
    writing.tend(&ROOMY, now + 400 * DAY).unwrap();
    writing.write(&[one(now + 400 * DAY)]).unwrap();
    writing.tend(&ROOMY, now + 400 * DAY + 30_000).unwrap();
    writing.close().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Adopted).unwrap();
    writing.tend(&ROOMY, now + 400 * DAY + MINUTE).unwrap();
    writing.tend(&ROOMY, now + MINUTE).unwrap();
    assert_eq!(rows(&writing.db, "attempt"), 61);
    writing.close().unwrap();
    assert_eq!(a_minute(dir.path(), TODAY + 30 * MINUTE, now + MINUTE), (1, MINUTE));
}

#[test]
fn what_a_wrong_clock_has_left_behind_is_put_right() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let set = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
    for key in ["minutes_from", "hours_from", "days_from"] {
        writing.db.execute(set, (key, TODAY + 400 * DAY)).unwrap();
    }
    writing.tend(&ROOMY, TODAY - MINUTE).unwrap();
    hour(&mut writing);
    writing.close().unwrap();
    assert_eq!(a_minute(dir.path(), TODAY + 30 * MINUTE, TODAY + HOUR), (1, MINUTE));
}

#[test]
fn a_host_that_was_off_for_long_keeps_what_is_too_old_no_longer_than_the_clock_is_doubted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    hour(&mut writing);
    writing.close().unwrap();
    let later = TODAY + 100 * DAY;
    let (mut writing, _) = Writing::open(dir.path(), Gate::Adopted).unwrap();
    writing.tend(&ROOMY, later).unwrap();
    assert_eq!(rows(&writing.db, "attempt"), 60, "doubted");
    let mut tidying = prune::Tidying::believing(later);
    while tidying.tend(&writing.db, &ROOMY, later).unwrap().more {}
    assert_eq!(rows(&writing.db, "attempt"), 0);
}

#[test]
fn from_when_on_sums_are_kept_is_said_before_the_older_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    hour(&mut writing);
    // Who reads while rows go sees what meta says by then.
    writing
        .db
        .execute_batch(
            "CREATE TABLE said (minutes_from INTEGER);
             CREATE TRIGGER gone AFTER DELETE ON rollup BEGIN
                 INSERT INTO said SELECT ifnull((SELECT value FROM meta WHERE key = 'minutes_from'), 0);
             END",
        )
        .unwrap();
    let mut tidying = prune::Tidying::believing(TODAY);
    let now = TODAY + 3 * DAY;
    tidying.tend(&writing.db, &ROOMY, TODAY + DAY - MINUTE).unwrap();
    tidying.tend(&writing.db, &ROOMY, TODAY + 2 * DAY - 2 * MINUTE).unwrap();
    tidying.tend(&writing.db, &ROOMY, now - 3 * MINUTE).unwrap();
    assert_eq!(rows(&writing.db, "said"), 120, "by facet and by destination");
    let least: Millis = writing.db.query_row("SELECT min(minutes_from) FROM said", [], |row| row.get(0)).unwrap();
    assert_eq!(least, now - 3 * MINUTE - 2 * DAY);
}

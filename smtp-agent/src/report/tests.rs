//! What is said of a period: since when, and how much of it the history knows.

use std::path::Path;

use smtp_common::counter::Verdict;

use super::{timeline::Timeline, *};
use crate::store::{
    Dimension, Gate, Limits, Writing,
    tests::{DAY, HOUR, MINUTE, ROOMY, TODAY, attempt, told, who},
};

fn asked(period: Period) -> Asked {
    Asked { period, by: Dimension::User, top: 9, user: None, host: "host".into() }
}

fn found(state: &Path, period: Period, now: Millis) -> who::Answer {
    let reader = Reader::open(state).unwrap();
    who::Answer::find(&reader, &who::Asked { period, top: 9, user: None }, now).unwrap()
}

#[test]
fn a_flood_of_days_has_reached_its_limit_when_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let flood: Vec<_> =
        (0..5 * 360).map(|n| told(attempt(TODAY + 42 + n * 10_000, who("shop", 1), Verdict::Refused))).collect();
    writing.write(&flood).unwrap();
    let calm = |time| told(attempt(time, who("calm", 1), Verdict::Allowed));
    writing.write(&[told(attempt(TODAY, who("calm", 1), Verdict::Refused)), calm(TODAY + 5 * HOUR - MINUTE)]).unwrap();
    writing.close().unwrap();
    let now = TODAY + 5 * HOUR;
    let answer = found(dir.path(), Period::new(now - HOUR, now), now);
    let [shop, calm] = &answer.culprits[..] else { panic!("{answer:#?}") };
    assert_eq!(shop.limit_reached.as_deref(), Some("2026-11-20T00:00:00Z"));
    assert_eq!(calm.limit_reached, None, "it was long ago, and nothing of it is left");
    let actor = &shop.actors[0];
    assert_eq!(
        [&actor.first_seen, &actor.since],
        ["2026-11-20T00:00:00.042Z", "2026-11-20T04:00:00.042Z"].map(str::to_owned).each_ref()
    );
    assert_eq!(answer.notes, [""; 0]);
}

#[test]
fn of_a_time_before_the_history_nothing_is_told_but_that() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let now = TODAY + 40 * DAY;
    let one = |time| told(attempt(time, who("shop", 1), Verdict::Allowed));
    writing.write(&[one(now - 10 * DAY), one(now - HOUR)]).unwrap();
    while writing.tend(&Limits { ..ROOMY }, now).unwrap() {}
    writing.close().unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let begins = "the history begins at 2026-11-29T00:00:00Z: nothing older is kept".to_owned();
    let before = Period::new(TODAY, TODAY + DAY);
    let report = Report::make(&reader, &asked(before), &Quotas::new(), now).unwrap();
    assert_eq!(
        [&report.since, &report.until],
        ["2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"].map(str::to_owned).each_ref()
    );
    assert_eq!((report.totals, report.rows.len(), report.series.len()), (Numbers::default(), 0, 0));
    assert_eq!(report.notes, std::slice::from_ref(&begins));
    assert!(html::write(&report).contains("the history begins at"));
    let answer = found(dir.path(), before, now);
    assert_eq!((answer.culprits.len(), &answer.notes), (0, &vec![begins.clone()]));
    let shop = reader.account("shop").unwrap().unwrap();
    let timeline = Timeline::make(&reader, &shop, before, Vec::new(), now).unwrap();
    assert_eq!((timeline.points.len(), timeline.happenings.len()), (0, 0));
    assert_eq!((timeline.notes, timeline.since.as_str()), (vec![begins.clone()], "2026-11-20T00:00:00Z"));
    // Only its beginning is before.
    let partly = Report::make(&reader, &asked(Period::new(TODAY, now)), &Quotas::new(), now).unwrap();
    assert_eq!((partly.since.as_str(), partly.notes), ("2026-11-29T00:00:00Z", vec![begins]));
    assert_eq!(found(dir.path(), Period::new(now - DAY, now), now).notes, [""; 0]);
}

#[test]
fn a_spreadsheet_says_of_which_time_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    writing.write(&[told(attempt(TODAY, who("shop", 1), Verdict::Allowed))]).unwrap();
    writing.close().unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let now = TODAY + 90 * MINUTE;
    let report =
        Report::make(&reader, &Asked { by: Dimension::Script, ..asked(Period::new(TODAY, now)) }, &Quotas::new(), now);
    let sheet = csv::write(&report.unwrap());
    let lines: Vec<_> = sheet.lines().collect();
    assert!(lines[0].starts_with("script,attempts,") && lines[0].ends_with(",left,since,until"), "{sheet}");
    assert_eq!(lines.len(), 3);
    assert!(lines[1..].iter().all(|line| line.ends_with(",2026-11-20T00:00:00Z,2026-11-20T01:30:00Z")), "{sheet}");
}

#[test]
fn a_time_has_milliseconds_where_it_needs_them() {
    assert_eq!(date(1_795_180_320_000), "2026-11-20T13:12:00Z");
    assert_eq!(date(1_795_180_320_042), "2026-11-20T13:12:00.042Z");
    assert_eq!(seconds(1_795_180_320_999), "2026-11-20T13:12:00Z");
    assert_eq!([date(-1), date(i64::MAX)], ["1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"]);
}

#[test]
fn the_limit_that_is_nearest_to_its_end_is_told() {
    let of = |unit, window, left, limit| Left { level: OWN, unit, window, left, limit };
    let all = [of("connection", "hour", 62, 100), of("message", "day", 10, 1_000), of("connection", "day", 900, 1_000)];
    assert_eq!(nearest_end(&all), "10 messages of 1,000 a day");
    assert_eq!(nearest_end(&all[..1]), "62 of 100 an hour");
    assert_eq!(nearest_end(&[of("connection", "hour", 0, 0), all[0].clone()]), "0 of 0 an hour");
    assert_eq!(nearest_end(&[]), "");
    let shared = Left { level: "plan", ..of("message", "day", 0, 1_000) };
    assert_eq!(nearest_end(&[all[0].clone(), shared]), "0 messages of 1,000 a day (plan)");
}

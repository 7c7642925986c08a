//! Sums are those of the events and of the counters, whatever the period, the batches and the restarts.

use proptest::prelude::*;

use super::*;

/// Time after the first, account, script, destination, verdict.
type Event = (Millis, u8, u8, u8, u8);

fn events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec((0..5 * DAY, 0..4u8, 0..6u8, 0..9u8, 0..8u8), 1..80)
}

fn record(&(after, account, script, to, verdict): &Event) -> Record {
    let who = who(&format!("user{account}"), script.into());
    let verdict = Verdict::ALL[verdict as usize];
    told(Attempt { target: target(to), ..attempt(TODAY + after, who, verdict) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_breakdown_of_every_period_adds_up_to_the_events_in_it(
        events in events(), begin in 0..5 * DAY, length in 0..5 * DAY, batch in 1..30usize,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
        let records: Vec<_> = events.iter().map(record).collect();
        for batch in records.chunks(batch) {
            writing.write(batch).unwrap();
        }
        writing.close().unwrap();
        let reader = Reader::open(dir.path()).unwrap();
        let period = reader.widened(Period::new(TODAY + begin, TODAY + begin + length), TODAY + 10 * DAY);
        let inside: Vec<_> = events.iter().filter(|event| (period.from..period.to).contains(&(TODAY + event.0))).collect();
        for dimension in Dimension::ALL {
            let sums = reader.events(dimension, period, None).unwrap();
            let mut all = Counts::default();
            sums.values().for_each(|counts| all += *counts);
            for verdict in Verdict::ALL {
                let wanted = inside.iter().filter(|event| event.4 == verdict as u8).count() as i64;
                prop_assert_eq!(all.verdict(verdict), wanted, "{:?} {:?}", dimension, verdict);
            }
            prop_assert_eq!(all.over_limit(), all.stopped());
            let different = |key: fn(&Event) -> u16| inside.iter().map(|event| key(event)).collect::<std::collections::HashSet<_>>().len();
            let wanted = match dimension {
                Dimension::User => different(|event| event.1.into()),
                Dimension::Script => different(|event| u16::from(event.1) << 8 | u16::from(event.2)),
                Dimension::Destination => different(|event| event.3.into()),
                Dimension::Service | Dimension::Process | Dimension::Plan => usize::from(!inside.is_empty()),
            };
            prop_assert_eq!(sums.len(), wanted, "{:?}", dimension);
        }
        let hours = reader.series(period, Level::Hour, None).unwrap();
        prop_assert_eq!(hours.values().map(Counts::over_limit).sum::<i64>(),
            inside.iter().filter(|event| event.4 >= 2).count() as i64);
    }

    #[test]
    fn totals_are_what_the_counters_have_grown_by_over_restarts_resets_and_lost_batches(
        steps in prop::collection::vec((0..500u64, prop::bool::weighted(0.2), prop::bool::weighted(0.1), any::<bool>()), 1..30),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
        let (mut stands, mut seen, mut wanted) = (0, 0, 0);
        for (n, (grown, restarts, resets, told)) in steps.into_iter().enumerate() {
            if restarts {
                writing.close().unwrap();
                // A gate that was made anew counts from 0.
                let gate = if resets { Gate::Fresh } else { Gate::Adopted };
                if resets {
                    (stands, seen) = (0, 0);
                }
                writing = Writing::open(dir.path(), gate).unwrap().0;
            }
            stands += grown;
            if told {
                wanted += stands - seen;
                seen = stands;
                let counters = vec![counter("shop", 1000, Verdict::Allowed, stands)];
                writing.write(&[Record::Counters(counters, TODAY + n as Millis * 10_000)]).unwrap();
            }
        }
        writing.close().unwrap();
        prop_assert_eq!(attempts(dir.path()), (wanted as i64, 0));
    }
}

#[test]
fn what_was_counted_before_there_was_a_history_is_not_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let counters = |n| Record::Counters(vec![counter("shop", 1000, Verdict::Allowed, n)], TODAY);
    write(dir.path(), Gate::Adopted, &[counters(1_000)]);
    assert_eq!(attempts(dir.path()), (0, 0));
    write(dir.path(), Gate::Adopted, &[counters(1_007)]);
    assert_eq!(attempts(dir.path()), (7, 0));
}

#[test]
fn an_account_that_changes_its_label_is_not_counted_twice() {
    let dir = tempfile::tempdir().unwrap();
    let counters = |label, n| Record::Counters(vec![counter(label, 7, Verdict::Allowed, n)], TODAY);
    write(dir.path(), Gate::Fresh, &[counters("container:cgroup-7", 10), counters("container:docker-4f2c", 15)]);
    let reader = Reader::open(dir.path()).unwrap();
    let totals = reader.totals(whole(&reader), None).unwrap();
    let of = |name: &str| totals[&reader.account(name).unwrap().unwrap().id].attempts();
    assert_eq!((of("container:cgroup-7"), of("container:docker-4f2c")), (10, 5));
}

#[test]
fn events_of_one_millisecond_and_late_ones_each_have_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let at = |time| told(attempt(time, who("shop", 1), Verdict::Allowed));
    let mut records: Vec<_> = (0..3_000).map(|_| at(TODAY)).collect();
    records.extend((0..2_000).map(|n| at(TODAY - DAY + n % 3)));
    records.extend((0..10).map(|_| at(TODAY + HOUR)));
    write(dir.path(), Gate::Fresh, &records);
    assert_eq!(attempts(dir.path()).1, 5_010);
    let db = Connection::open(dir.path().join(NAME)).unwrap();
    let rows: i64 = db.query_row("SELECT count(*) FROM attempt", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 5_010);
}

#[test]
fn a_stranger_who_makes_up_names_is_summed_as_other_and_nobody_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let honest = |n| told(attempt(TODAY + n, who("honest", 1), Verdict::Allowed));
    let mut records = Vec::new();
    for n in 0..12_000 {
        records.push(told(attempt(TODAY + n, who("bot", n as u32), Verdict::Refused)));
        if n % 100 == 0 {
            records.push(honest(n));
        }
    }
    write(dir.path(), Gate::Fresh, &records);
    let reader = Reader::open(dir.path()).unwrap();
    let scripts = reader.events(Dimension::Script, whole(&reader), None).unwrap();
    assert!(scripts.len() <= 2 * Level::Day.room(), "{} scripts", scripts.len());
    assert_eq!(scripts.values().map(Counts::attempts).sum::<i64>(), 12_120);
    let names = reader.texts(scripts.keys().copied()).unwrap();
    let honest = names.iter().find(|(_, name)| name.as_str() == "/home/honest/1.php").unwrap().0;
    assert_eq!(scripts[honest].attempts(), 120);
    let hidden = scripts[&schema::OTHER].attempts();
    assert!(hidden > 5_000, "{hidden} of other");
    let bot = reader.account("bot").unwrap().unwrap().id;
    let actors = reader.behind(&[bot], whole(&reader), 10_000).unwrap().remove(0).behind;
    assert!(actors.len() < 2_000, "{} actors", actors.len());
    assert_eq!(actors.iter().map(|behind| behind.counts.attempts()).sum::<i64>(), 12_000);
}

#[test]
fn who_was_behind_is_told_with_the_latest_process_and_samples() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Vec::new();
    for n in 0..40 {
        let mut of = who("shop", (n % 4 == 0).into());
        of.tgid = 100 + n;
        Arc::get_mut(&mut of.culprit).unwrap().started = Some(format!("start {n}"));
        let verdict = if n < 30 { Verdict::Allowed } else { Verdict::Refused };
        records.push(told(attempt(TODAY + Millis::from(n), of.clone(), verdict)));
        records.push(ended(TODAY + Millis::from(n) + 500, of, 2));
    }
    records.push(told(attempt(TODAY, who("other", 0), Verdict::Allowed)));
    write(dir.path(), Gate::Fresh, &records);
    let reader = Reader::open(dir.path()).unwrap();
    let shop = reader.account("shop").unwrap().unwrap();
    assert_eq!((shop.first, shop.kind), (TODAY, kind::USER));
    let behind = reader.behind(&[shop.id], whole(&reader), 9).unwrap().remove(0).behind;
    let [most, less] = &behind[..] else { panic!("{behind:#?}") };
    assert_eq!((most.counts.attempts(), less.counts.attempts()), (30, 10));
    assert_eq!(most.culprit.script_path(), Some("/home/shop/0.php"));
    assert_eq!(most.culprit.started.as_deref(), Some("start 39"));
    assert_eq!(most.counts.messages(), [60, 0, 0, 0]);
    assert_eq!(most.plan.as_deref(), Some("standard"));
    assert_eq!(
        most.processes.iter().map(|process| process.tgid).collect::<Vec<_>>(),
        [139, 138, 137, 135, 134, 133, 131, 130]
    );
    let sample = &most.samples[0];
    assert_eq!((sample.time, sample.tgid, sample.address.as_str(), sample.port), (TODAY + 39, 139, "192.0.2.1", 25));
    assert_eq!((sample.verdict, sample.reason), (Some(Verdict::Refused), Some(Reason::AccountHour)));
    let notes = reader.notes(shop.id, whole(&reader)).unwrap();
    let notes: Vec<_> = notes.iter().map(|note| (note.time - TODAY, note.what)).collect();
    assert_eq!(notes, [(30, schema::note::LIMIT)]);
}

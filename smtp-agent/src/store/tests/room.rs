//! Who makes up names, or is busy, takes nothing from the others.

use super::*;

fn file(dir: &Path) -> Connection {
    Connection::open(dir.join(NAME)).unwrap()
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn commanded(account: &str, command: String) -> Who {
    let mut who = who(account, 1);
    Arc::get_mut(&mut who.culprit).unwrap().command = Some(vec![command]);
    who
}

#[test]
fn long_command_lines_fill_no_disk_and_cost_the_others_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let limits = Limits { max_size: 16 << 20, ..ROOMY };
    writing.tend(&limits, TODAY).unwrap();
    let told_of = |time, who| told(attempt(time, who, Verdict::Allowed));
    writing.write(&[told_of(TODAY, commanded("honest", "send".into()))]).unwrap();
    for n in 0..2_000 {
        // Of twelve thousand octets, and far beyond what is kept of any.
        let long = if n % 10 == 0 { 200_000 } else { 12_000 };
        writing.write(&[told_of(TODAY + n, commanded("bot", format!("{n} {}", "x".repeat(long))))]).unwrap();
    }
    writing.write(&[told_of(TODAY, commanded("late", "send".into()))]).unwrap();
    writing.close().unwrap();
    let db = file(dir.path());
    assert!(number(&db, "SELECT max(length(culprit)) FROM actor") <= actor::MOST as i64);
    let octets = number(&db, "SELECT sum(length(culprit)) FROM actor");
    assert!(octets < 300_000, "{octets}");
    let reader = Reader::open(dir.path()).unwrap();
    for honest in ["honest", "late"] {
        let id = reader.account(honest).unwrap().unwrap().id;
        let behind = reader.behind(&[id], whole(&reader), 9).unwrap().remove(0).behind;
        assert_eq!(behind[0].culprit.command.as_deref(), Some(&["send".to_owned()][..]), "{honest}");
    }
    let bot = reader.account("bot").unwrap().unwrap().id;
    let behind = reader.behind(&[bot], whole(&reader), 1_000).unwrap().remove(0).behind;
    assert_eq!(behind.iter().map(|behind| behind.counts.attempts()).sum::<i64>(), 2_000);
    assert_eq!(behind[0].culprit.script_path(), Some("/home/bot/1.php"));
}

/// Twenty days of an honest account, one attempt a day.
fn honest(writing: &mut Writing) {
    let days: Vec<_> = (0..20).map(|day| one(TODAY + day * DAY)).collect();
    writing.write(&days).unwrap();
}

/// Twelve MiB of actors, whose last events were at a time.
fn fill(db: &Connection, last: Millis) {
    db.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 4000)
         INSERT INTO actor SELECT 100 + n, n, 1, 0, '', 1, hex(zeroblob(1500)), '[]', ?1, ?1 FROM n",
        [last],
    )
    .unwrap();
}

#[test]
fn actors_that_no_event_refers_to_go_before_anybodys_events_and_sums() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    honest(&mut writing);
    fill(&writing.db, TODAY - HOUR);
    let limits = Limits { max_size: 16 << 20, ..ROOMY };
    while writing.tend(&limits, TODAY + 20 * DAY).unwrap() {}
    writing.write(&[one(TODAY + 20 * DAY)]).unwrap();
    writing.close().unwrap();
    let db = file(dir.path());
    assert_eq!(number(&db, "SELECT count(*) FROM actor"), 1);
    assert_eq!(number(&db, "SELECT count(*) FROM attempt"), 21);
    assert_eq!(attempts(dir.path()).1, 21);
    check_integrity(dir.path());
}

#[test]
fn a_flood_of_actors_costs_nobody_the_sums_of_hours_and_days() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    honest(&mut writing);
    let now = TODAY + 20 * DAY;
    fill(&writing.db, now);
    // Each has an event of its own.
    let sql = "INSERT INTO attempt SELECT ?1 + id, id, 1, 0, 1 FROM actor WHERE id >= 100";
    writing.db.execute(sql, [schema::event_id(now)]).unwrap();
    let limits = Limits { max_size: 16 << 20, ..ROOMY };
    while writing.tend(&limits, now + 10).unwrap() {}
    writing.close().unwrap();
    let db = file(dir.path());
    assert_eq!(number(&db, "SELECT count(*) FROM rollup WHERE dim = 0 AND level = 1"), 20);
    assert_eq!(attempts(dir.path()).1, 20);
}

#[test]
fn one_busy_account_leaves_the_others_their_room() {
    let dir = tempfile::tempdir().unwrap();
    let to = |account: &str, n: u32| {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + n);
        let target = Target { address: address.into(), ..target(1) };
        told(Attempt { target, ..attempt(TODAY + 1_000, who(account, 1), Verdict::Allowed) })
    };
    let mut records: Vec<_> = (0..1_000).map(|n| to("busy", n)).collect();
    records.extend((0..50).map(|n| to("honest", 5_000 + n)));
    // An account has its part over restarts, too.
    for batch in records.chunks(300) {
        write(dir.path(), Gate::Adopted, batch);
    }
    let reader = Reader::open(dir.path()).unwrap();
    let of = |account: &str, level: Level| {
        let id = reader.account(account).unwrap().unwrap().id;
        let period = Period { finest: level, ..Period::new(TODAY, TODAY + level.millis()) };
        reader.events(Dimension::Destination, period, Some(id)).unwrap()
    };
    for level in [Level::Minute, Level::Hour] {
        let (busy, honest) = (of("busy", level), of("honest", level));
        assert_eq!(busy.len(), level.room() / 4 + 1, "{level:?}: a quarter, and other");
        assert_eq!(busy.values().map(Counts::attempts).sum::<i64>(), 1_000);
        assert_eq!(honest.len(), 50, "{level:?}");
        assert!(!honest.contains_key(&schema::OTHER));
    }
}

#[test]
fn a_user_that_was_made_anew_has_the_uid_it_has_now() {
    let dir = tempfile::tempdir().unwrap();
    let counters = |uid, n| Record::Counters(vec![counter("shop", uid, Verdict::Allowed, n)], TODAY);
    let uid = || Reader::open(dir.path()).unwrap().account("shop").unwrap().unwrap().uid;
    write(dir.path(), Gate::Fresh, &[counters(1_001, 5)]);
    assert_eq!(uid(), 1_001);
    write(dir.path(), Gate::Adopted, &[counters(2_002, 1)]);
    assert_eq!(uid(), 2_002);
    // What the event of a subordinate uid says is not the account's.
    let of = Who { uid: 165_536, ..who("shop", 1) };
    write(dir.path(), Gate::Adopted, &[told(attempt(TODAY, of, Verdict::Allowed)), counters(2_002, 2)]);
    assert_eq!(uid(), 2_002);
}

#[test]
fn the_last_counters_and_windows_are_written_also_when_the_way_was_full() {
    let dir = tempfile::tempdir().unwrap();
    let history = History::start(dir.path(), ROOMY, Gate::Fresh).unwrap();
    let other = file(dir.path());
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    while history.lost(Cause::Slow) == 0 {
        history.tell(one(TODAY));
    }
    let windows = |time, count| {
        let window = record::Window { kind: kind::USER, id: 7, lane: 0, span: 0, charges: vec![(TODAY, count)] };
        let windows = record::Windows { time, boot: "b".into(), windows: vec![window], ..Default::default() };
        Record::Windows(Box::new(windows))
    };
    for n in 1..4 {
        history.tell(Record::Counters(vec![counter("shop", 7, Verdict::Allowed, n)], TODAY));
        history.tell(windows(TODAY, n as u32));
    }
    other.execute_batch("COMMIT").unwrap();
    while !history.stop() {}
    assert_eq!(attempts(dir.path()).0, 3);
    let saved = super::super::saved::read(dir.path()).unwrap().expect("windows");
    assert_eq!(saved.windows.windows[0].charges, [(TODAY, 3)]);
}

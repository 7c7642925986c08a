//! Who was behind it is found also where others' events stand in the way.

use super::*;

/// More events than are looked at, of an account that has nothing to do with it.
const NOISE: i64 = 201_000;

fn noise(db: &Connection, from: Millis, to: Millis) {
    db.execute(
        "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < ?1 - 1)
         INSERT OR IGNORE INTO attempt
         SELECT ?2 + n * ((?3 - ?2) / ?1) + 1, (SELECT max(id) FROM actor WHERE account = 1), 1, 0, 1 FROM n",
        (NOISE, schema::event_id(from), schema::event_id(to)),
    )
    .unwrap();
}

fn scripts(culprits: &read::Culprits) -> Vec<(Option<&str>, i64)> {
    culprits.behind.iter().map(|behind| (behind.culprit.script_path(), behind.counts.attempts())).collect()
}

#[test]
fn a_flood_of_this_morning_is_found_behind_one_mail_of_now_and_others_many() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writing, _) = Writing::open(dir.path(), Gate::Fresh).unwrap();
    let now = TODAY + 12 * HOUR;
    let (flood, shop) = (TODAY + 2 * HOUR, |script| who("shop", script));
    writing.write(&[told(attempt(TODAY, who("noisy", 9), Verdict::Allowed))]).unwrap();
    // The bot's script, in two stretches, and what the shop does at all times.
    let bot: Vec<_> = (0..3_000).map(|n| told(attempt(flood + n * 100, shop(1), Verdict::Refused))).collect();
    let again: Vec<_> = (0..100).map(|n| told(attempt(flood + HOUR + n, shop(1), Verdict::Refused))).collect();
    let orders: Vec<_> = (0..50).map(|n| told(attempt(TODAY + n * 10 * MINUTE, shop(2), Verdict::Allowed))).collect();
    let ended = [ended(flood + 500, shop(1), 7)];
    for records in [&bot[..], &again, &orders, &ended, &[told(attempt(now - MINUTE, shop(3), Verdict::Allowed))]] {
        writing.write(records).unwrap();
    }
    noise(&writing.db, TODAY + 8 * HOUR, now);
    writing.close().unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let account = reader.account("shop").unwrap().unwrap().id;
    let period = reader.widened(Period::new(TODAY, now), now);
    let culprits = reader.behind(&[account], period, 3).unwrap().remove(0);
    let path = |n| Some(["/home/shop/1.php", "/home/shop/2.php", "/home/shop/3.php"][n]);
    assert_eq!(scripts(&culprits), [(path(0), 3_100), (path(1), 50), (path(2), 1)]);
    assert!(culprits.is_cut);
    let bot = &culprits.behind[0];
    assert_eq!((bot.first, bot.last, bot.first_seen), (flood, flood + HOUR + 99, flood));
    assert_eq!(bot.counts.messages(), [7, 0, 0, 0], "from the sums");
    assert!(bot.samples.iter().all(|sample| sample.verdict == Some(Verdict::Refused)));
    assert!(culprits.behind.iter().all(|behind| !behind.samples.is_empty()), "{culprits:#?}");
    // Of the noisy one, too, not all was looked at.
    let noisy = reader.account("noisy").unwrap().unwrap().id;
    assert_eq!(scripts(&reader.behind(&[noisy], period, 3).unwrap().remove(0)).len(), 1);
}

#[test]
fn two_command_lines_of_one_script_are_two_and_do_not_hide_another_script() {
    let dir = tempfile::tempdir().unwrap();
    let commanded = |command: &str, script| {
        let mut who = who("shop", script);
        Arc::get_mut(&mut who.culprit).unwrap().command = Some(vec![command.into()]);
        who
    };
    let mut records = Vec::new();
    for n in 0..40 {
        let command = ["a", "b", "c", "d"][n as usize % 4];
        records.push(told(attempt(TODAY + n, commanded(command, 1), Verdict::Allowed)));
    }
    records.extend((0..9).map(|n| told(attempt(TODAY + n, commanded("e", 2), Verdict::Allowed))));
    write(dir.path(), Gate::Fresh, &records);
    let reader = Reader::open(dir.path()).unwrap();
    let id = reader.account("shop").unwrap().unwrap().id;
    let culprits = reader.behind(&[id], whole(&reader), 3).unwrap().remove(0);
    let of = |script: u32, n| (Some(["/home/shop/1.php", "/home/shop/2.php"][script as usize - 1]), n);
    assert_eq!(scripts(&culprits), [of(1, 10), of(2, 9), of(1, 10)]);
    assert!(!culprits.is_cut);
}

#[test]
fn what_events_told_of_is_named_by_the_sums_when_the_events_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let records: Vec<_> = (0..30).map(|n| one(TODAY + n * 1_000)).collect();
    write(dir.path(), Gate::Fresh, &records);
    Connection::open(dir.path().join(NAME)).unwrap().execute("DELETE FROM attempt", []).unwrap();
    let reader = Reader::open(dir.path()).unwrap();
    let id = reader.account("shop").unwrap().unwrap().id;
    let culprits = reader.behind(&[id], whole(&reader), 3).unwrap().remove(0);
    assert_eq!(scripts(&culprits), [(Some("/home/shop/1.php"), 30)]);
    let [one] = &culprits.behind[..] else { panic!() };
    assert_eq!((one.first, one.last, one.samples.len()), (TODAY, TODAY + 29_000, 0));
}

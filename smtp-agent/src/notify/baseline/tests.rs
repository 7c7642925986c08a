//! What is usual, what is not, and what is not known.

use super::*;
use proptest::prelude::*;

const RULES: Thresholds = Thresholds { factor: 4.0, min: 50, learn: Duration::from_secs(7 * 24 * HOUR) };
const WEEK: u64 = 168;
/// A Monday, at the full hour.
const START: Seconds = 1_790_000_000 / HOUR * HOUR;

/// Lets a world of one account go on hour by hour, a look each minute. Returns what was found in which hour.
fn live(baseline: &mut Baseline, total: &mut u64, from: u64, hours: &[u64]) -> Vec<(u64, Found)> {
    let mut found = Vec::new();
    for (n, count) in hours.iter().enumerate() {
        for minute in 0..60 {
            *total += count / 60 + u64::from(minute < count % 60);
            let now = START + (from + n as u64) * HOUR + minute * 60;
            let new = baseline.look(now, [("shop", *total)], &RULES);
            found.extend(new.into_iter().map(|(_, one)| (from + n as u64, one)));
        }
    }
    found
}

#[test]
fn nothing_is_said_while_it_learns() {
    let mut baseline = Baseline::new(START);
    let mut total = 0;
    assert_eq!(live(&mut baseline, &mut total, 0, &[0, 10, 5000, 0]), []);
    assert_eq!(baseline.look(START + 4 * HOUR, [("new", 100)], &RULES), []);
}

#[test]
fn a_sender_that_was_never_seen_is_told_once_and_his_first_flood_too() {
    let mut baseline = Baseline::new(START);
    let now = START + WEEK * HOUR;
    assert_eq!(baseline.look(now, [("old", 7)], &RULES).len(), 1, "seen for the first time");
    assert_eq!(baseline.look(now + 60, [("old", 8), ("new", 3)], &RULES), [("new".to_owned(), Found::FirstTime)]);
    assert_eq!(baseline.look(now + 120, [("old", 8), ("new", 3)], &RULES), []);
    assert_eq!(baseline.look(now + 180, [("new", 3), ("silent", 0)], &RULES), []);
    let flood = baseline.look(now + 240, [("new", 53)], &RULES);
    assert_eq!(flood, [("new".to_owned(), Found::Unusual { count: 53, usual: 0.0 })]);
}

#[test]
fn a_rate_is_unusual_against_the_accounts_own_history_and_told_once_an_hour() {
    let mut baseline = Baseline::new(START);
    let mut total = 0;
    // A shop that sends by day.
    let week: Vec<u64> = (0..WEEK).map(|hour| if (8..18).contains(&(hour % 24)) { 30 } else { 2 }).collect();
    assert_eq!(live(&mut baseline, &mut total, 0, &week), []);
    let habit = baseline.accounts["shop"];
    assert!((10.0..20.0).contains(&habit.mean) && (25.0..32.0).contains(&habit.usual()), "{habit:?}");
    assert_eq!(live(&mut baseline, &mut total, WEEK, &[30, 45, 100]), [], "busier, but not so much");
    let found = live(&mut baseline, &mut total, WEEK + 3, &[600, 600]);
    let hours: Vec<_> = found.iter().map(|(hour, _)| *hour).collect();
    assert_eq!(hours, [WEEK + 3, WEEK + 4], "once in each hour");
    let Found::Unusual { count, usual } = found[0].1 else { panic!("{found:?}") };
    assert!(count >= 50 && count as f64 > 4.0 * usual && count < 200, "as soon as it shows: {count} of {usual}");
    let after = baseline.accounts["shop"].usual();
    assert!(after < habit.usual() * 2.0, "a flood does not become usual at once: {after}");
}

#[test]
fn little_is_never_unusual() {
    let mut baseline = Baseline::new(START);
    let mut total = 0;
    live(&mut baseline, &mut total, 0, &[1; 200]);
    assert_eq!(live(&mut baseline, &mut total, 200, &[49, 49]), []);
}

#[test]
fn counts_that_begin_anew_and_times_without_an_agent_are_no_flood() {
    let mut baseline = Baseline::new(START);
    let mut total = 0;
    live(&mut baseline, &mut total, 0, &[3; 200]);
    let mut now = START + 200 * HOUR;
    // A reboot: the counters begin at 0.
    assert_eq!(baseline.look(now, [("shop", 2)], &RULES), []);
    // Five hours without an agent.
    now += 5 * HOUR;
    assert_eq!(baseline.look(now, [("shop", 1002)], &RULES), []);
    assert_eq!(baseline.look(now + 60, [("shop", 1003)], &RULES), []);
    assert_eq!(baseline.accounts["shop"].active, now + 60);
}

#[test]
fn what_is_written_is_read_back_without_those_who_are_forgotten() {
    let state = tempfile::tempdir().unwrap();
    let (mut baseline, said) = Baseline::open(state.path(), START);
    assert_eq!(said, None);
    let mut total = 0;
    live(&mut baseline, &mut total, 0, &[7; 30]);
    baseline.look(START + 31 * HOUR, [("gone", 1)], &RULES);
    baseline.save(state.path()).unwrap();
    let (read, said) = Baseline::open(state.path(), START + 32 * HOUR);
    assert_eq!((&read, said), (&baseline, None));
    let mut read = read;
    read.look(START + FORGOTTEN + 30 * HOUR, [("shop", total + 1), ("gone", 1)], &RULES);
    read.save(state.path()).unwrap();
    assert_eq!(read.accounts.len(), 2);
    read.look(START + FORGOTTEN + 32 * HOUR, [("shop", total + 2), ("gone", 1)], &RULES);
    read.save(state.path()).unwrap();
    assert_eq!(read.accounts.keys().collect::<Vec<_>>(), ["shop"]);
}

#[test]
fn a_file_that_cannot_be_is_moved_aside_and_learning_begins_anew() {
    let good = {
        let mut baseline = Baseline::new(START);
        baseline.look(START, [("shop", 1)], &RULES);
        serde_json::to_string(&baseline).unwrap()
    };
    assert!(Baseline::parse(good.as_bytes()).is_ok());
    for text in [
        "",
        "{}",
        &good[..good.len() - 1],
        &good.replace("\"version\":1", "\"version\":7"),
        &good.replace("\"mean\":0.0", "\"mean\":-1.0"),
        &good.replace("\"mean\":0.0", "\"mean\":1e999"),
        &good.replace("\"total\":1", "\"total\":-1"),
    ] {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(NAME), text).unwrap();
        let (baseline, said) = Baseline::open(state.path(), START);
        assert_eq!(baseline, Baseline::new(START));
        let said = said.unwrap_or_else(|| panic!("{text} is read"));
        assert!(said.contains("baseline.json.corrupt now") && said.contains("learned anew"), "{said}");
        assert_eq!(fs::read_to_string(state.path().join("baseline.json.corrupt")).unwrap(), text);
        assert!(Baseline::open(state.path(), START).1.is_none());
    }
}

#[test]
fn so_many_accounts_are_kept_and_no_more() {
    let mut baseline = Baseline::new(START);
    let names: Vec<_> = (0..MOST + 10).map(|n| n.to_string()).collect();
    let found = baseline.look(START + WEEK * HOUR, names.iter().map(|name| (name.as_str(), 1)), &RULES);
    assert_eq!((baseline.accounts.len(), found.len()), (MOST, MOST));
}

proptest! {
    #[test]
    fn numbers_stay_sound_whatever_the_counters_and_the_clock_do(
        looks in proptest::collection::vec((any::<u64>(), any::<u64>()), 1..60),
    ) {
        let mut baseline = Baseline::new(START);
        for (time, total) in looks {
            // Any time up to the year 9999.
            baseline.look(time % 253_402_300_799, [("shop", total), ("blog", total / 2)], &RULES);
            prop_assert!(baseline.accounts.values().all(Habit::is_sound), "{baseline:?}");
            let text = serde_json::to_vec(&baseline).unwrap();
            prop_assert_eq!(Baseline::parse(&text).unwrap().accounts.len(), baseline.accounts.len());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(text: Vec<u8>, at in 0_usize..300, byte: u8) {
        let _ = Baseline::parse(&text);
        let mut near = serde_json::to_vec(&{
            let mut baseline = Baseline::new(START);
            baseline.look(START, [("shop", 1)], &RULES);
            baseline
        }).unwrap();
        let at = at % near.len();
        near[at] = byte;
        let _ = Baseline::parse(&near);
    }
}

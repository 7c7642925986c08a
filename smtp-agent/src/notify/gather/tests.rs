//! What is told once, together, and no more often than wanted.

use super::*;
use crate::config::{SinkEntry, Way};
use proptest::prelude::*;
use std::time::Duration;

fn sink(name: &str, on: &[Kind]) -> SinkEntry {
    let at = crate::config::Place::new(&crate::config::Source::new("test", "", 0), 0..0);
    let on = on.iter().fold(Kinds::NONE, |kinds, kind| kinds.with(*kind));
    let way = Way::Command { argv: vec!["/bin/true".into()], timeout: Duration::from_secs(1) };
    SinkEntry { name: name.into(), on, subject: None, body: None, way, at }
}

fn config(sinks: Vec<SinkEntry>) -> Notify {
    let [repeat, group_wait] = [600, 30].map(Duration::from_secs);
    Notify { repeat, group_wait, max_per_hour: 2, sinks, ..Notify::default() }
}

fn gather(sinks: &[(&str, &[Kind])]) -> Gather {
    let sinks = sinks.iter().map(|(name, on)| sink(name, on)).collect();
    Gather::new(&config(sinks), Memory::default())
}

fn notice(kind: Kind, account: &str) -> Notice {
    Notice::new(kind, account, 0)
}

fn due(gather: &mut Gather, now: Seconds) -> Vec<Told> {
    gather.due(now, false, "host.test", || "id".into())
}

/// The only message of what is told.
#[track_caller]
fn message(mut told: Vec<Told>) -> Message {
    match (told.pop(), told.pop()) {
        (Some(Told::Message { message, .. }), None) => message,
        other => panic!("{other:?}"),
    }
}

fn accounts(message: &Message) -> Vec<&str> {
    message.notices.iter().map(|notice| notice.account.as_str()).collect()
}

#[test]
fn a_burst_of_many_accounts_is_one_message_once_the_first_has_waited() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    assert_eq!(gather.due_at(), None);
    for (n, account) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(gather.offer(notice(Kind::HardLimit, account), 1000 + n as u64), Offered::Taken);
    }
    assert_eq!(gather.due_at(), Some(1030));
    assert_eq!(due(&mut gather, 1029), []);
    let told = message(due(&mut gather, 1030));
    assert_eq!((accounts(&told), told.host.as_str(), told.id.as_str()), (vec!["a", "b", "c"], "host.test", "id"));
    assert_eq!(due(&mut gather, 1031), []);
}

#[test]
fn the_same_is_told_once_within_the_time_and_then_with_how_often_it_was() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    gather.max_per_hour = 10;
    assert_eq!(gather.offer(notice(Kind::HardLimit, "shop"), 0), Offered::Taken);
    message(due(&mut gather, 30));
    for now in [31, 60] {
        assert_eq!(gather.offer(notice(Kind::HardLimit, "shop"), now), Offered::Repeated);
    }
    assert_eq!(gather.offer(notice(Kind::SoftLimit, "shop"), 100), Offered::Taken, "another kind");
    let told = message(due(&mut gather, 130));
    assert_eq!((told.repeated, told.notices[0].again), (2, 0), "what was withheld is said in the next one");
    assert_eq!(gather.offer(notice(Kind::HardLimit, "shop"), 599), Offered::Repeated);
    assert_eq!(gather.offer(notice(Kind::HardLimit, "shop"), 600), Offered::Taken);
    let told = message(due(&mut gather, 630));
    assert_eq!((told.repeated, told.notices[0].again), (1, 3));
}

#[test]
fn budgets_of_the_host_are_told_each_for_itself() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    let of = |unit: &str| Notice { unit: Some(unit.into()), ..notice(Kind::HostQuota80, "host") };
    assert_eq!(gather.offer(of("message"), 0), Offered::Taken);
    assert_eq!(gather.offer(of("connection"), 0), Offered::Taken);
    assert_eq!(gather.offer(of("message"), 0), Offered::Repeated);
}

#[test]
fn each_sink_is_told_what_it_wants_and_what_is_withheld_of_that() {
    let mut gather = gather(&[("all", &Kind::ALL), ("some", &[Kind::Brake]), ("none", &[])]);
    gather.offer(notice(Kind::HardLimit, "a"), 0);
    gather.offer(notice(Kind::HardLimit, "a"), 1);
    gather.offer(notice(Kind::Brake, "b"), 2);
    let told = due(&mut gather, 30);
    let all: Vec<_> = told
        .iter()
        .map(|told| match told {
            Told::Message { sink, message } => (sink.as_str(), accounts(message), message.repeated),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(all, [("all", vec!["a", "b"], 1), ("some", vec!["b"], 0)]);
}

#[test]
fn no_more_messages_go_out_in_an_hour_than_wanted_and_the_next_says_how_many_did_not() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    for n in 0..5_u64 {
        gather.offer(notice(Kind::HardLimit, &n.to_string()), n * 100);
        let told = due(&mut gather, n * 100 + 30);
        match n {
            0 | 1 => assert_eq!(message(told).over_rate, 0),
            _ => assert_eq!(told, [Told::OverRate { sink: "ops".into(), notices: 1 }]),
        }
    }
    // The first has left the hour.
    gather.offer(notice(Kind::Brake, "x"), 3600);
    assert_eq!(message(due(&mut gather, 3630)).over_rate, 3);
}

#[test]
fn more_than_fit_into_a_message_are_counted() {
    let mut gather = gather(&[("ops", &Kind::ALL), ("brakes", &[Kind::Brake])]);
    for n in 0..MOST_TOGETHER + 7 {
        gather.offer(notice(Kind::HardLimit, &n.to_string()), 0);
    }
    let told = message(due(&mut gather, 30));
    assert_eq!((told.notices.len(), told.left_out), (MOST_TOGETHER, 7));
}

#[test]
fn a_clock_that_is_set_back_silences_nothing_for_longer() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    gather.offer(notice(Kind::HardLimit, "shop"), 1_000_000);
    // Set back while it waits: it waits for the usual time from now on.
    assert_eq!(due(&mut gather, 5000), []);
    message(due(&mut gather, 5030));
    assert_eq!(gather.offer(notice(Kind::HardLimit, "shop"), 5031), Offered::Repeated);
    assert_eq!(gather.offer(notice(Kind::HardLimit, "shop"), 5631), Offered::Taken);
    assert_eq!(accounts(&message(due(&mut gather, 5661))), ["shop"]);
}

#[test]
fn what_was_told_is_known_after_a_restart_and_sinks_that_go_are_forgotten() {
    let mut before = gather(&[("ops", &Kind::ALL)]);
    before.offer(notice(Kind::HardLimit, "shop"), 0);
    message(due(&mut before, 30));
    let text = serde_json::to_string(before.memory()).unwrap();
    let mut after = Gather::new(&config(vec![sink("ops", &Kind::ALL)]), serde_json::from_str(&text).unwrap());
    assert_eq!(after.offer(notice(Kind::HardLimit, "shop"), 100), Offered::Repeated);
    after.change(&config(vec![sink("other", &Kind::ALL)]));
    assert_eq!(after.memory().outlets.len(), 0);
    assert_eq!(after.wanting(Kind::Brake).collect::<Vec<_>>(), ["other"]);
}

#[test]
fn at_the_end_what_waits_is_told_at_once() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    gather.offer(notice(Kind::HardLimit, "shop"), 0);
    let told = gather.due(1, true, "host.test", || "id".into());
    assert_eq!(accounts(&message(told)), ["shop"]);
}

proptest! {
    /// Every notice is told, withheld or left out: none is lost, none is told twice, and no hour has too many messages.
    #[test]
    fn every_notice_is_accounted_for(steps in proptest::collection::vec((0..90_u64, 0..4_usize, 0..6_u8), 1..200)) {
        let mut gather = gather(&[("ops", &Kind::ALL)]);
        let (mut now, mut offered) = (0, 0);
        let (mut told, mut times) = (Vec::new(), Vec::new());
        let (mut repeated, mut over_rate) = (0, 0);
        let mut take = |told_now: Vec<Told>, now| for one in told_now {
            match one {
                Told::Message { message, .. } => {
                    times.push(now);
                    repeated += message.repeated;
                    over_rate += message.over_rate;
                    told.extend(message.notices.into_iter().map(|notice| (notice.key(), now)));
                }
                Told::OverRate { .. } => {}
            }
        };
        for (wait, kind, account) in steps {
            now += wait;
            take(due(&mut gather, now), now);
            gather.offer(notice(Kind::ALL[kind], &account.to_string()), now);
            offered += 1;
        }
        take(gather.due(now, true, "", || "id".into()), now);
        let outlet = gather.memory.outlets.get("ops").cloned().unwrap_or_default();
        let counted = told.len() as u64 + repeated + over_rate + outlet.repeated + outlet.over_rate;
        prop_assert_eq!(counted, offered);
        for at in &times {
            let hour = times.iter().filter(|other| *other >= at && *other - at < HOUR).count();
            prop_assert!(hour <= 2, "{hour} messages in the hour from {at}");
        }
        for (n, (key, at)) in told.iter().enumerate() {
            let again = told[n + 1..].iter().any(|(other, later)| other == key && later - at < 600 - 120);
            prop_assert!(!again, "{key} is told twice within the time");
        }
    }
}

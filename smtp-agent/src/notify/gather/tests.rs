//! What is told once, together, and no more often than wanted.

use super::{super::outlet::MOST_TOGETHER, *};
use crate::{
    config::{SinkEntry, Way},
    notify::{Kind, Kinds},
};
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
        (Some(Told { message, .. }), None) => message,
        other => panic!("{other:?}"),
    }
}

/// By sink.
fn by_sink(told: &[Told]) -> Vec<(&str, Vec<&str>)> {
    told.iter().map(|told| (told.sink.as_str(), accounts(&told.message))).collect()
}

fn accounts(message: &Message) -> Vec<&str> {
    message.notices.iter().map(|notice| notice.account.as_str()).collect()
}

#[test]
fn a_burst_of_many_accounts_is_one_message_once_the_first_has_waited() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    assert_eq!(gather.due_at(1000), None);
    for (n, account) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(gather.offer(notice(Kind::HardLimit, account), 1000 + n as u64), Offered::Taken);
    }
    assert_eq!(gather.due_at(1003), Some(1030));
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
    let told = due(&mut gather, 32);
    assert_eq!(by_sink(&told), [("all", vec!["a", "b"]), ("some", vec!["b"])]);
    assert_eq!(told.iter().map(|told| told.message.repeated).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn no_more_messages_go_out_in_an_hour_than_wanted_and_the_others_wait_for_the_next() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    let offer = |gather: &mut Gather, kind, account: &str, now| gather.offer(notice(kind, account), now);
    for n in 0..5_u64 {
        assert_eq!(offer(&mut gather, Kind::HardLimit, &n.to_string(), n * 100), Offered::Taken);
        assert_eq!(due(&mut gather, n * 100 + 30).len(), usize::from(n < 2), "{n}");
    }
    assert_eq!(gather.due_at(500), Some(3630), "the first was sent at 30");
    assert_eq!(due(&mut gather, 3629), []);
    offer(&mut gather, Kind::Brake, "x", 3600);
    let told = message(due(&mut gather, 3630));
    assert_eq!((accounts(&told), told.over_rate), (vec!["2", "3", "4", "x"], 0), "none is lost");
    offer(&mut gather, Kind::Brake, "y", 3631);
    assert_eq!(gather.due_at(3631), Some(3730), "the second was sent at 130");
}

#[test]
fn of_those_that_wait_for_the_next_hour_the_gravest_are_told_and_the_others_are_counted_and_not_silenced() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    for n in 0..2 {
        gather.offer(notice(Kind::Brake, &format!("early {n}")), n * 40);
        message(due(&mut gather, n * 40 + 30));
    }
    for n in 0..MOST_TOGETHER {
        assert_eq!(gather.offer(notice(Kind::FirstTime, &n.to_string()), 100), Offered::Taken);
    }
    assert_eq!(gather.offer(notice(Kind::SoftLimit, "late"), 101), Offered::LeftOut, "no graver than others");
    assert_eq!(gather.offer(notice(Kind::HardLimit, "grave"), 102), Offered::Taken);
    assert_eq!(gather.offer(notice(Kind::Nobody, "nobody"), 103), Offered::Taken);
    // Those that went for them are no more told than the one that was never taken: they count anew.
    for (kind, account) in [(Kind::FirstTime, "99"), (Kind::FirstTime, "98"), (Kind::SoftLimit, "late")] {
        assert_eq!(gather.offer(notice(kind, account), 104), Offered::LeftOut, "{account}");
    }
    assert_eq!(gather.offer(notice(Kind::FirstTime, "97"), 104), Offered::Repeated);
    assert_eq!(gather.uncounted().collect::<Vec<_>>(), [("ops", 7)]);
    let told = message(due(&mut gather, 3630));
    assert_eq!((told.notices.len(), told.over_rate, told.left_out, told.repeated), (MOST_TOGETHER, 6, 0, 1));
    assert_eq!(accounts(&told)[97..], ["97", "grave", "nobody"]);
}

#[test]
fn more_than_fit_into_a_message_are_counted_for_whoever_wanted_them() {
    let mut gather = gather(&[("ops", &Kind::ALL), ("brakes", &[Kind::Brake]), ("soft", &[Kind::SoftLimit])]);
    for n in 0..MOST_TOGETHER + 7 {
        gather.offer(notice(Kind::HardLimit, &n.to_string()), 0);
    }
    gather.offer(notice(Kind::SoftLimit, "soft"), 1);
    gather.offer(notice(Kind::Brake, "brake"), 2);
    let told = due(&mut gather, 32);
    let counts: Vec<_> = told.iter().map(|told| (told.message.notices.len(), told.message.left_out)).collect();
    assert_eq!(counts, [(MOST_TOGETHER, 9), (1, 0), (1, 0)]);
    assert_eq!(by_sink(&told)[1..], [("brakes", vec!["brake"]), ("soft", vec!["soft"])]);
    assert_eq!(gather.uncounted().collect::<Vec<_>>(), [("ops", 9)]);
    // What one of them was told is known, whatever became of it for others.
    assert_eq!(gather.offer(notice(Kind::SoftLimit, "soft"), 40), Offered::Repeated);
}

#[test]
fn the_same_waits_once_however_often_it_comes_meanwhile() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    for n in 0..2 {
        gather.offer(notice(Kind::Brake, &format!("early {n}")), n * 40);
        message(due(&mut gather, n * 40 + 30));
    }
    for now in [100, 800, 801, 1500] {
        gather.offer(notice(Kind::HardLimit, "shop"), now);
    }
    let told = message(due(&mut gather, 3630));
    assert_eq!((accounts(&told), told.notices[0].again, told.repeated), (vec!["shop"], 3, 3));
}

#[test]
fn of_several_shares_each_sink_is_told_the_greatest_that_it_wants() {
    let some = [Kind::HostQuota50, Kind::HostQuota80];
    let mut gather = gather(&[("all", &Kind::ALL), ("some", &some), ("first", &[Kind::HostQuota50])]);
    let mut unless = Kinds::NONE;
    for kind in [Kind::HostQuota100, Kind::HostQuota80, Kind::HostQuota50] {
        gather.offer(Notice { unless, ..notice(kind, "host") }, 0);
        unless = unless.with(kind);
    }
    let told = due(&mut gather, 30);
    let kinds: Vec<_> = told
        .iter()
        .map(|told| (told.sink.as_str(), told.message.notices.iter().map(|notice| notice.kind.name()).collect()))
        .collect();
    let wanted =
        [("all", "host_quota_100"), ("some", "host_quota_80"), ("first", "host_quota_50")].map(|(s, k)| (s, vec![k]));
    assert_eq!(kinds, wanted);
}

#[test]
fn what_waits_is_drafted_when_it_has_changed_and_the_draft_is_the_message() {
    let mut gather = gather(&[("all", &Kind::ALL), ("brakes", &[Kind::Brake])]);
    let mut number = 0;
    let mut id = || {
        number += 1;
        number.to_string()
    };
    let told = |draft: &Draft| {
        let of = |(message, at): &(Message, Seconds)| (message.id.clone(), message.notices.len(), *at);
        (draft.sink.clone(), draft.message.as_ref().map(of))
    };
    gather.offer(notice(Kind::HardLimit, "a"), 0);
    let drafts = gather.drafts(1, "h", &mut id);
    assert_eq!(drafts.iter().map(told).collect::<Vec<_>>(), [("all".into(), Some(("1".into(), 1, 30)))]);
    assert_eq!(gather.drafts(2, "h", &mut id), []);
    gather.offer(notice(Kind::Brake, "b"), 3);
    let drafts = gather.drafts(4, "h", &mut id);
    let wanted = [("all".into(), Some(("1".into(), 2, 30))), ("brakes".into(), Some(("2".into(), 1, 33)))];
    assert_eq!(drafts.iter().map(told).collect::<Vec<_>>(), wanted);
    assert_eq!(gather.due(33, false, "h", &mut id).iter().map(|told| &told.message.id).collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(gather.drafts(34, "h", &mut id), []);
    // A sink that no longer wants it.
    gather.offer(notice(Kind::Brake, "c"), 40);
    assert_eq!(gather.drafts(40, "h", &mut id).len(), 2);
    gather.change(&config(vec![sink("all", &Kind::ALL), sink("brakes", &[Kind::Nobody])]));
    assert_eq!(gather.drafts(41, "h", &mut id), [Draft { sink: "brakes".into(), message: None }]);
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
    assert_eq!(after.memory().outlets.keys().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn at_the_end_what_waits_is_told_at_once_or_as_soon_as_there_is_room() {
    let mut gather = gather(&[("ops", &Kind::ALL)]);
    for n in 0..3_u64 {
        gather.offer(notice(Kind::HardLimit, &n.to_string()), n);
        let told = gather.due(n, true, "host.test", || "id".into());
        let Told { message, next, .. } = &told[0];
        assert_eq!((accounts(message), *next), (vec![n.to_string().as_str()], if n < 2 { n } else { 3600 }));
    }
    // The next agent knows of the one that has not gone out yet.
    let text = serde_json::to_string(gather.memory()).unwrap();
    let mut after = Gather::new(&config(vec![sink("ops", &Kind::ALL)]), serde_json::from_str(&text).unwrap());
    after.offer(notice(Kind::HardLimit, "x"), 100);
    assert_eq!(after.due_at(100), Some(3601));
}

proptest! {
    /// Every notice is told, withheld or left out: none is lost, none is told twice, and no hour has too many messages.
    #[test]
    fn every_notice_is_accounted_for(steps in proptest::collection::vec((0..90_u64, 0..4_usize, 0..60_u8), 1..400)) {
        let mut gather = gather(&[("ops", &Kind::ALL)]);
        let (mut now, mut offered, mut counted) = (0, 0, 0);
        let (mut told, mut times, mut withheld) = (Vec::new(), Vec::new(), 0);
        let mut take = |told_now: Vec<Told>| for Told { message, next, .. } in told_now {
            times.push(next);
            withheld += message.repeated + message.over_rate + message.left_out;
            assert!(message.notices.len() <= MOST_TOGETHER);
            told.extend(message.notices.into_iter().map(|notice| (notice.key(), notice.time)));
        };
        for (wait, kind, account) in steps {
            now += wait;
            take(due(&mut gather, now));
            gather.offer(Notice { time: now, ..notice(Kind::ALL[kind], &account.to_string()) }, now);
            counted += gather.uncounted().map(|(_, count)| count).sum::<u64>();
            offered += 1;
        }
        take(gather.due(now, true, "", || "id".into()));
        let withheld = withheld + gather.memory.outlets["ops"].withheld();
        prop_assert_eq!(told.len() as u64 + withheld, offered);
        prop_assert_eq!(withheld, counted, "the metric says the same");
        for at in &times {
            let hour = times.iter().filter(|other| *other >= at && *other - at < 3600).count();
            prop_assert!(hour <= 2, "{hour} messages in the hour from {at}");
        }
        for (n, (key, at)) in told.iter().enumerate() {
            let again = told[n + 1..].iter().any(|(other, later)| other == key && later - at < 600);
            prop_assert!(!again, "{key} is told twice within the time");
        }
    }
}

mod alike;
mod plain;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::{
    accounts::database::Database,
    config,
    policy::{Circumstances, compile},
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;
const SHOP: u32 = 1000;

fn accounts() -> Vec<(Account, String)> {
    vec![(Account::user(SHOP), "shop".into()), (Account::user(0), "root".into())]
}

/// `attempts` in the minute `minute`, all let through, with so many messages.
fn flow(minute: i64, account: usize, attempts: u64, messages: u64) -> Flow {
    Flow {
        from: minute * MINUTE,
        length: MINUTE,
        account,
        route: Some(Route::Remote),
        exception: 0,
        attempts,
        admitted: attempts,
        messages,
        failed: 0,
        recipients: messages,
    }
}

fn play(toml: &str, flows: Vec<Flow>) -> Rehearsal {
    play_from(i64::MIN, toml, flows)
}

/// The time of the week in UTC: the first moment of 1970 was on a Thursday.
fn moment(time: i64) -> Moment {
    let minutes = time / MINUTE;
    Moment { weekday: ((minutes / 1440 + 3) % 7) as u8, minute: (minutes % 1440) as u16 }
}

fn play_from(begin: i64, toml: &str, flows: Vec<Flow>) -> Rehearsal {
    let config = config::parse_str("test", toml).expect("a configuration").config;
    let users = Database::read();
    let mut policies =
        Policies::new(&config, |moment| compile(&config, &users, "", &Circumstances { moment, said: Vec::new() }));
    rehearse(flows, begin, &accounts(), &mut policies, moment)
}

const LIMITED: &str = "[plan.standard]\nper_hour = 10\nper_day = 1000\nsoft_percent = 120\n";

#[test]
fn who_would_be_stopped_is_told_with_when_and_why() {
    let told = play(LIMITED, vec![flow(1, 0, 4, 4), flow(2, 0, 20, 0), flow(2, 1, 500, 0)]);
    let shop = &told.accounts[0];
    assert_eq!((shop.account.as_str(), shop.attempts), ("shop", 24));
    assert_eq!((shop.passed, shop.deferred, shop.refused), (10, 2, 12));
    assert_eq!(shop.reason, Some("account_hour"));
    assert!(shop.first_stop.is_some_and(|time| (2 * MINUTE..3 * MINUTE).contains(&time)));
    assert_eq!((shop.stretches, told.accounts[1].stopped()), (1, 0), "root is exempt");
    assert_eq!((told.connections.then, told.connections.would, told.connections.spared()), (524, 510, 14));
    assert_eq!(told.busiest_day, told.connections);
}

#[test]
fn messages_go_with_the_connections_that_bring_them() {
    let limited = "[plan.standard]\nper_hour = 10\nsoft_percent = 100\nmessages_per_hour = 15\n";
    let told = play(limited, vec![flow(1, 0, 20, 60)]);
    let shop = &told.accounts[0];
    assert_eq!((shop.passed, shop.refused), (10, 10));
    // Ten connections would have brought thirty, of which fifteen are within the limit.
    assert_eq!((shop.messages, shop.messages_refused), (60, 15));
    assert_eq!(told.messages, Left { then: 60, would: 15 });
    // A session from before brings messages without a connection.
    let told = play(limited, vec![flow(1, 0, 0, 20)]);
    assert_eq!((told.accounts[0].messages_refused, told.connections.then), (5, 0));
}

#[test]
fn shared_limits_the_hosts_budget_and_schedules_hold_as_in_the_kernel() {
    let told = play("[host]\nper_day = 30\n[plan.standard]\nper_hour = 100000\n", vec![flow(1, 0, 50, 0)]);
    assert_eq!((told.accounts[0].passed, told.accounts[0].reason), (30, Some("host_day")));
    let told = play("[plan.standard]\nper_hour = 100\n[plan.standard.total]\nper_hour = 7\n", vec![flow(1, 0, 50, 0)]);
    assert_eq!((told.accounts[0].passed, told.accounts[0].reason), (7, Some("plan_hour")));
    let scheduled =
        "[plan.standard]\nper_hour = 100\n[[plan.standard.schedule]]\nhours = \"02:00-04:00\"\nper_hour = 3\n";
    let night = 3 * 60;
    let told = play(scheduled, vec![flow(1, 0, 50, 0), flow(night, 0, 50, 0)]);
    assert_eq!((told.accounts[0].passed, told.accounts[0].refused + told.accounts[0].deferred), (53, 47));
}

#[test]
fn the_failure_brake_trips_in_a_rehearsal() {
    let braked = "[plan.standard]\nper_hour = 1000\nmax_failed_percent = 50\nmin_failed = 10\nrelease_after = \"1h\"\n";
    let spam = Flow { failed: 40, ..flow(1, 0, 40, 40) };
    let told = play(braked, vec![spam]);
    assert_eq!(told.accounts[0].reason, Some("failed_share"));
    assert_eq!(told.accounts[0].passed, 10);
}

#[test]
fn what_was_stopped_then_is_tried_again() {
    let stopped = Flow { admitted: 5, ..flow(1, 0, 50, 0) };
    let told = play("[plan.standard]\nper_hour = 100\n", vec![stopped]);
    assert_eq!((told.accounts[0].stopped_then, told.accounts[0].passed), (45, 50));
    assert_eq!((told.connections.then, told.connections.would, told.connections.spared()), (5, 50, 0));
}

#[test]
fn what_comes_before_the_period_fills_the_windows_and_is_not_told_of() {
    let limited = "[plan.standard]\nper_day = 30\nsoft_percent = 100\n";
    let evening = 20 * 60;
    let flows = || vec![flow(1, 0, 25, 50), flow(evening, 0, 10, 0)];
    let told = play_from(evening * MINUTE, limited, flows());
    let shop = &told.accounts[0];
    assert_eq!((shop.attempts, shop.messages, shop.passed, shop.refused), (10, 0, 5, 5));
    assert_eq!((shop.reason, shop.stretches, told.busiest_day.then), (Some("account_day"), 1, 10));
    let told = play_from(evening * MINUTE, limited, flows().split_off(1));
    assert_eq!(told.accounts[0].passed, 10, "with windows that begin empty no day is met");
}

#[test]
fn the_part_of_a_flow_before_a_time_is_its_share() {
    let hour = Flow { length: HOUR, failed: 30, ..flow(0, 0, 600, 60) };
    let part = hour.clone().until(20 * MINUTE).expect("a part");
    assert_eq!((part.length, part.attempts, part.admitted), (20 * MINUTE, 200, 200));
    assert_eq!((part.messages, part.failed, part.recipients), (20, 10, 20));
    assert_eq!(hour.clone().until(i64::MAX).as_ref(), Some(&hour));
    assert_eq!(hour.until(0), None);
}

/// A million attempts a second for an hour, in a debug build.
#[test]
fn an_hour_of_a_tight_loop_is_replayed_in_an_instant() {
    const LOOP: u64 = 3_600_000_000;
    let tight = |account| Flow { length: HOUR, admitted: 100, ..flow(60, account, LOOP, 0) };
    let begin = Instant::now();
    let told = play(LIMITED, vec![tight(0), tight(1), Flow { route: Some(Route::Local), ..tight(0) }]);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let shop = &told.accounts[0];
    assert_eq!((shop.attempts, shop.deferred, shop.refused), (2 * LOOP, 2, LOOP - 12));
    assert_eq!((shop.passed, told.accounts[1].passed), (LOOP + 10, LOOP), "to the local MTA, and as root");
    assert_eq!(told.connections, Left { then: 200, would: LOOP + 10 });
    let braked = "[plan.standard]\nmax_failed_percent = 50\nmin_failed = 10\nrelease_after = \"10m\"\n";
    let told = play(braked, vec![Flow { messages: 100, failed: 100, ..tight(0) }]);
    assert_eq!(told.accounts[0].reason, Some("failed_share"));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn what_was_said_by_hand_is_named_as_not_rehearsed() {
    let config = config::parse_str("test", "").expect("a configuration").config;
    let named = left_out(&config, &compile(&config, &Database::read(), "", &Circumstances::default()));
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].starts_with("blocks and allows said by hand"), "{named:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For any recorded flows no hour admits more than the limit, and nothing is lost or made up.
    #[test]
    fn a_rehearsal_admits_no_more_than_the_limit_in_any_hour(
        minutes in prop::collection::vec((0_i64..240, 0_u64..60), 1..40), limit in 1_u32..40,
    ) {
        let flows: Vec<_> = minutes.iter().map(|(minute, n)| flow(*minute, 0, *n, 0)).collect();
        let attempts: u64 = minutes.iter().map(|(_, n)| n).sum();
        let told = play(&format!("[plan.standard]\nper_hour = {limit}\nsoft_percent = 100\n"), flows);
        let Some(shop) = told.accounts.first() else { return Ok(()) };
        prop_assert_eq!(shop.passed + shop.stopped(), attempts);
        let hours = (240 * MINUTE / HOUR + 1) as u64;
        prop_assert!(shop.passed <= u64::from(limit) * hours);
        prop_assert!(shop.passed >= attempts.min(u64::from(limit)));
    }
}

use smtp_common::{
    connection::kind,
    window::{UNLIMITED, spans},
};

use super::*;

const MINUTE: u64 = 60 * SECOND;
/// The start of a slot of both windows, long after the boot.
const NOW: u64 = 100 * 86_400 * SECOND;

const ANN: Attempt =
    Attempt { account: Account::user(1), route: Route::Remote, host_uid: None, cgroup: 0, exception: 0 };
const AT_HOME: Attempt = Attempt { route: Route::Local, ..ANN };

const BRAKE: PlanLimits = PlanLimits { max_failed_percent: 50, min_failed: 5, ..PlanLimits::NONE };

fn rule(flags: u8) -> Rule {
    Rule { flags, ..Rule::of(Action::Limited, Origin::Default) }
}

fn ask(policy: &Policy, rule: &Rule, attempt: &Attempt, unit: Option<Unit>, now: u64, copy: &mut Copy) -> Answer {
    Question { policy, rule, attempt, unit, now }.answer(copy)
}

fn charge(copy: &mut Copy, scope: Account, lane: Lane, now: u64, n: u32) {
    let full = copy.charge(&WindowKey::new(scope, lane), now, Both::UNLIMITED, spans::BOTH, n).is_full();
    assert!(!full, "there is no limit");
}

/// So many messages with an outcome at a time.
fn outcomes(copy: &mut Copy, at: u64, failed: u32, of: u32) {
    charge(copy, ANN.account, Lane::Outcomes, at, of);
    charge(copy, ANN.account, Lane::Failed, at, failed);
}

#[test]
fn messages_are_charged_to_the_copy_until_the_plan_says_no() {
    let limits = PlanLimits { messages: Both { hour: 2, day: UNLIMITED }, ..PlanLimits::NONE };
    let mut copy = Copy { limits: Some(limits), ..Copy::default() };
    let mut reasons = Vec::new();
    for _ in 0..3 {
        let answer = ask(&Policy::open(), &rule(rule_flag::UNITS), &ANN, Some(Unit::Message), NOW, &mut copy);
        reasons.push(answer.decision.reason());
    }
    assert_eq!(reasons, [Reason::WithinLimits, Reason::WithinLimits, Reason::MessagesHour]);
    let answer = ask(&Policy::open(), &rule(rule_flag::UNITS), &ANN, None, NOW, &mut copy);
    assert_eq!(answer.decision.reason(), Reason::WithinLimits, "connections are not limited");
    assert_eq!(answer.left.len(), 1);
    let left = &answer.left[0];
    assert_eq!((left.scope, left.unit, left.window), ("account", "message", "hour"));
    assert_eq!((left.limit, left.used, left.left, left.soft_left), (Some(2), 2, Some(0), None));
    assert!(left.free_in_seconds >= 3600 && left.free_in_seconds <= 3600 + 57, "{left:?}");
}

#[test]
fn every_limit_that_holds_is_listed_with_its_unit() {
    let both = Both { hour: 5, day: 9 };
    let limits = PlanLimits { messages: both, recipients: both, ..PlanLimits::NONE };
    let policy = Policy { host_day: 7, host_messages: both, host_recipients: both, ..Policy::open() };
    let listed = |flags: u8, attempt: &Attempt| {
        let rule = Rule { hour: Limit::with_soft_percent(4, 150), ..rule(flags | rule_flag::UNITS) };
        let mut copy = Copy { limits: Some(limits), ..Copy::default() };
        charge(&mut copy, Account::HOST, Lane::Recipients, NOW, 3);
        let left = ask(&policy, &rule, attempt, None, NOW, &mut copy).left;
        left.iter()
            .map(|left| format!("{} {} {} {}", left.scope, left.unit, left.window, left.used))
            .collect::<Vec<_>>()
    };
    let account = [
        "account connection hour 0",
        "account message hour 0",
        "account message day 0",
        "account recipient hour 0",
        "account recipient day 0",
    ];
    let host = [
        "host connection day 0",
        "host message hour 0",
        "host message day 0",
        "host recipient hour 3",
        "host recipient day 3",
    ];
    let by_unit = [&account[..1], &host[..1], &account[1..3], &host[1..3], &account[3..], &host[3..]].concat();
    assert_eq!(listed(0, &ANN), by_unit);
    assert_eq!(listed(rule_flag::NOT_THE_HOSTS, &ANN), account, "a list manager is not the host's");
    assert_eq!(listed(rule_flag::LOCAL, &AT_HOME), account, "the host is charged when the MTA sends");
    assert_eq!(listed(0, &AT_HOME), [""; 0], "nothing holds what goes to the local MTA");
}

#[test]
fn a_submission_is_limited_where_the_plan_says_so() {
    let full = Rule { hour: Limit::with_soft_percent(0, 100), ..rule(0) };
    let asked = |rule: &Rule| ask(&Policy::open(), rule, &AT_HOME, None, NOW, &mut Copy::default()).decision.reason();
    assert_eq!(asked(&full), Reason::LocalRoute);
    assert_eq!(asked(&Rule { flags: rule_flag::LOCAL, ..full }), Reason::AccountHour);
}

#[test]
fn who_may_not_connect_is_told_so_when_he_asks_about_messages() {
    for (action, reason) in [(Action::Deny, Reason::DenyUser), (Action::Closed, Reason::DenyPlan)] {
        let rule = Rule::of(action, Origin::Default);
        let answer = ask(&Policy::open(), &rule, &ANN, Some(Unit::Recipient), NOW, &mut Copy::default());
        assert_eq!(answer.decision, Decision { verdict: Verdict::Refused, why: reason as u8 });
    }
    let closed = Rule::of(Action::Closed, Origin::Default);
    let answer = ask(&Policy::open(), &closed, &AT_HOME, Some(Unit::Message), NOW, &mut Copy::default());
    assert_eq!(answer.decision.verdict, Verdict::Allowed);
}

#[test]
fn a_brake_says_its_share_before_and_after_it_is_tripped() {
    let braked = rule(rule_flag::UNITS | rule_flag::BRAKE);
    let mut copy = Copy { limits: Some(BRAKE), ..Copy::default() };
    let brake = ask(&Policy::open(), &braked, &ANN, None, NOW, &mut copy).brake.expect("a brake");
    assert_eq!((brake.holds, brake.messages, brake.failed_percent), (false, 0, None));

    outcomes(&mut copy, NOW, 6, 9);
    let answer = ask(&Policy::open(), &braked, &ANN, None, NOW, &mut copy);
    let brake = answer.brake.expect("a brake");
    assert_eq!(answer.decision.reason(), Reason::WithinLimits, "the kernel has not tripped it");
    assert_eq!((brake.holds, brake.failed, brake.messages, brake.failed_percent), (false, 6, 9, Some(66.7)));
    assert_eq!((brake.tripped_seconds_ago, brake.lapses_in_seconds), (None, None));

    copy.tripped = Some(NOW);
    for unit in [None, Some(Unit::Message), Some(Unit::Recipient)] {
        let answer = ask(&Policy::open(), &braked, &ANN, unit, NOW + 2 * MINUTE, &mut copy);
        assert_eq!(answer.decision, Decision { verdict: Verdict::Refused, why: Reason::FailedShare as u8 });
        let brake = answer.brake.expect("a brake");
        assert_eq!((brake.holds, brake.tripped_seconds_ago), (true, Some(120)));
        // The failures leave the hour one slot after it.
        let wanted = (Span::Hour.nanos() + Span::Hour.slot_nanos()).div_ceil(SECOND) - 120;
        assert_eq!(brake.lapses_in_seconds, Some(wanted));
    }
    let at_home = ask(&Policy::open(), &braked, &AT_HOME, None, NOW, &mut copy);
    assert_eq!((at_home.decision.reason(), at_home.brake.is_some()), (Reason::LocalRoute, false));
}

#[test]
fn a_brake_lapses_when_it_says_it_does() {
    let braked = rule(rule_flag::UNITS | rule_flag::BRAKE);
    for seconds in [0, 1, 599, 600, 1800, 7200] {
        let limits = PlanLimits { brake_seconds: seconds, ..BRAKE };
        // Failures leave the hour first, then what had gone well.
        for (early, late) in [((6, 6), (0, 1)), ((1, 1), (6, 6)), ((5, 9), (3, 3)), ((6, 6), (6, 6))] {
            let mut copy = Copy { limits: Some(limits), ..Copy::default() };
            outcomes(&mut copy, NOW - 20 * MINUTE, early.0, early.1);
            outcomes(&mut copy, NOW - 7 * MINUTE, late.0, late.1);
            copy.tripped = Some(NOW - SECOND / 2);
            let brake = ask(&Policy::open(), &braked, &ANN, None, NOW, &mut copy).brake.expect("a brake");
            let lapses = brake.lapses_in_seconds.expect("it holds") * SECOND;
            assert!(copy.brake_holds(ANN.account, NOW + lapses - SECOND), "{limits:?} {brake:?}");
            assert!(!copy.brake_holds(ANN.account, NOW + lapses), "{limits:?} {brake:?}");
        }
    }
}

#[test]
fn an_account_without_windows_has_used_nothing() {
    let container = Attempt { account: Account::new(kind::CGROUP, 9), ..ANN };
    let limits = PlanLimits { messages: Both { hour: 1, day: 1 }, ..BRAKE };
    let mut copy = Copy { limits: Some(limits), tripped: Some(NOW - MINUTE), ..Copy::default() };
    let braked = rule(rule_flag::UNITS | rule_flag::BRAKE);
    let answer = ask(&Policy::open(), &braked, &container, Some(Unit::Message), NOW, &mut copy);
    assert_eq!(answer.decision.verdict, Verdict::Allowed, "a brake needs failures to hold");
    assert_eq!(answer.left.iter().map(|left| left.used).collect::<Vec<_>>(), [0, 0]);
}

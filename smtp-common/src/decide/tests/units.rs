//! Messages and recipients, many at a time and from many sessions at once.

use super::*;
use crate::rule::PlanLimits;

/// Some limits of small numbers, so that all of them are met.
fn both(dice: &mut impl Rng) -> Both {
    let mut one = || if dice.gen_bool(0.3) { UNLIMITED } else { dice.gen_range(0..12) };
    Both { hour: one(), day: one() }
}

fn sessions_at_once() {
    let mut dice = shuttle::rand::thread_rng();
    let limits = PlanLimits { messages: both(&mut dice), recipients: both(&mut dice), ..PlanLimits::NONE };
    let policy = Policy {
        host_messages: both(&mut dice),
        host_recipients: both(&mut dice),
        strict: dice.gen_range(0..2),
        ..Policy::open()
    };
    let limited = Rule::of(Action::Limited, Origin::Default);
    let exempt = Rule::of(Action::Exempt, Origin::AllowUser);
    let windows = Shared::default();
    let workers: Vec<_> = (0..3)
        .map(|who| {
            let windows = windows.clone();
            thread::spawn(move || {
                let mut dice = shuttle::rand::thread_rng();
                let rule = if who == 2 { exempt } else { limited };
                let mut passed = Vec::new();
                for _ in 0..4 {
                    let unit = if dice.gen_bool(0.5) { Unit::Message } else { Unit::Recipient };
                    let n = dice.gen_range(1..6);
                    let now = 1_000 * Span::Hour.slot_nanos();
                    // Two sessions of one user, and one of a user without limits.
                    let attempt = remote(if who == 2 { 2 } else { 1 });
                    let mut purses = windows.clone();
                    let decision = decide_units(&policy, &(&rule).into(), &limits, &attempt, unit, n, now, &mut purses);
                    if decision.verdict != Verdict::Refused {
                        passed.push((who, unit, n));
                    }
                }
                passed
            })
        })
        .collect();
    let passed: Vec<_> = workers.into_iter().flat_map(|w| w.join().unwrap()).collect();
    for unit in Unit::ALL {
        let sum = |of: &dyn Fn(u32) -> bool| -> u64 {
            passed.iter().filter(|(who, u, _)| of(*who) && *u == unit).map(|(.., n)| *n as u64).sum()
        };
        let (own, all) = (sum(&|who| who != 2), sum(&|_| true));
        for span in Span::ALL {
            let (limit, budget) = (limits.of(unit).of(span), policy.host_units(unit).of(span));
            assert!(limit == UNLIMITED || own <= limit as u64, "{unit:?} {span:?}: {own} of {limit}");
            // Exempt units spend the host's budget and are not held to it, unless it is strict.
            assert!(
                budget == UNLIMITED || policy.strict == 0 || all <= budget as u64,
                "{unit:?} {span:?}: {all} of {budget}"
            );
        }
        let windows = windows.0.lock().unwrap();
        let used = |scope| windows.get(&WindowKey::new(scope, Lane::of(unit))).map_or(0, |w| w.hour.total);
        assert_eq!(used(Account::HOST), all, "what did not pass was taken back from the host");
        if limits.of(unit).is_set() {
            assert_eq!(used(Account::user(1)), own, "and from the account");
        }
    }
}

#[test]
fn no_interleaving_lets_more_units_pass_than_a_limit_or_leaves_a_stray_charge() {
    shuttle::check_random(sessions_at_once, 10_000);
    shuttle::check_pct(sessions_at_once, 5_000, 3);
}

/// What one session of `attempt` meets, `n` units at a time.
fn verdicts_of(policy: Policy, rule: Rule, limits: PlanLimits, attempt: Attempt, each: Vec<u32>) -> Vec<Decision> {
    let out = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = out.clone();
    let decide_all = move || {
        let mut windows = Shared::default();
        let decide = |&n: &u32| {
            decide_units(&policy, &(&rule).into(), &limits, &attempt, Unit::Message, n, 1 << 45, &mut windows)
        };
        let decisions = each.iter().map(decide).collect();
        *sink.lock().unwrap() = decisions;
    };
    shuttle::check_random(decide_all, 1);
    std::mem::take(&mut *out.lock().unwrap())
}

#[test]
fn all_of_a_packet_passes_or_none_and_a_smaller_one_still_fits() {
    let limits = PlanLimits { messages: Both { hour: 10, day: UNLIMITED }, ..PlanLimits::NONE };
    let rule = Rule::of(Action::Limited, Origin::Default);
    let got = verdicts_of(Policy::open(), rule, limits, remote(1), std::vec![4, 4, 3, 2, 1]);
    let refused = Decision::new(Verdict::Refused, Reason::MessagesHour);
    let allowed = Decision::new(Verdict::Allowed, Reason::WithinLimits);
    assert_eq!(got, [allowed, allowed, refused, allowed, refused]);
}

#[test]
fn what_goes_to_the_local_mta_is_limited_where_the_plan_says_so_and_never_charged_to_the_host() {
    let limits = PlanLimits { messages: Both { hour: 1, day: UNLIMITED }, ..PlanLimits::NONE };
    let policy = Policy { host_messages: Both { hour: 0, day: 0 }, strict: 1, ..Policy::open() };
    let local = Attempt { route: Route::Local, ..remote(1) };
    let rule = Rule::of(Action::Limited, Origin::Default);
    let free = verdicts_of(policy, rule, limits, local, std::vec![1, 1]);
    assert!(free.iter().all(|d| d.verdict == Verdict::Allowed && d.reason() == Reason::LocalRoute), "{free:?}");
    let held = Rule { flags: rule_flag::LOCAL, ..rule };
    for route in [Route::Local, Route::Pipe] {
        let got = verdicts_of(policy, held, limits, Attempt { route, ..local }, std::vec![1, 1]);
        let got: Vec<_> = got.iter().map(|decision| decision.verdict).collect();
        assert_eq!(got, [Verdict::Allowed, Verdict::Refused], "{route:?}");
    }
    let got = verdicts_of(policy, held, limits, remote(1), std::vec![1]);
    assert_eq!(got[0], Decision::new(Verdict::Refused, Reason::HostMessagesDay));
    let lists = Rule { flags: rule_flag::NOT_THE_HOSTS, ..rule };
    let got = verdicts_of(policy, lists, PlanLimits::NONE, remote(1), std::vec![1]);
    assert_eq!(got[0].verdict, Verdict::Allowed, "a list's mail does not spend the host's budget");
}

#[test]
fn a_policy_that_turned_against_an_account_stops_its_open_sessions() {
    let denied = Rule::of(Action::Deny, Origin::DenyUser);
    let closed = Rule::of(Action::Closed, Origin::Default);
    let local = Attempt { route: Route::Local, ..remote(1) };
    for (rule, attempt, expected) in [
        (denied, remote(1), Verdict::Refused),
        (denied, local, Verdict::Refused),
        (closed, remote(1), Verdict::Refused),
        (closed, local, Verdict::Allowed),
    ] {
        let got = verdicts_of(Policy::open(), rule, PlanLimits::NONE, attempt, std::vec![1]);
        assert_eq!(got[0].verdict, expected, "{rule:?} {attempt:?}");
    }
}

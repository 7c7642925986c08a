//! Properties of the decision, alone and under every interleaving the scheduler finds.

mod units;

use super::*;
use crate::{
    rule::{Limit, Origin},
    window::{SLOTS, Span, UNLIMITED, Windows},
};
use proptest::prelude::*;
use shuttle::{rand::Rng, sync::Mutex, thread};
use std::{collections::HashMap, sync::Arc, vec::Vec};

/// Windows with one lock per call, as in the kernel.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<HashMap<WindowKey, Windows>>>);

impl Purses for Shared {
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt {
        self.0.lock().unwrap().entry(*key).or_default().charge(Both::slots(now), limits, which, n)
    }

    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32) {
        self.0.lock().unwrap().get_mut(key).unwrap().uncharge(receipt, which, n);
    }

    fn is_braked(&mut self, _: Account, _: &Rule, _: u64) -> bool {
        false
    }
}

/// Keeps the receipts that were not returned.
struct Recorder {
    inner: Shared,
    kept: Vec<(WindowKey, Receipt, u32)>,
}

impl Purses for Recorder {
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt {
        let receipt = self.inner.charge(key, now, limits, which, n);
        if !receipt.is_full() {
            self.kept.push((*key, receipt, which));
        }
        receipt
    }

    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32) {
        self.inner.uncharge(key, receipt, which, n);
        let at = self.kept.iter().position(|k| *k == (*key, receipt, which)).expect("a receipt is returned once");
        self.kept.remove(at);
    }

    fn is_braked(&mut self, _: Account, _: &Rule, _: u64) -> bool {
        false
    }
}

fn rule(hour: Limit, day: Limit) -> Rule {
    Rule { hour, day, ..Rule::of(Action::Limited, Origin::Default) }
}

fn remote(uid: u32) -> Attempt {
    Attempt { account: Account::user(uid), route: Route::Remote, host_uid: None }
}

fn verdicts(policy: &Policy, rule: &Rule, attempts: usize) -> Vec<Verdict> {
    let mut windows = Shared::default();
    (0..attempts).map(|_| decide(policy, rule, &remote(1), 1 << 45, &mut windows).verdict).collect()
}

fn count(verdicts: &[Verdict], which: Verdict) -> usize {
    verdicts.iter().filter(|v| **v == which).count()
}

#[test]
fn of_135_attempts_100_pass_25_are_deferred_and_10_refused() {
    shuttle::check_random(
        || {
            let got = verdicts(&Policy::open(), &rule(Limit::with_soft_percent(100, 125), Limit::NONE), 135);
            assert_eq!(count(&got, Verdict::Allowed), 100);
            assert_eq!(count(&got, Verdict::Deferred), 25);
            assert_eq!(count(&got, Verdict::Refused), 10);
            assert!(got.is_sorted(), "first passed, then deferred, then refused");
        },
        1,
    );
}

#[test]
fn a_full_day_without_a_band_hardens_a_soft_hour() {
    shuttle::check_random(
        || {
            let rule = rule(Limit::with_soft_percent(2, 200), Limit::with_soft_percent(2, 100));
            assert_eq!(verdicts(&Policy::open(), &rule, 3)[2], Verdict::Refused);
        },
        1,
    );
}

#[test]
fn the_host_budget_counts_exempt_accounts_and_refuses_them_only_when_strict() {
    shuttle::check_random(
        || {
            for (strict, at_the_limit) in [(0, Verdict::Exempt), (1, Verdict::Refused)] {
                let policy = Policy { host_day: 3, strict, ..Policy::open() };
                let exempt = Rule::of(Action::Exempt, Origin::AllowUser);
                let mut windows = Shared::default();
                let mut run = |rule| decide(&policy, rule, &remote(0), 1 << 45, &mut windows).verdict;
                assert_eq!([run(&exempt), run(&exempt), run(&exempt)], [Verdict::Exempt; 3]);
                assert_eq!(run(&exempt), at_the_limit);
                assert_eq!(run(&rule(Limit::NONE, Limit::NONE)), Verdict::Refused);
            }
        },
        1,
    );
}

#[test]
fn denied_is_denied_everywhere_and_closed_only_outwards() {
    shuttle::check_random(
        || {
            let decided = |action, route| {
                let attempt = Attempt { route, ..remote(9) };
                let rule = Rule::of(action, Origin::Default);
                decide(&Policy::open(), &rule, &attempt, 0, &mut Shared::default()).verdict
            };
            assert_eq!(decided(Action::Deny, Route::Local), Verdict::Refused);
            assert_eq!(decided(Action::Deny, Route::Remote), Verdict::Refused);
            assert_eq!(decided(Action::Closed, Route::Local), Verdict::Allowed);
            assert_eq!(decided(Action::Closed, Route::Remote), Verdict::Refused);
        },
        1,
    );
}

/// What a set of kept receipts may never contain: more than `limit` in 65 slots in a row.
fn most_in_a_window(slots: &mut [u64]) -> usize {
    slots.sort_unstable();
    (0..slots.len()).map(|i| slots[i..].iter().take_while(|&&s| s <= slots[i] + SLOTS).count()).max().unwrap_or(0)
}

/// Several senders at once, each with its own idea of the time; two accounts share the host's budget.
fn senders_at_once() {
    let mut dice = shuttle::rand::thread_rng();
    let limit = |dice: &mut shuttle::rand::rngs::ThreadRng| {
        let percent = [100, 150, 200][dice.gen_range(0..3)];
        if dice.gen_bool(0.2) { Limit::NONE } else { Limit::with_soft_percent(dice.gen_range(0..4), percent) }
    };
    let rules = [rule(limit(&mut dice), limit(&mut dice)), rule(limit(&mut dice), limit(&mut dice))];
    let policy = Policy {
        host_hour: if dice.gen_bool(0.5) { UNLIMITED } else { dice.gen_range(0..6) },
        host_day: dice.gen_range(0..6),
        strict: dice.gen_range(0..2),
        ..Policy::open()
    };
    let windows = Shared::default();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let windows = windows.clone();
            thread::spawn(move || {
                let mut dice = shuttle::rand::thread_rng();
                let mut outcomes = Vec::new();
                for _ in 0..3 {
                    let who = dice.gen_range(0..3);
                    let slots = if dice.gen_bool(0.7) { 0 } else { dice.gen_range(0..200) };
                    let now = (1_000 + slots) * Span::Hour.slot_nanos();
                    let exempt = Rule::of(Action::Exempt, Origin::AllowUser);
                    let rule = if who == 2 { &exempt } else { &rules[who] };
                    let mut recorder = Recorder { inner: windows.clone(), kept: Vec::new() };
                    let decision = decide(&policy, rule, &remote(who as u32), now, &mut recorder);
                    outcomes.push((who, decision, recorder.kept));
                }
                outcomes
            })
        })
        .collect();
    let outcomes: Vec<_> = workers.into_iter().flat_map(|w| w.join().unwrap()).collect();

    let mut slots: HashMap<(WindowKey, Span), Vec<u64>> = HashMap::new();
    let mut held: HashMap<(WindowKey, Span), Vec<u64>> = HashMap::new();
    for (who, decision, kept) in &outcomes {
        let admitted = kept.iter().filter(|(key, ..)| key.lane == Lane::Admitted as u32).count();
        let deferred = kept.len() - admitted;
        let own = (*who != 2 && (rules[*who].hour.is_set() || rules[*who].day.is_set())) as usize;
        match decision.verdict {
            Verdict::Allowed | Verdict::Exempt => assert_eq!((admitted, deferred), (own + 1, 0), "all its scopes"),
            Verdict::Deferred => assert_eq!((admitted, deferred), (0, 1), "only soft bands"),
            Verdict::Refused => assert_eq!((admitted, deferred), (0, 0), "none of its scopes"),
            other => panic!("{other:?} is not decided here"),
        }
        for (key, receipt, which) in kept {
            let at = receipt.slots();
            for (span, bit, slot) in [(Span::Hour, spans::HOUR, at.hour), (Span::Day, spans::DAY, at.day)] {
                if which & bit == 0 {
                    continue;
                }
                slots.entry((*key, span)).or_default().push(slot as u64);
                if key.scope != Account::HOST || *who != 2 || policy.strict == 1 {
                    held.entry((*key, span)).or_default().push(slot as u64);
                }
            }
        }
    }
    for ((key, span), mut slots) in held {
        let limit = match key.scope.uid() {
            Some(uid) if key.lane == Lane::Admitted as u32 => rules[uid as usize].limit(span).limit,
            Some(uid) => rules[uid as usize].limit(span).band,
            None => policy.host_limit(span),
        };
        assert!(most_in_a_window(&mut slots) <= limit as usize, "{key:?} {span:?} holds {slots:?}, limit {limit}");
    }
    let windows = windows.0.lock().unwrap();
    for (key, both) in windows.iter() {
        for span in Span::ALL {
            let window = both.of(span);
            let kept = slots.get(&(*key, span));
            let in_force = kept.map_or(0, |s| s.iter().filter(|&&s| s + SLOTS >= window.head).count());
            assert_eq!(window.total, in_force as u64, "{key:?} {span:?}: what is not kept was taken back");
        }
    }
}

#[test]
fn no_interleaving_admits_more_than_a_limit_or_leaves_a_stray_charge() {
    shuttle::check_random(senders_at_once, 10_000);
}

#[test]
fn no_rare_interleaving_does_either() {
    shuttle::check_pct(senders_at_once, 10_000, 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn attempts_one_after_another_use_every_limit_to_the_full(
        hour in 0u32..30, day in 0u32..30, percent in 100u32..200, host in 0u32..60, attempts in 0usize..120,
    ) {
        let rule = rule(Limit::with_soft_percent(hour, percent), Limit::with_soft_percent(day, percent));
        let policy = Policy { host_day: host, ..Policy::open() };
        let out = Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = out.clone();
        shuttle::check_random(move || *sink.lock().unwrap() = verdicts(&policy, &rule, attempts), 1);
        let got = out.lock().unwrap();
        let admitted = (hour.min(day).min(host) as usize).min(attempts);
        prop_assert_eq!(count(&got, Verdict::Allowed), admitted);
        let hour_full = hour as usize == admitted;
        let day_full = day as usize == admitted;
        let band = if host as usize == admitted { 0 }
            else if hour_full && day_full { rule.hour.band.min(rule.day.band) }
            else if hour_full { rule.hour.band }
            else { rule.day.band } as usize;
        prop_assert_eq!(count(&got, Verdict::Deferred), band.min(attempts - admitted));
    }
}

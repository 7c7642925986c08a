//! Properties of the decision, alone and under every interleaving the scheduler finds.

mod units;

use super::*;
use crate::{
    connection::{Route, kind},
    decide::Shared as With,
    level::{LINKS, Purse, purse_flag},
    rule::{Limit, Origin, Rule},
    window::{SLOTS, Span, UNLIMITED, Windows},
};
use proptest::prelude::*;
use shuttle::{rand::Rng, sync::Mutex, thread};
use std::{collections::HashMap, sync::Arc, vec::Vec};

/// Windows with one lock per call, as in the kernel.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<HashMap<WindowKey, Windows>>>, [Option<Purse>; SHARES]);

/// Places for what an account shares, and then for what its cgroup does.
const SHARES: usize = 2 * LINKS;

/// What every keeper of windows does with shared purses, which are in `$purses`.
macro_rules! shared_purses {
    ($self:ident => $purses:expr) => {
        fn share(&mut $self, shared: With, ask: &Ask) -> Receipt {
            let purses = $purses;
            charge_chain(|link| purses[link + LINKS * shared as usize].as_ref(), ask, $self)
        }

        fn unshare(&mut $self, shared: With, receipt: Receipt, ask: &Ask) {
            let purses = $purses;
            uncharge_chain(|link| purses[link + LINKS * shared as usize].as_ref(), receipt, ask, $self);
        }

        fn put_off(&mut $self, shared: With, link: u32, which: u32, now: u64) -> Receipt {
            put_off(&$purses[link as usize + LINKS * shared as usize].unwrap(), which, now, $self)
        }
    };
}

impl Purses for Shared {
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt {
        self.0.lock().unwrap().entry(*key).or_default().charge(Both::slots(now), limits, which, n)
    }

    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32) {
        self.0.lock().unwrap().get_mut(key).unwrap().uncharge(receipt, which, n);
    }

    fn is_braked(&mut self, _: Account, _: u16, _: u64) -> bool {
        false
    }

    shared_purses!(self => self.1);
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

    fn is_braked(&mut self, _: Account, _: u16, _: u64) -> bool {
        false
    }

    shared_purses!(self => self.inner.1);
}

fn rule(hour: Limit, day: Limit) -> Rule {
    Rule { hour, day, ..Rule::of(Action::Limited, Origin::Default) }
}

fn remote(uid: u32) -> Attempt {
    Attempt { account: Account::user(uid), route: Route::Remote, host_uid: None, cgroup: 0, exception: 0 }
}

fn verdicts(policy: &Policy, rule: &Rule, attempts: usize) -> Vec<Verdict> {
    let mut windows = Shared::default();
    (0..attempts).map(|_| decide(policy, &rule.into(), &remote(1), 1 << 45, &mut windows).verdict).collect()
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
                let mut run = |rule: &Rule| decide(&policy, &rule.into(), &remote(0), 1 << 45, &mut windows).verdict;
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
                decide(&Policy::open(), &(&rule).into(), &attempt, 0, &mut Shared::default()).verdict
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

/// What three senders share: a plan's purse by the first two, a cgroup's by the last two, which holds exempt ones too, and
/// a group's by all.
fn purses(
    dice: &mut shuttle::rand::rngs::ThreadRng,
    limit: &dyn Fn(&mut shuttle::rand::rngs::ThreadRng) -> Limit,
) -> [[Option<Purse>; SHARES]; 3] {
    let mut one = |level, kind, flags| {
        let purse = Purse::new(level, Account::new(kind, 1));
        dice.gen_bool(0.6).then(|| Purse { hour: limit(dice), day: limit(dice), flags, ..purse })
    };
    let plan = one(Level::Plan, kind::PLAN, 0);
    let group = one(Level::Group, kind::GROUP, 0);
    let cgroup = one(Level::Cgroup, kind::RULE, purse_flag::STRICT);
    let mut of = [[None; SHARES]; 3];
    (of[0][0], of[1][0]) = (plan, plan);
    (of[1][7], of[2][4]) = (cgroup, cgroup);
    of.iter_mut().for_each(|all| all[2] = group);
    of
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
    let shared = purses(&mut dice, &limit);
    let windows = Shared::default();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let windows = windows.clone();
            thread::spawn(move || {
                let mut dice = shuttle::rand::thread_rng();
                let mut outcomes = Vec::new();
                for _ in 0..3 {
                    let who = dice.gen_range(0..3);
                    let slots = if dice.gen_bool(0.7) { 0 } else { dice.gen_range(0..100) };
                    let now = (1_000 + slots) * Span::Hour.slot_nanos();
                    let exempt = Rule::of(Action::Exempt, Origin::AllowUser);
                    let rule = if who == 2 { &exempt } else { &rules[who] };
                    let inner = Shared(windows.0.clone(), shared[who]);
                    let mut recorder = Recorder { inner, kept: Vec::new() };
                    let decision = decide(&policy, &rule.into(), &remote(who as u32), now, &mut recorder);
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
        let is_held = |purse: &&Purse| purse.of(None).is_set() && (*who != 2 || purse.flags & purse_flag::STRICT != 0);
        let own = own + shared[*who].iter().flatten().filter(is_held).count();
        match decision.verdict {
            Verdict::Allowed | Verdict::Exempt => assert_eq!((admitted, deferred), (own + 1, 0), "all its scopes"),
            Verdict::Deferred => assert_eq!((admitted, deferred), (0, 1), "one soft band"),
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
        let purse = shared.iter().flatten().flatten().find(|purse| purse.scope == key.scope);
        let one = match (key.scope.uid(), purse) {
            (Some(uid), _) => rules[uid as usize].limit(span),
            (None, Some(purse)) => {
                if span == Span::Hour {
                    purse.hour
                } else {
                    purse.day
                }
            }
            (None, None) => Limit { limit: policy.host_limit(span), band: 0 },
        };
        let limit = if key.lane == Lane::Admitted as u32 { one.limit } else { one.band };
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

/// What one sender of a shared purse meets, of two who are alike.
fn met(rule: Rule, shared: [Option<Purse>; SHARES], route: Route, attempts: usize) -> Vec<Decision> {
    let out = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = out.clone();
    shuttle::check_random(
        move || {
            let mut windows = Shared(Arc::default(), shared);
            let attempt = Attempt { route, ..remote(1) };
            let mut one = || decide(&Policy::open(), &(&rule).into(), &attempt, 1 << 45, &mut windows);
            *sink.lock().unwrap() = (0..attempts).map(|_| one()).collect();
        },
        1,
    );
    out.lock().unwrap().clone()
}

fn purse(level: Level, limit: u32, percent: u32) -> Purse {
    let hour = Limit::with_soft_percent(limit, percent);
    Purse { hour, ..Purse::new(level, Account::new(kind::RULE, level as u64)) }
}

fn chain(purses: &[Purse]) -> [Option<Purse>; SHARES] {
    let mut all = [None; SHARES];
    purses.iter().enumerate().for_each(|(i, purse)| all[SHARES - 1 - i] = Some(*purse));
    all
}

#[test]
fn the_strictest_limit_applies_and_of_several_the_greatest_speaks() {
    let open = rule(Limit::NONE, Limit::NONE);
    let own = |limit| rule(Limit { limit, band: 0 }, Limit::NONE);
    for (rule, purses, passes, reason) in [
        (open, std::vec![purse(Level::Cgroup, 3, 100)], 3, Reason::CgroupHour),
        (own(2), std::vec![purse(Level::Cgroup, 3, 100)], 2, Reason::AccountHour),
        (own(2), std::vec![purse(Level::Cgroup, 2, 100)], 2, Reason::AccountHour),
        (own(2), std::vec![purse(Level::Plan, 2, 100), purse(Level::Group, 2, 100)], 2, Reason::PlanHour),
        (own(4), std::vec![purse(Level::Group, 1, 100), purse(Level::Plan, 2, 100)], 1, Reason::GroupHour),
        // A hard limit of the lesser beats a soft one of the greater.
        (open, std::vec![purse(Level::Plan, 1, 200), purse(Level::Cgroup, 1, 100)], 1, Reason::CgroupHour),
    ] {
        let got = met(rule, chain(&purses), Route::Remote, 6);
        let passed = got.iter().take_while(|d| d.verdict == Verdict::Allowed).count();
        assert_eq!((passed, got[passed].verdict), (passes, Verdict::Refused), "{purses:?}");
        assert!(got[passed..].iter().all(|d| d.reason() == reason), "{purses:?}: {got:?}");
    }
}

#[test]
fn a_shared_limit_has_a_soft_band_of_its_own() {
    let open = rule(Limit::NONE, Limit::NONE);
    let got = met(open, chain(&[purse(Level::Cgroup, 4, 150)]), Route::Remote, 8);
    let verdicts: Vec<_> = got.iter().map(|d| d.verdict).collect();
    assert_eq!(verdicts[..4], [Verdict::Allowed; 4]);
    assert_eq!(verdicts[4..6], [Verdict::Deferred; 2]);
    assert_eq!(verdicts[6..], [Verdict::Refused; 2]);
    let redirecting = Purse { on_soft: OnSoft::Redirect as u8, ..purse(Level::Group, 0, 100) };
    let redirecting = Purse { hour: Limit { limit: 0, band: 1 }, ..redirecting };
    assert_eq!(met(open, chain(&[redirecting]), Route::Remote, 1)[0].verdict, Verdict::Redirected);
    let strict = Purse { flags: purse_flag::STRICT, ..redirecting };
    let exempt = Rule::of(Action::Exempt, Origin::AllowUser);
    let got = met(exempt, chain(&[strict]), Route::Remote, 1)[0].verdict;
    assert_eq!(got, Verdict::Deferred, "the local MTA is not led to itself");
}

#[test]
fn a_shared_limit_leaves_local_submissions_and_exempt_accounts_alone_unless_it_says_otherwise() {
    let open = rule(Limit::NONE, Limit::NONE);
    let exempt = Rule::of(Action::Exempt, Origin::AllowUser);
    let released = Rule::of(Action::Exempt, Origin::ByHand);
    let none = purse(Level::Cgroup, 0, 100);
    let strict = Purse { flags: purse_flag::STRICT, ..none };
    let local = Purse { flags: purse_flag::LOCAL, ..none };
    for (rule, purse, route, refused) in [
        (open, none, Route::Remote, true),
        (open, none, Route::Local, false),
        (open, none, Route::Pipe, false),
        (open, local, Route::Local, true),
        (exempt, none, Route::Remote, false),
        (exempt, strict, Route::Remote, true),
        (exempt, strict, Route::Local, false),
        (released, strict, Route::Remote, false),
    ] {
        let got = met(rule, chain(&[purse]), route, 1)[0].verdict;
        assert_eq!(got == Verdict::Refused, refused, "{rule:?} {purse:?} {route:?}");
    }
}

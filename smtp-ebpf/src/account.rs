//! The windows as the kernel keeps them, one map value each, under its spin lock; and the failure brake.

use aya_ebpf::helpers::{bpf_spin_lock, bpf_spin_unlock};
use smtp_common::{
    connection::Account,
    counter::Loss,
    decide::Purses,
    rule::{PlanKey, PlanLimits, Rule, RuleKey, Rules},
    window::{Both, Lane, Receipt, WindowKey, spans},
};

use crate::{
    emit::lost,
    maps::{BPF_NOEXIST, BRAKES, PLANS, RULES, WINDOWS, WindowValue, ZERO},
    policy::in_force,
};

/// Rules of one generation.
pub(crate) struct Generation(pub(crate) u32);

impl Rules for Generation {
    #[inline(always)]
    fn rule(&self, account: Account) -> Option<Rule> {
        // SAFETY: copied out at once; rules of the generation in force are not removed.
        unsafe { RULES.get(RuleKey::new(self.0, account)) }.copied()
    }

    #[inline(always)]
    fn plan(&self, plan: u32) -> Option<PlanLimits> {
        // SAFETY: as above.
        unsafe { PLANS.get(PlanKey { generation: self.0, plan }) }.copied()
    }
}

pub(crate) struct KernelPurses;

impl Purses for KernelPurses {
    #[inline(always)]
    fn charge(&mut self, key: &WindowKey, now: u64, limits: Both, which: u32, n: u32) -> Receipt {
        Receipt(window_charge(pack(key, which), key.scope.id, Both::slots(now).pack(), limits.pack(), n))
    }

    #[inline(always)]
    fn uncharge(&mut self, key: &WindowKey, receipt: Receipt, which: u32, n: u32) {
        window_uncharge(pack(key, which), key.scope.id, receipt.0, n);
    }

    #[inline(always)]
    fn is_braked(&mut self, account: Account, rule: &Rule, now: u64) -> bool {
        brake_holds(account.kind, account.id, rule.plan, now) != 0
    }
}

/// A key without its id, and the windows meant, in one register: the verifier of 5.10 lets global functions take
/// scalars only.
#[inline(always)]
fn pack(key: &WindowKey, which: u32) -> u32 {
    key.scope.kind << 16 | key.lane << 8 | which
}

#[inline(always)]
fn unpack(packed: u32, id: u64) -> (WindowKey, u32) {
    let key = WindowKey { scope: Account::new(packed >> 16, id), lane: packed >> 8 & 0xff, _pad: 0 };
    (key, packed & 0xff)
}

/// The windows of an account that found no room in the map: one pair for all of them, made by the agent.
#[inline(always)]
fn overflow(key: &WindowKey) -> WindowKey {
    WindowKey { scope: Account::OTHER, ..*key }
}

/// Adds `n` to windows of a scope, or says which were full; the result is a [`Receipt`].
///
/// A global function, which the verifier proves once by itself (`btf_check_subprog_call`): inlined or
/// static, its 65-step loops would be walked anew on every path that leads to each of its call sites,
/// far past the million instructions it allows.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn window_charge(packed: u32, id: u64, slots: u64, limits: u64, n: u32) -> u64 {
    let (key, which) = unpack(packed, id);
    let mut mark = 0;
    let value = match WINDOWS.get_ptr_mut(key) {
        Some(value) => value,
        None => match create(&key) {
            Some(value) => value,
            None => {
                lost(Loss::WindowsFull);
                mark = Receipt::OVERFLOW;
                match WINDOWS.get_ptr_mut(overflow(&key)) {
                    Some(value) => value,
                    // Not even the overflow window: nothing can be promised, so nothing is let through.
                    None => return Receipt::FULL.0,
                }
            }
        },
    };
    // SAFETY: the pointer is the map's value; between lock and unlock nobody else reads or writes it, and
    // the verifier sees to it that the two are paired.
    let receipt = unsafe {
        let lock = &raw mut (*value).lock;
        bpf_spin_lock(lock);
        let receipt = (*value).windows.charge(Both::unpack(slots), Both::unpack(limits), which, n);
        bpf_spin_unlock(lock);
        receipt
    };
    receipt.0 | mark
}

/// Takes back what a receipt of [`window_charge`] stands for.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn window_uncharge(packed: u32, id: u64, receipt: u64, n: u32) -> u64 {
    let (key, which) = unpack(packed, id);
    let overflown = receipt & Receipt::OVERFLOW != 0;
    let found = if overflown { WINDOWS.get_ptr_mut(overflow(&key)) } else { WINDOWS.get_ptr_mut(key) };
    let Some(value) = found else { return 0 };
    // SAFETY: as in `window_charge`.
    unsafe {
        let lock = &raw mut (*value).lock;
        bpf_spin_lock(lock);
        (*value).windows.uncharge(Receipt(receipt), which, n);
        bpf_spin_unlock(lock);
    }
    1
}

/// Makes the windows on their first use. Two processors may try at once: the second finds the first's.
#[inline(always)]
fn create(key: &WindowKey) -> Option<*mut WindowValue> {
    let zero = ZERO.get_ptr(0)?;
    // SAFETY: key and value are as long as the map's; the value holds no lock of its own, so the helper
    // may read it, and the kernel leaves the new value's lock field alone (`copy_map_value`).
    unsafe {
        aya_ebpf::helpers::bpf_map_update_elem(
            (&raw const WINDOWS).cast_mut().cast(),
            core::ptr::from_ref(key).cast(),
            zero.cast(),
            BPF_NOEXIST,
        );
    }
    WINDOWS.get_ptr_mut(key)
}

/// Units in the hour of a scope that end at `slot`.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn hour_used(packed: u32, id: u64, slot: u64) -> u64 {
    let (key, _) = unpack(packed, id);
    let Some(value) = WINDOWS.get_ptr_mut(key) else { return 0 };
    // SAFETY: as in `window_charge`.
    unsafe {
        let lock = &raw mut (*value).lock;
        bpf_spin_lock(lock);
        (*value).windows.hour.advance(slot);
        let used = (*value).windows.hour.total;
        bpf_spin_unlock(lock);
        used
    }
}

/// Messages of the account's last hour that had an outcome, and those of them that failed.
#[inline(always)]
fn outcomes(account: Account, now: u64) -> (u64, u64) {
    let slot = Both::slots(now).hour as u64;
    let of = |lane| hour_used(pack(&WindowKey::new(account, lane), 0), account.id, slot);
    (of(Lane::Outcomes), of(Lane::Failed))
}

/// 1 while the failure brake of a plan holds the account. One that does not hold any more is let go.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn brake_holds(kind: u32, id: u64, plan: u32, now: u64) -> u32 {
    let account = Account::new(kind, id);
    // SAFETY: one word, read at once; a torn or stale time is one of the two it was set to.
    let Some(&tripped) = (unsafe { BRAKES.get(account) }) else { return 0 };
    let Some((generation, _)) = in_force() else { return 0 };
    let Some(limits) = Generation(generation).plan(plan) else { return 0 };
    let (of, failed) = outcomes(account, now);
    let holds = limits.holds(tripped, now, failed, of);
    if !holds {
        let _ = BRAKES.remove(account);
    }
    holds as u32
}

/// Notes `n` messages with an outcome for the brake of their plan, `failed` of them failed, and trips it when too many
/// have.
#[inline(always)]
pub(crate) fn brake_note(account: Account, limits: &PlanLimits, n: u32, failed: u32, now: u64) {
    let mut purses = KernelPurses;
    let _ = purses.charge(&WindowKey::new(account, Lane::Outcomes), now, Both::UNLIMITED, spans::HOUR, n);
    if failed == 0 {
        return;
    }
    let _ = purses.charge(&WindowKey::new(account, Lane::Failed), now, Both::UNLIMITED, spans::HOUR, failed);
    let (of, failed) = outcomes(account, now);
    if !limits.is_too_much(failed, of) {
        return;
    }
    // One that holds already keeps its time: it lapses when it was to lapse.
    // SAFETY: as in `brake_holds`.
    let holds = matches!(unsafe { BRAKES.get(account) }, Some(&tripped) if limits.holds(tripped, now, failed, of));
    if !holds && BRAKES.insert(account, now, 0).is_err() {
        lost(Loss::BrakesFull);
    }
}

//! The windows as the kernel keeps them, one map value each, under its spin lock; and the failure brake.

use aya_ebpf::helpers::{bpf_spin_lock, bpf_spin_unlock};
use smtp_common::{
    choice::Ruling,
    connection::Account,
    counter::Loss,
    decide::{Ask, Purses, Shared, charge_chain, put_off, uncharge_chain},
    level::{ByHand, Chain, LINKS, Numbered, PathKey, Purse},
    names::Tripped,
    rule::{PlanKey, PlanLimits, Rule, RuleKey, Rules},
    window::{Both, Lane, Receipt, WindowKey, spans},
};

use crate::{
    emit::lost,
    maps::{BPF_NOEXIST, BRAKES, BY_HAND, CHAINS, PATHS, PLANS, PURSES, RULES, WINDOWS, ZERO},
    policy::in_force,
};

/// Rules of one generation.
pub(crate) struct Generation(pub(crate) u32);

impl Rules for Generation {
    type Ref<T: Copy + 'static> = &'static T;

    #[inline(always)]
    fn part<T: Copy, U: Copy>(whole: &'static T, part: impl FnOnce(&T) -> &U) -> &'static U {
        part(whole)
    }

    #[inline(always)]
    fn rule(&self, account: Account) -> Option<&'static Rule> {
        // SAFETY: what belongs to the generation in force is not changed, and what belonged to the one before is not removed
        // while a program still runs that has seen it in force.
        unsafe { RULES.get(RuleKey::new(self.0, account)) }
    }

    #[inline(always)]
    fn plan(&self, plan: u16) -> Option<&'static PlanLimits> {
        // SAFETY: as above.
        unsafe { PLANS.get(PlanKey { generation: self.0, plan: plan as u32 }) }
    }

    #[inline(always)]
    fn by_hand(&self, account: Account) -> Option<&'static ByHand> {
        // SAFETY: one that is replaced or removed stays whole until every running program has ended.
        unsafe { BY_HAND.get(account) }
    }

    #[inline(always)]
    fn chain_of(&self, cgroup: u64) -> Option<&'static Chain> {
        self.chain(self.chain_number(cgroup))
    }
}

impl Generation {
    /// Number of the chain of a cgroup's path; 0 for none.
    #[inline(always)]
    fn chain_number(&self, cgroup: u64) -> u32 {
        let key = PathKey { generation: self.0, _pad: 0, hash: cgroup };
        // SAFETY: one word, read at once.
        match unsafe { PATHS.get(key) } {
            Some(number) => *number,
            None => 0,
        }
    }

    #[inline(always)]
    fn chain(&self, number: u32) -> Option<&'static Chain> {
        if number == 0 {
            return None;
        }
        // SAFETY: as of rules.
        unsafe { CHAINS.get(Numbered { generation: self.0, number }) }
    }

    #[inline(always)]
    fn purse(&self, chain: &Chain, link: usize) -> Option<&'static Purse> {
        // The mask says nothing new to Rust, and the bound to the verifier.
        let number = chain.purses[link & (LINKS - 1)];
        if number == 0 {
            return None;
        }
        // SAFETY: as above.
        unsafe { PURSES.get(Numbered { generation: self.0, number }) }
    }
}

/// The windows, and what an attempt shares with others.
#[derive(Clone, Copy)]
pub(crate) struct KernelPurses {
    generation: u32,
    /// Numbers of the chains of what its account shares, and of what its cgroup does; 0 for none.
    own: u32,
    cgroup: u32,
}

impl KernelPurses {
    /// Shares nothing.
    #[inline(always)]
    pub(crate) const fn alone() -> Self {
        Self { generation: 0, own: 0, cgroup: 0 }
    }

    #[inline(always)]
    pub(crate) fn of(generation: u32, rule: &Ruling<'_>, cgroup: u64) -> Self {
        let cgroup = if cgroup != 0 { Generation(generation).chain_number(cgroup) } else { 0 };
        Self { generation, own: rule.chain as u32, cgroup }
    }

    /// What its chains say together: bits of [`smtp_common::level::chain_flag`].
    #[inline(always)]
    pub(crate) fn flags(&self) -> u32 {
        let of = |number| match Generation(self.generation).chain(number) {
            Some(chain) => chain.flags,
            None => 0,
        };
        of(self.own) | of(self.cgroup)
    }

    #[inline(always)]
    const fn number(&self, shared: Shared) -> u32 {
        match shared {
            Shared::Account => self.own,
            Shared::Cgroup => self.cgroup,
        }
    }
}

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
    fn is_braked(&mut self, account: Account, plan: u16, now: u64) -> bool {
        brake_holds(account.kind, account.id, plan as u32, now) != 0
    }

    #[inline(always)]
    fn share(&mut self, shared: Shared, ask: &Ask) -> Receipt {
        match self.number(shared) {
            0 => Receipt::NONE,
            number => Receipt(chain_charge(self.generation, number, ask.pack(), ask.now)),
        }
    }

    #[inline(always)]
    fn unshare(&mut self, shared: Shared, receipt: Receipt, ask: &Ask) {
        chain_uncharge(self.generation, self.number(shared), ask.pack(), ask.now, receipt.0);
    }

    #[inline(always)]
    fn put_off(&mut self, shared: Shared, link: u32, which: u32, now: u64) -> Receipt {
        Receipt(purse_put_off(self.generation, self.number(shared), link, which, now))
    }
}

/// [`charge_chain`] of the chain with this number: global as [`window_charge`], and for the same reason.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn chain_charge(generation: u32, number: u32, ask: u64, now: u64) -> u64 {
    let rules = Generation(generation);
    let Some(chain) = rules.chain(number) else { return Receipt::NONE.0 };
    let ask = Ask::unpack(ask, now);
    if !chain.has(ask.flag()) {
        return Receipt::NONE.0;
    }
    charge_chain(|link| rules.purse(chain, link), &ask, &mut KernelPurses::alone()).0
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn chain_uncharge(generation: u32, number: u32, ask: u64, now: u64, receipt: u64) -> u64 {
    let rules = Generation(generation);
    let Some(chain) = rules.chain(number) else { return 0 };
    let ask = Ask::unpack(ask, now);
    uncharge_chain(|link| rules.purse(chain, link), Receipt(receipt), &ask, &mut KernelPurses::alone());
    1
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn purse_put_off(generation: u32, number: u32, link: u32, which: u32, now: u64) -> u64 {
    let rules = Generation(generation);
    let Some(chain) = rules.chain(number) else { return Receipt::FULL.0 };
    let Some(purse) = rules.purse(chain, link as usize) else { return Receipt::FULL.0 };
    put_off(purse, which, now, &mut KernelPurses::alone()).0
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

/// Adds `n` to windows of a scope, or says which were full; the result is a [`Receipt`]. Accounts that find no room in the
/// map share one pair of windows, which the agent makes.
///
/// A global function, which the verifier proves once by itself (`btf_check_subprog_call`): inlined or
/// static, its 65-step loops would be walked anew on every path that leads to each of its call sites,
/// far past the million instructions it allows.
#[unsafe(no_mangle)]
#[inline(never)]
#[expect(clippy::needless_borrows_for_generic_args, reason = "by value the key would lie on the stack twice")]
pub(crate) extern "C" fn window_charge(packed: u32, id: u64, slots: u64, limits: u64, n: u32) -> u64 {
    let (mut key, which) = unpack(packed, id);
    let mut mark = 0;
    let mut found = WINDOWS.get_ptr_mut(&key);
    if found.is_none() {
        create(&key);
        found = WINDOWS.get_ptr_mut(&key);
    }
    if found.is_none() {
        lost(Loss::WindowsFull);
        mark = Receipt::OVERFLOW;
        key.scope = Account::OTHER;
        found = WINDOWS.get_ptr_mut(&key);
    }
    // Not even the overflow window: nothing can be promised, so nothing is let through.
    let Some(value) = found else { return Receipt::FULL.0 };
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
#[expect(clippy::needless_borrows_for_generic_args, reason = "by value the key would lie on the stack twice")]
pub(crate) extern "C" fn window_uncharge(packed: u32, id: u64, receipt: u64, n: u32) -> u64 {
    let (mut key, which) = unpack(packed, id);
    if receipt & Receipt::OVERFLOW != 0 {
        key.scope = Account::OTHER;
    }
    let Some(value) = WINDOWS.get_ptr_mut(&key) else { return 0 };
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
fn create(key: &WindowKey) {
    let Some(zero) = ZERO.get_ptr(0) else { return };
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

/// 1 while the failure brake of a plan holds the account. One that does not hold any more is let go, by whoever is on the
/// plan that it was tripped by.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn brake_holds(kind: u32, id: u64, plan: u32, now: u64) -> u32 {
    let account = Account::new(kind, id);
    // SAFETY: read at once; a torn time is one of the two it was set to.
    let Some(&Tripped { at, plan: by, .. }) = (unsafe { BRAKES.get(account) }) else { return 0 };
    let Some((generation, _)) = in_force() else { return 0 };
    let Some(limits) = Generation(generation).plan(plan as u16) else { return 0 };
    let (of, failed) = outcomes(account, now);
    let holds = limits.holds(at, now, failed, of);
    if !holds && by == limits.plan {
        let _ = BRAKES.remove(account);
    }
    holds as u32
}

/// Notes `n` messages with an outcome for the brake of their plan, `failed` of them failed, and trips it when too many
/// have.
#[inline(always)]
pub(crate) fn brake_note(account: Account, limits: &PlanLimits, n: u32, failed: u32, now: u64) {
    let mut purses = KernelPurses::alone();
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
    let holds = matches!(unsafe { BRAKES.get(account) }, Some(tripped) if limits.holds(tripped.at, now, failed, of));
    let tripped = Tripped { at: now, plan: limits.plan, _pad: 0 };
    if !holds && BRAKES.insert(account, tripped, 0).is_err() {
        lost(Loss::BrakesFull);
    }
}

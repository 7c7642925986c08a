//! The windows as the kernel keeps them: one map value each, under its spin lock.

use aya_ebpf::helpers::{bpf_spin_lock, bpf_spin_unlock};
use smtp_common::{
    connection::Account,
    counter::Loss,
    decide::{FULL, Windows},
    rule::{Rule, RuleKey, Rules},
    window::{Span, WindowKey},
};

use crate::{
    emit::lost,
    maps::{RULES, WINDOWS, WindowValue, ZERO},
};

const BPF_NOEXIST: u64 = 1;

/// Set in a receipt that was charged to the overflow window. Slot numbers stay far below.
const OVERFLOW: u64 = 1 << 62;

/// Rules of one generation.
pub(crate) struct Generation(pub(crate) u32);

impl Rules for Generation {
    #[inline(always)]
    fn rule(&self, account: Account) -> Option<Rule> {
        // SAFETY: copied out at once; rules of the generation in force are not removed.
        unsafe { RULES.get(RuleKey::new(self.0, account)) }.copied()
    }
}

pub(crate) struct KernelWindows;

impl Windows for KernelWindows {
    #[inline(always)]
    fn charge(&mut self, key: &WindowKey, now: u64, limit: u32) -> u64 {
        let span = if key.span == Span::Hour as u32 { Span::Hour } else { Span::Day };
        window_charge(pack(key), key.scope.id, span.slot(now), limit)
    }

    #[inline(always)]
    fn uncharge(&mut self, key: &WindowKey, receipt: u64) {
        window_uncharge(pack(key), key.scope.id, receipt);
    }
}

/// A key without its id in one register: the verifier of 5.10 lets global functions take scalars only.
#[inline(always)]
fn pack(key: &WindowKey) -> u32 {
    key.scope.kind << 16 | key.span << 8 | key.lane
}

#[inline(always)]
fn unpack(packed: u32, id: u64) -> WindowKey {
    WindowKey { scope: Account::new(packed >> 16, id), span: packed >> 8 & 0xff, lane: packed & 0xff }
}

/// The window of an account that found no room in the map: one for all of them, made by the agent.
#[inline(always)]
fn overflow(key: &WindowKey) -> WindowKey {
    WindowKey { scope: Account::OTHER, ..*key }
}

/// Adds one to a window, or answers [`FULL`].
///
/// A global function, which the verifier proves once by itself (`btf_check_subprog_call`): inlined or
/// static, its 65-step loop would be walked anew on every path that leads to each of its six call sites,
/// far past the million instructions it allows.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn window_charge(packed: u32, id: u64, slot: u64, limit: u32) -> u64 {
    let key = unpack(packed, id);
    let mut mark = 0;
    let window = match WINDOWS.get_ptr_mut(key) {
        Some(window) => window,
        None => match create(&key) {
            Some(window) => window,
            None => {
                lost(Loss::WindowsFull);
                mark = OVERFLOW;
                match WINDOWS.get_ptr_mut(overflow(&key)) {
                    Some(window) => window,
                    // Not even the overflow window: nothing can be promised, so nothing is let through.
                    None => return FULL,
                }
            }
        },
    };
    // SAFETY: the pointer is the map's value; between lock and unlock nobody else reads or writes it, and
    // the verifier sees to it that the two are paired.
    let charged = unsafe {
        let lock = &raw mut (*window).lock;
        bpf_spin_lock(lock);
        let charged = (*window).window.charge(slot, limit);
        bpf_spin_unlock(lock);
        charged
    };
    match charged {
        Some(slot) => slot | mark,
        None => FULL,
    }
}

/// Takes back what a receipt of [`window_charge`] stands for.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn window_uncharge(packed: u32, id: u64, receipt: u64) -> u64 {
    let key = unpack(packed, id);
    let found = if receipt & OVERFLOW == 0 { WINDOWS.get_ptr_mut(key) } else { WINDOWS.get_ptr_mut(overflow(&key)) };
    let Some(window) = found else { return 0 };
    // SAFETY: as in `window_charge`.
    unsafe {
        let lock = &raw mut (*window).lock;
        bpf_spin_lock(lock);
        (*window).window.uncharge(receipt & !OVERFLOW);
        bpf_spin_unlock(lock);
    }
    1
}

/// Makes the window on its first use. Two processors may try at once: the second finds the first's.
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

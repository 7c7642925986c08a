//! What is told of an attempt: its counter always, its event within the account's budget.

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use smtp_common::{
    connection::{Account, Address, Port, Route},
    counter::{AccountState, CounterKey, Loss, Reason, Verdict},
    rule::Policy,
};

use crate::{
    identify::{Task, current},
    maps::{ACCOUNTS, BPF_NOEXIST, COUNTERS, EVENTS, LOSSES},
    portrait::portray,
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[inline(always)]
pub(crate) fn add(counter: *mut u64, n: u64) {
    // SAFETY: a live map value, 8-byte aligned; every writer adds atomically.
    #[cfg(target_arch = "bpf")]
    unsafe {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, n);
    }
    // What a host compiler sees when it only checks the code.
    #[cfg(not(target_arch = "bpf"))]
    let _ = (counter, n);
}

/// Counts a loss.
#[inline(always)]
pub(crate) fn lost(what: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(what as u32) {
        add(counter, 1);
    }
}

/// Counts the attempt: under the account, or under `other` when the map has no room for it.
#[inline(always)]
pub(crate) fn count(account: Account, port: Port, route: Route, verdict: Verdict) {
    count_attempt((account.kind as u64) << 32 | (port as u64) << 16 | (route as u64) << 8 | verdict as u64, account.id);
}

/// A global function, so that its variables and its callers' do not lie on the stack together.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn count_attempt(packed: u64, id: u64) -> u32 {
    let key = CounterKey {
        account: Account::new((packed >> 32) as u32, id),
        port: (packed >> 16) as Port,
        route: (packed >> 8) as u8,
        verdict: packed as u8,
        _pad: 0,
    };
    if let Some(counter) = COUNTERS.get_ptr_mut(key) {
        add(counter, 1);
        return 0;
    }
    let _ = COUNTERS.insert(key, 0, BPF_NOEXIST);
    // Somebody else may have made it meanwhile; nobody there means the map is full.
    if let Some(counter) = COUNTERS.get_ptr_mut(key) {
        add(counter, 1);
        return 0;
    }
    lost(Loss::CountersFull);
    if let Some(counter) = COUNTERS.get_ptr_mut(CounterKey { account: Account::OTHER, ..key }) {
        add(counter, 1);
    }
    1
}

/// Events that have a budget of their own: a flood of one class cannot hide the first of another.
#[repr(u32)]
#[derive(Clone, Copy)]
pub(crate) enum Class {
    Passed,
    PutOff,
    Refused,
    /// Sessions that ended.
    Ended,
}

impl Class {
    #[inline(always)]
    fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allowed | Verdict::Exempt => Self::Passed,
            Verdict::Refused | Verdict::WouldRefuse => Self::Refused,
            _ => Self::PutOff,
        }
    }
}

/// Whether the account has an event of this class left in this second.
#[inline(always)]
pub(crate) fn within_budget(account: Account, class: Class, now: u64, budget: u32) -> bool {
    budget_left(account.kind << 8 | class as u32, account.id, now, budget) != 0
}

/// A global function, as [`count_attempt`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn budget_left(packed: u32, id: u64, now: u64, budget: u32) -> u32 {
    let account = Account::new(packed >> 8, id);
    let second = (now / NANOS_PER_SECOND) as u32;
    let state = match ACCOUNTS.get_ptr_mut(account) {
        Some(state) => state,
        None => {
            let fresh = AccountState { first_seen: now, last_seen: now, second, events: [0; 4], _pad: 0 };
            let _ = ACCOUNTS.insert(account, fresh, BPF_NOEXIST);
            match ACCOUNTS.get_ptr_mut(account) {
                Some(state) => state,
                None => {
                    lost(Loss::AccountsFull);
                    return 1;
                }
            }
        }
    };
    // SAFETY: a live map value. Races between processors cost or give an event, never a count.
    unsafe {
        (*state).last_seen = now;
        if (*state).second != second {
            (*state).second = second;
            (*state).events = [0; 4];
        }
        let sent = &mut (*state).events[packed as usize & 3];
        *sent += 1;
        (*sent <= budget) as u32
    }
}

/// Everything an event says besides the task.
pub(crate) struct Outcome {
    pub(crate) destination: Address,
    pub(crate) port: Port,
    pub(crate) route: Route,
    pub(crate) verdict: Verdict,
    pub(crate) reason: Reason,
    pub(crate) now: u64,
}

#[inline(always)]
pub(crate) fn event(policy: &Policy, task: &Task, outcome: &Outcome) {
    if !within_budget(task.account, Class::of(outcome.verdict), outcome.now, policy.event_budget) {
        return lost(Loss::RateLimited);
    }
    // First: who reads the event finds its process told.
    portray(outcome.now);
    let Some(mut entry) = EVENTS.reserve(0) else { return lost(Loss::RingFull) };
    // Field by field into the record: a whole one on the stack takes a fifth of what the kernel allows, and is copied in
    // words that the verifier of 6.1 and before walks anew for every path that leads here.
    // SAFETY: the record is as long as the event and all of it is written; the helper fills its field or leaves it empty.
    unsafe {
        let event = entry.as_mut_ptr();
        (*event).time = outcome.now;
        (*event).policy = policy.serial;
        (*event).account = task.account;
        (*event).cgroup = current::cgroup();
        (*event).netns = task.netns;
        (*event).destination = outcome.destination;
        (*event).uid = current::uid();
        (*event).gid = current::gid();
        (*event).tgid = current::tgid();
        (*event).tid = current::tid();
        (*event).port = outcome.port;
        (*event).flags = task.flags;
        (*event).route = outcome.route as u8;
        (*event).verdict = outcome.verdict as u8;
        (*event).reason = outcome.reason as u8;
        (*event)._pad = 0;
        (*event).comm = [0; 16];
        let comm = &raw mut (*event).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&*comm) as u32);
    }
    entry.submit(0);
}

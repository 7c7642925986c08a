//! What is told of an attempt: its counter always, its event within the account's budget.

use aya_ebpf::helpers::generated::bpf_get_current_comm;
use smtp_common::{
    connection::{Account, Address, Port, Route},
    counter::{AccountState, CounterKey, Loss, Reason, Verdict},
    event::ConnectEvent,
    rule::Policy,
};

use crate::{
    identify::Task,
    maps::{ACCOUNTS, BPF_NOEXIST, COUNTERS, EVENTS, LOSSES},
};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[inline(always)]
fn add(counter: *mut u64) {
    // SAFETY: a live map value, 8-byte aligned; every writer adds atomically.
    #[cfg(target_arch = "bpf")]
    unsafe {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1);
    }
    // What a host compiler sees when it only checks the code.
    #[cfg(not(target_arch = "bpf"))]
    let _ = counter;
}

/// Counts a loss.
#[inline(always)]
pub(crate) fn lost(what: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(what as u32) {
        add(counter);
    }
}

/// Counts the attempt: under the account, or under `other` when the map has no room for it.
#[inline(always)]
pub(crate) fn count(account: Account, port: Port, route: Route, verdict: Verdict) {
    let key = CounterKey::new(account, port, route, verdict);
    if let Some(counter) = COUNTERS.get_ptr_mut(key) {
        return add(counter);
    }
    let _ = COUNTERS.insert(key, 0, BPF_NOEXIST);
    // Somebody else may have made it meanwhile; nobody there means the map is full.
    if let Some(counter) = COUNTERS.get_ptr_mut(key) {
        return add(counter);
    }
    lost(Loss::CountersFull);
    if let Some(counter) = COUNTERS.get_ptr_mut(CounterKey::new(Account::OTHER, port, route, verdict)) {
        add(counter);
    }
}

/// Whether the account has an event left in this second. Deferred and refused attempts have budgets of their own, so
/// that a flood of others cannot hide the first refused one.
#[inline(always)]
fn within_budget(account: Account, verdict: Verdict, now: u64, budget: u32) -> bool {
    let second = (now / NANOS_PER_SECOND) as u32;
    let state = match ACCOUNTS.get_ptr_mut(account) {
        Some(state) => state,
        None => {
            let fresh = AccountState { first_seen: now, last_seen: now, second, passed: 0, put_off: 0, refused: 0 };
            let _ = ACCOUNTS.insert(account, fresh, BPF_NOEXIST);
            match ACCOUNTS.get_ptr_mut(account) {
                Some(state) => state,
                None => {
                    lost(Loss::AccountsFull);
                    return true;
                }
            }
        }
    };
    // SAFETY: a live map value. Races between processors cost or give an event, never a count.
    unsafe {
        (*state).last_seen = now;
        if (*state).second != second {
            (*state).second = second;
            (*state).passed = 0;
            (*state).put_off = 0;
            (*state).refused = 0;
        }
        let sent = match verdict {
            Verdict::Allowed | Verdict::Exempt => &raw mut (*state).passed,
            Verdict::Refused | Verdict::WouldRefuse => &raw mut (*state).refused,
            _ => &raw mut (*state).put_off,
        };
        *sent += 1;
        *sent <= budget
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
    if !within_budget(task.account, outcome.verdict, outcome.now, policy.event_budget) {
        return lost(Loss::RateLimited);
    }
    let Some(mut entry) = EVENTS.reserve(0) else { return lost(Loss::RingFull) };
    entry.write(ConnectEvent {
        time: outcome.now,
        policy: policy.serial,
        account: task.account,
        cgroup: task.cgroup,
        netns: task.netns,
        destination: outcome.destination,
        uid: task.uid,
        gid: task.gid,
        tgid: (task.pid_tgid >> 32) as u32,
        tid: task.pid_tgid as u32,
        port: outcome.port,
        flags: task.flags,
        route: outcome.route as u8,
        verdict: outcome.verdict as u8,
        reason: outcome.reason as u8,
        _pad: 0,
        comm: [0; 16],
    });
    // Straight into the record: by way of the stack it is cleared and copied byte by byte, which the verifier
    // of 6.1 and before walks anew for every path that leads here.
    // SAFETY: the record was just written whole; the helper fills the field or leaves it empty.
    unsafe {
        let comm = &raw mut (*entry.as_mut_ptr()).comm;
        bpf_get_current_comm(comm.cast(), size_of_val(&*comm) as u32);
    }
    entry.submit(0);
}

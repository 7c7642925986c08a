//! What a connection meets: port, identity, route, rule, windows, verdict.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_ktime_get_boot_ns, bpf_set_retval},
    programs::SockAddrContext,
};
use smtp_common::{
    connection::{Address, Attempt, Port},
    counter::{Reason, Verdict},
    decide::decide,
    rule::{GENERATIONS, select},
};

use crate::{
    account::{Generation, KernelPurses},
    emit::{Outcome, count, event},
    identify::identify,
    maps::{ACTIVE, HAS_SET_RETVAL, POLICY, PORTS},
    route::route,
};

const PASS: i32 = 1;
/// The syscall fails with EPERM, or with what `bpf_set_retval` said.
const STOP: i32 = 0;

const SOCK_STREAM: u32 = 1;
const ECONNREFUSED: i32 = 111;

/// The way out for everything that is not SMTP; most of a host's connects see nothing else.
#[inline(always)]
pub(crate) fn connect(
    ctx: &SockAddrContext,
    sock_addr: &bpf_sock_addr,
    destination: impl FnOnce(&bpf_sock_addr) -> Address,
) -> i32 {
    let port = u16::from_be(sock_addr.user_port as u16);
    let Some(&generation) = ACTIVE.get(0) else { return PASS };
    let Some(ports) = PORTS.get(generation) else { return PASS };
    // Not by protocol: MPTCP shows 262 or 6. By type: resolvers connect() UDP sockets to sort addresses.
    if !ports.contains(port) || sock_addr.type_ != SOCK_STREAM {
        return PASS;
    }
    smtp(ctx, generation, destination(sock_addr), port)
}

#[inline(always)]
fn smtp(ctx: &SockAddrContext, generation: u32, destination: Address, port: Port) -> i32 {
    let generation = generation & (GENERATIONS - 1);
    let Some(policy) = POLICY.get(generation) else { return PASS };
    // SAFETY: plain helper call.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let task = identify(ctx, policy, generation);
    let attempt = Attempt { account: task.account, route: route(&destination), host_uid: task.host_uid };
    let rule = select(policy, &Generation(generation), &attempt);
    let decision = decide(policy, &rule, &attempt, now, &mut KernelPurses);
    let verdict = if policy.enforce != 0 { decision.verdict } else { decision.verdict.observed() };
    let (verdict, reason) = joined(verdict, decision.reason);

    count(task.account, port, attempt.route, verdict);
    let outcome = Outcome { destination, port, route: attempt.route, verdict, reason, now };
    event(policy, &task, &outcome);
    aya_log_ebpf::debug!(
        ctx,
        "uid {} account {}:{} port {} verdict {} reason {}",
        task.uid,
        task.account.kind,
        task.account.id,
        port,
        verdict as u8,
        reason as u8
    );
    apply(verdict)
}

/// Where the paths of the decision meet again. The verifier of 6.1 and before takes two states for different
/// that hold another constant verdict, and would walk the counting and the event once for each of them: some
/// 300,000 of the million instructions it allows. What a global function returns is any number to it.
#[inline(always)]
fn joined(verdict: Verdict, reason: Reason) -> (Verdict, Reason) {
    let both = forget((verdict as u32) << 8 | reason as u32);
    // SAFETY: `forget` returns its argument.
    unsafe { (core::mem::transmute::<u8, Verdict>((both >> 8) as u8), core::mem::transmute::<u8, Reason>(both as u8)) }
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn forget(value: u32) -> u32 {
    // Through memory, so that the compiler does not see through it either.
    let mut kept = 0;
    // SAFETY: a variable of this function.
    unsafe {
        core::ptr::write_volatile(&raw mut kept, value);
        core::ptr::read_volatile(&raw const kept)
    }
}

#[inline(always)]
fn apply(verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Deferred | Verdict::Redirected => {
            // Before 5.18 a program cannot name the error, and EPERM also makes an MTA try again later.
            if HAS_SET_RETVAL.load() != 0 {
                // SAFETY: plain helper call.
                unsafe { bpf_set_retval(-ECONNREFUSED) };
            }
            STOP
        }
        Verdict::Refused => STOP,
        Verdict::Allowed | Verdict::Exempt | Verdict::WouldDefer | Verdict::WouldRedirect | Verdict::WouldRefuse => {
            PASS
        }
    }
}

//! What a connection meets: port, identity, route, rule, windows, verdict.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_ktime_get_boot_ns, bpf_set_retval},
    programs::SockAddrContext,
};
use smtp_common::{
    connection::{Address, Attempt, Port},
    counter::Verdict,
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

    count(task.account, port, attempt.route, verdict);
    let outcome = Outcome { destination, port, route: attempt.route, verdict, reason: decision.reason, now };
    event(policy, &task, &outcome);
    aya_log_ebpf::debug!(
        ctx,
        "uid {} account {}:{} port {} verdict {} reason {}",
        task.uid,
        task.account.kind,
        task.account.id,
        port,
        verdict as u8,
        decision.reason as u8
    );
    apply(verdict)
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

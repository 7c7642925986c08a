//! What a connection meets: port, identity, route, rule, windows, verdict.

use aya_ebpf::{
    bindings::bpf_sock_addr,
    helpers::{bpf_ktime_get_boot_ns, bpf_set_retval},
    programs::SockAddrContext,
};
use smtp_common::{
    connection::{Address, Attempt, Port},
    counter::{Reason, Verdict},
    event::flag,
    rule::GENERATIONS,
};

use crate::{
    emit::{Outcome, count, event},
    follow,
    identify::{current, identify},
    maps::{ACTIVE, HAS_SET_RETVAL, POLICY, PORTS},
    redirect,
    route::route,
    surroundings::{around, excepted},
    units::{Who, decide_attempt, judge_unread},
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
    v6: bool,
    destination: impl FnOnce(&bpf_sock_addr) -> Address,
) -> i32 {
    let port = u16::from_be(sock_addr.user_port as u16);
    let Some(&generation) = ACTIVE.get(0) else { return PASS };
    let Some(ports) = PORTS.get(generation) else { return PASS };
    // Not by protocol: MPTCP shows 262 or 6. By type: resolvers connect() UDP sockets to sort addresses.
    if !ports.contains(port) || sock_addr.type_ != SOCK_STREAM {
        return PASS;
    }
    smtp(ctx, generation, destination(sock_addr), port, v6)
}

#[inline(always)]
fn smtp(ctx: &SockAddrContext, generation: u32, destination: Address, port: Port, v6: bool) -> i32 {
    let generation = generation & (GENERATIONS - 1);
    let Some(policy) = POLICY.get(generation) else { return PASS };
    // SAFETY: plain helper call.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut task = identify(ctx);
    let cgroup = around(policy, generation);
    let attempt = Attempt {
        account: task.account,
        route: route(&destination),
        host_uid: task.host_uid,
        cgroup,
        exception: excepted(policy, task.account, cgroup, port, &destination),
    };
    let answer = decide_attempt(&attempt, now);
    let (verdict, reason) = (answer.verdict_of(), answer.reason_of());

    let mut outcome = Outcome { destination, port, route: attempt.route, verdict, reason, now };
    if policy.redirects != 0 {
        redirect::forget(ctx);
    }
    if verdict as u8 == Verdict::Redirected as u8 {
        let told = redirect::redirect(ctx, &task, &destination, port, v6);
        task.flags |= told;
        if told & flag::REDIRECTED == 0 {
            outcome.verdict = Verdict::Deferred;
        }
    }
    if policy.sessions != 0 && is_made(outcome.verdict) && !follow::begin(ctx, &task, &attempt, &outcome) {
        // A user can use up the memory that sockets of his have for such things.
        let answer = judge_unread(Who::of_attempt(&attempt), Reason::Unfollowed, now);
        if answer.is_stop() {
            outcome.verdict = answer.verdict_of();
            outcome.reason = Reason::Unfollowed;
        }
    }
    let (verdict, reason) = (outcome.verdict, outcome.reason);
    count(task.account, port, attempt.route, verdict);
    event(policy, &task, &outcome);
    trace(
        current::uid(),
        task.account.id,
        (task.account.kind as u64) << 32 | port as u64,
        (verdict as u32) << 8 | reason as u32,
    );
    apply(verdict)
}

/// Whether there will be a connection.
#[inline(always)]
fn is_made(verdict: Verdict) -> bool {
    !matches!(verdict, Verdict::Deferred | Verdict::Refused)
}

/// The probe's own log. A global function, so that what it needs of the stack is not there when others need theirs.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn trace(uid: u32, id: u64, kind_port: u64, decision: u32) -> u32 {
    aya_log_ebpf::debug!(
        // The macro takes a context and has no use for it.
        &SockAddrContext::new(core::ptr::null_mut()),
        "uid {} account {}:{} port {} verdict {} reason {}",
        uid,
        (kind_port >> 32) as u32,
        id,
        kind_port as u16,
        (decision >> 8) as u8,
        decision as u8
    );
    0
}

/// Its argument, which the verifier then takes for any number and the compiler does not see through.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn forget(value: u32) -> u32 {
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
        Verdict::Deferred => {
            // Before 5.18 a program cannot name the error, and EPERM also makes an MTA try again later.
            if HAS_SET_RETVAL.load() != 0 {
                // SAFETY: plain helper call.
                unsafe { bpf_set_retval(-ECONNREFUSED) };
            }
            STOP
        }
        Verdict::Refused => STOP,
        Verdict::Allowed
        | Verdict::Exempt
        | Verdict::Redirected
        | Verdict::WouldDefer
        | Verdict::WouldRedirect
        | Verdict::WouldRefuse => PASS,
    }
}

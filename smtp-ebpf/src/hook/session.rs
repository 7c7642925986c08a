//! A TCP socket changes its state.
//!
//! `void tcp_set_state(struct sock *sk, int state)`, and the call of `tcp_call_bpf` in `tcp_connect`, which asks for it.

use aya_ebpf::{helpers::bpf_ktime_get_boot_ns, macros::sock_ops, programs::SockOpsContext};
use smtp_common::{
    session::{Session, stage},
    tally::{SessionOutcome, family},
};

use crate::{
    follow,
    identify::read,
    maps::{SOCK_ERR, SOCK_OPS_SK},
    policy::{ports, remote_port},
    units::tally,
};

/// Nothing else is right for a program that shares the hook with others: 0 would take their answer away
/// (`tcp_call_bpf`, include/net/tcp.h).
const DONE: u32 = 1;

/// `enum` of the operations, include/uapi/linux/bpf.h.
const TCP_CONNECT_CB: u32 = 3;
const ACTIVE_ESTABLISHED_CB: u32 = 4;
const STATE_CB: u32 = 10;
const STATE_CB_FLAG: i32 = 1 << 2;

/// States of include/net/tcp_states.h.
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;
const TCP_CLOSE: u32 = 7;

const ECONNABORTED: u32 = 103;
const ECONNRESET: u32 = 104;
const EPIPE: u32 = 32;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;

#[sock_ops]
pub(crate) fn session(ctx: SockOpsContext) -> u32 {
    let op = ctx.op();
    if op != TCP_CONNECT_CB && op != ACTIVE_ESTABLISHED_CB && op != STATE_CB {
        return DONE;
    }
    let port = remote_port(ctx.remote_port());
    let Some(ports) = ports() else { return DONE };
    // A port that was taken out of the policy has open sessions still, which have asked to be followed to their end.
    if op != STATE_CB && !ports.contains(port) {
        return DONE;
    }
    // SAFETY: a plain read of the context.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    let Some(beside) = follow::of_socket(socket) else { return DONE };
    let session = follow::session(beside);
    if op == TCP_CONNECT_CB {
        let _ = ctx.set_cb_flags(ctx.cb_flags() as i32 | STATE_CB_FLAG);
    } else if op == ACTIVE_ESTABLISHED_CB {
        session.stage |= stage::ESTABLISHED;
        tally(session.account, session.route, family::SESSIONS, SessionOutcome::Established as u8, 1);
    } else if ctx.arg(1) == TCP_CLOSE {
        // SAFETY: plain read of the context, plain helper call.
        let now = unsafe {
            session.retransmits = (*ctx.ops).total_retrans;
            bpf_ktime_get_boot_ns()
        };
        let outcome = outcome(session, ctx.arg(0), error(&ctx));
        follow::end(session, outcome, now);
    }
    DONE
}

/// `sk_err` of the socket: set before its state is (`tcp_reset`, `tcp_write_err`, `tcp_abort`).
#[inline(always)]
fn error(ctx: &SockOpsContext) -> u32 {
    let error = || read::<u32>(read::<u64>(ctx.ops as u64, SOCK_OPS_SK.load())?, SOCK_ERR.load());
    error().unwrap_or(0)
}

#[inline(always)]
fn outcome(session: &Session, from: u32, error: u32) -> SessionOutcome {
    if session.stopped != 0 {
        return SessionOutcome::Ended;
    }
    match (from, error) {
        (_, ETIMEDOUT) => SessionOutcome::TimedOut,
        (TCP_SYN_SENT, ECONNREFUSED) => SessionOutcome::Refused,
        (TCP_SYN_SENT, 0 | ECONNABORTED) => SessionOutcome::Aborted,
        (TCP_SYN_SENT, _) => SessionOutcome::Unreachable,
        (_, ECONNRESET | EPIPE | ECONNABORTED) => SessionOutcome::Reset,
        // Straight from an open connection: the client closed it with something unread, which resets it.
        (TCP_ESTABLISHED, _) => SessionOutcome::Reset,
        _ => SessionOutcome::Closed,
    }
}

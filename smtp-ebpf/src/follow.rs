//! A session's life beside its socket: made at connect() or met in the middle, ended once, told of once.

use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::{
    bindings::{__sk_buff, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock, bpf_spin_lock},
    helpers::{
        bpf_ktime_get_boot_ns, bpf_sk_fullsock, bpf_spin_lock, bpf_spin_unlock, bpf_tcp_sock,
        generated::{bpf_get_socket_cookie, bpf_get_socket_uid, bpf_sk_storage_delete, bpf_sk_storage_get},
    },
    programs::{SkBuffContext, SockAddrContext},
};
use smtp_common::{
    connection::{Account, Address, Attempt, Port, Route},
    counter::Loss,
    event::flag,
    session::{NO_UID, Session, seen, stage, what},
    tally::{MessageOutcome, SessionOutcome, Sum, Unit, Unseen, family},
};

use crate::{
    emit::{Class, Outcome, lost, within_budget},
    identify::{Task, current, foreign_account, is_foreign, owner_now, read},
    maps::{NET_COOKIE, SESSION_EVENTS, SESSIONS, SKB_SK, SOCK_NET},
    packet,
    policy::in_force,
    route::route,
    units::{Answer, Who, message_outcome, tally},
};

/// [`Session`] with the lock typed as the kernel wants to see it in BTF.
#[repr(C)]
pub(crate) struct SessionValue {
    lock: bpf_spin_lock,
    _pad: u32,
    pub(crate) session: Session,
}

/// How often a processor asks for a session that another one reads before it lets the packet go: a reply is read within
/// a microsecond or two, and a packet that is let go comes again.
const PATIENCE: u32 = 256;

/// What lies beside a socket. A pointer and no reference: the functions that read a packet fetch it for themselves, and
/// what they change must be seen by their caller.
pub(crate) type Beside = NonNull<SessionValue>;

#[inline(always)]
fn storage(socket: *mut c_void, flags: u64) -> Option<Beside> {
    // SAFETY: the verifier has seen that the socket is one.
    let value =
        unsafe { bpf_sk_storage_get((&raw const SESSIONS).cast_mut().cast(), socket, core::ptr::null_mut(), flags) };
    NonNull::new(value.cast())
}

/// The session, for as long as nothing is called that fetches it for itself.
#[inline(always)]
pub(crate) fn session(beside: Beside) -> &'static mut Session {
    // SAFETY: memory that lives until the socket's end or a grace period later. Two programs may hold it at once; each
    // writes only what is its own (`Dialogue`).
    unsafe { &mut (*beside.as_ptr()).session }
}

/// The socket a packet belongs to.
#[inline(always)]
fn socket_of(skb: *mut __sk_buff) -> Option<NonNull<bpf_sock>> {
    // SAFETY: a plain read of the context, and a helper that takes what was read once it is not null.
    unsafe {
        let socket = (*skb).__bindgen_anon_2.sk;
        if socket.is_null() { None } else { NonNull::new(bpf_sk_fullsock(socket)) }
    }
}

/// The session of the socket a packet belongs to.
#[inline(always)]
pub(crate) fn of_packet(skb: *mut __sk_buff, flags: u64) -> Option<Beside> {
    storage(socket_of(skb)?.as_ptr().cast(), flags)
}

/// The session of a socket that a sock_ops program was called for.
#[inline(always)]
pub(crate) fn of_socket(socket: *mut bpf_sock) -> Option<Beside> {
    if socket.is_null() { None } else { storage(socket.cast(), 0) }
}

/// A connection is about to be made. False where the kernel has no memory to follow it with.
#[inline(always)]
pub(crate) fn begin(ctx: &SockAddrContext, task: &Task, attempt: &Attempt, outcome: &Outcome) -> bool {
    // SAFETY: a plain read of the context. The socket is never null here (`__cgroup_bpf_run_filter_sock_addr`).
    let socket = unsafe { (*ctx.sock_addr).__bindgen_anon_1.sk };
    if socket.is_null() {
        return false;
    }
    // A socket may be connected again after a failure: as another session.
    // SAFETY: as above.
    unsafe { bpf_sk_storage_delete((&raw const SESSIONS).cast_mut().cast(), socket.cast()) };
    let Some(beside) = storage(socket.cast(), BPF_SK_STORAGE_GET_F_CREATE as u64) else {
        tally(task.account, outcome.route as u8, family::UNSEEN, Unseen::NoMemory as u8, 1);
        return false;
    };
    let session = session(beside);
    session.since = outcome.now;
    session.account = task.account;
    session.netns = task.netns;
    session.cgroup = current::cgroup();
    session.matched = attempt.cgroup;
    session.exception = attempt.exception as u32;
    session.destination = outcome.destination;
    session.uid = current::uid();
    session.gid = current::gid();
    session.tgid = current::tgid();
    session.host_uid = match task.host_uid {
        Some(uid) => uid,
        None => NO_UID,
    };
    session.port = outcome.port;
    session.flags = task.flags;
    // What is redirected is a submission to the local MTA.
    let redirected = task.flags & flag::REDIRECTED != 0;
    session.route = if redirected { Route::Local as u8 } else { outcome.route as u8 };
    // SAFETY: the helper fills the field or leaves it empty.
    unsafe {
        aya_ebpf::helpers::generated::bpf_get_current_comm(
            session.comm.as_mut_ptr().cast(),
            size_of_val(&session.comm) as u32,
        );
    }
    true
}

/// The session of a packet, which joins late where none was begun.
#[inline(always)]
pub(crate) fn known(ctx: &SkBuffContext, port: Port, peer: Peer) -> Option<Beside> {
    match of_packet(ctx.skb.skb, 0) {
        Some(beside) if session(beside).since != 0 => Some(beside),
        _ if join(ctx.skb.skb, port as u32, peer as u32) != 0 => of_packet(ctx.skb.skb, 0),
        _ => None,
    }
}

/// Where a packet has the server's address: which of the two, and for which protocol.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Destination4 = 4,
    Destination6 = 6,
    Source4 = 8 + 4,
    Source6 = 8 + 6,
}

/// A global function: few packets need it, and what it looks up would lie on the stack with all.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn join(skb: *mut __sk_buff, port: u32, peer: u32) -> u32 {
    let ctx = SkBuffContext::new(skb);
    let is_v6 = peer & 7 == 6;
    let peer = if peer < 8 { packet::destination(&ctx, is_v6) } else { packet::source(&ctx, is_v6) };
    join_late(&ctx, port as Port, peer, boot_now()).is_some() as u32
}

/// Packets of a session were not seen: it is understood again from its next 354 on.
#[inline(always)]
pub(crate) fn miss(session: &mut Session) {
    session.dialogue.join_late();
    if session.stage & stage::JOINED_LATE == 0 {
        session.stage |= stage::JOINED_LATE;
        tally(session.account, session.route, family::UNSEEN, Unseen::JoinedLate as u8, 1);
    }
}

/// The sequence number the socket of a packet waits for.
#[inline(always)]
pub(crate) fn awaited(ctx: &SkBuffContext) -> Option<u32> {
    // SAFETY: plain reads of the context and of what helpers return, once it is not null.
    unsafe {
        let socket = (*ctx.skb.skb).__bindgen_anon_2.sk;
        if socket.is_null() {
            return None;
        }
        let tcp = bpf_tcp_sock(socket);
        if tcp.is_null() { None } else { Some((*tcp).rcv_nxt) }
    }
}

/// A connection that was there before the gate: charged to the user its socket belongs to.
#[inline(always)]
fn join_late(ctx: &SkBuffContext, port: Port, peer: Option<Address>, now: u64) -> Option<Beside> {
    let socket = socket_of(ctx.skb.skb)?.as_ptr();
    // SAFETY: plain reads of the socket. One that listens on one of the ports has the client at its other end.
    let (local_port, state) = unsafe { ((*socket).src_port, (*socket).state) };
    const TCP_ESTABLISHED: u32 = 1;
    let (_, policy) = in_force()?;
    if policy.sessions == 0 || state != TCP_ESTABLISHED || local_port < 1024 {
        return None;
    }
    let Some(beside) = of_packet(ctx.skb.skb, BPF_SK_STORAGE_GET_F_CREATE as u64) else {
        tally(Account::OTHER, Route::Remote as u8, family::UNSEEN, Unseen::NoMemory as u8, 1);
        return None;
    };
    let session = session(beside);
    if session.since != 0 {
        return Some(beside);
    }
    // SAFETY: plain helper call.
    let uid = unsafe { bpf_get_socket_uid(ctx.skb.skb) };
    let (net, netns) = netns_of(ctx).unwrap_or((0, 0));
    session.account = if is_foreign(netns) {
        session.flags = flag::FOREIGN_NETNS;
        foreign_account(net, netns)
    } else {
        Account::user(owner_now(uid))
    };
    session.netns = netns;
    session.uid = uid;
    session.gid = NO_UID;
    session.host_uid = NO_UID;
    session.port = port;
    session.stage = stage::ESTABLISHED;
    if let Some(peer) = peer {
        session.destination = peer;
        session.route = route(&peer) as u8;
    }
    session.since = now;
    miss(session);
    Some(beside)
}

/// The network namespace of a packet's socket, and its cookie: `bpf_get_netns_cookie` is not to be had here before Linux
/// 6.15.
#[inline(always)]
fn netns_of(ctx: &SkBuffContext) -> Option<(u64, u64)> {
    let socket = read::<u64>(ctx.skb.skb as u64, SKB_SK.load())?;
    let net = read::<u64>(socket, SOCK_NET.load())?;
    Some((net, read::<u64>(net, NET_COOKIE.load())?))
}

/// Makes this processor the one that reads what has arrived, unless another one does and goes on doing so.
#[inline(always)]
pub(crate) fn claim(beside: Beside) -> bool {
    let value = beside.as_ptr();
    let mut n = 0;
    while n < PATIENCE {
        // SAFETY: lock and field are in the same map value; the verifier sees to it that the lock is given back.
        let taken = unsafe {
            bpf_spin_lock(&raw mut (*value).lock);
            let taken = (*value).session.reading;
            (*value).session.reading = 1;
            bpf_spin_unlock(&raw mut (*value).lock);
            taken
        };
        if taken == 0 {
            return true;
        }
        n += 1;
    }
    false
}

#[inline(always)]
pub(crate) fn release(beside: Beside) {
    let value = beside.as_ptr();
    // SAFETY: as above. Under the lock, so that what was written before is seen by whoever claims it next.
    unsafe {
        bpf_spin_lock(&raw mut (*value).lock);
        (*value).session.reading = 0;
        bpf_spin_unlock(&raw mut (*value).lock);
    }
}

/// A session is over: counted once, and told of.
#[inline(always)]
pub(crate) fn end(session: &mut Session, outcome: SessionOutcome, now: u64) {
    if session.stage & stage::OVER != 0 {
        return;
    }
    session.stage |= stage::OVER;
    let (account, route) = (session.account, session.route);
    tally(account, route, family::SESSIONS, outcome as u8, 1);
    let dialogue = &mut session.dialogue;
    let last = dialogue.server.end(&dialogue.shared);
    // What the gate has stopped is not unknown: it was not let go ahead.
    let stopped = session.stopped != 0 && last == Some(MessageOutcome::Unknown);
    if let Some(last) = last
        && !stopped
    {
        session.messages[last as usize] += 1;
        message_outcome(Who::of(session), last, 1, now);
    }
    let sums = [
        (Sum::BytesSent, session.bytes_sent),
        (Sum::BytesReceived, session.bytes_received),
        (Sum::Retransmits, session.retransmits as u64),
        (Sum::Micros, (now - session.since) / 1000),
        (Sum::Exchanges, session.exchanges as u64),
    ];
    for (sum, n) in sums {
        if n != 0 {
            tally(account, route, family::SUMS, sum as u8, n);
        }
    }
    if session.dialogue.is_encrypted() {
        tally(account, route, family::UNSEEN, Unseen::Encrypted as u8, 1);
    } else if session.dialogue.shared.is_unclear() && session.stage & stage::JOINED_LATE == 0 {
        tally(account, route, family::UNSEEN, Unseen::Unclear as u8, 1);
    }
    let Some((_, policy)) = in_force() else { return };
    if !within_budget(account, Class::Ended, now, policy.event_budget) {
        return lost(Loss::SessionsRateLimited);
    }
    tell(session, now, Told { what: what::END, verdict: 0, outcome: outcome as u8, cookie: 0 });
}

/// Ends the session of a packet: one that joined late, whose socket does not tell. A global function, as [`join`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn end_late(skb: *mut __sk_buff, reset: u32) -> u32 {
    if let Some(beside) = of_packet(skb, 0) {
        let outcome = if reset != 0 { SessionOutcome::Reset } else { SessionOutcome::Closed };
        end(session(beside), outcome, boot_now());
    }
    0
}

/// Notes what was answered: a session with a unit that may not pass goes no further.
#[inline(always)]
pub(crate) fn note(session: &mut Session, unit: Unit, answer: Answer) {
    if !answer.is_stop() {
        return;
    }
    session.reason = answer.reason();
    session.unit = unit as u8;
    session.untold = answer.verdict() as u16;
    if answer.is_refused() {
        session.stopped = 1;
    }
}

/// Tells the agent of what was noted, so that it ends the connection.
#[inline(always)]
pub(crate) fn tell_stop(ctx: &SkBuffContext, session: &Session) {
    if session.untold != 0 {
        tell_untold(ctx.skb.skb);
    }
}

/// A global function, as [`join`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tell_untold(skb: *mut __sk_buff) -> u32 {
    if let Some(beside) = of_packet(skb, 0) {
        let session = session(beside);
        let verdict = session.untold as u8;
        session.untold = 0;
        tell_verdict(&SkBuffContext::new(skb), session, verdict);
    }
    0
}

#[inline(always)]
fn tell_verdict(ctx: &SkBuffContext, session: &mut Session, verdict: u8) {
    let now = boot_now();
    if session.stopped == 0 {
        let Some((_, policy)) = in_force() else { return };
        if !within_budget(session.account, Class::Refused, now, policy.event_budget) {
            return lost(Loss::SessionsRateLimited);
        }
    }
    note_source(ctx, session);
    // SAFETY: plain helper call.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.skb.skb.cast()) };
    tell(session, now, Told { what: what::STOP, verdict, outcome: 0, cookie });
}

/// Address and port of the client's own end, from its socket.
#[inline(always)]
fn note_source(ctx: &SkBuffContext, session: &mut Session) {
    const AF_INET: u32 = 2;
    let Some(socket) = socket_of(ctx.skb.skb) else { return };
    let socket = socket.as_ptr();
    // SAFETY: plain reads of the socket.
    unsafe {
        session.source_port = (*socket).src_port;
        session.source = if (*socket).family == AF_INET {
            Address::v4((*socket).src_ip4)
        } else {
            let word = |i: usize| core::ptr::read_volatile(&raw const (*socket).src_ip6[i]);
            Address::v6([word(0), word(1), word(2), word(3)])
        };
    }
}

#[inline(always)]
pub(crate) fn boot_now() -> u64 {
    // SAFETY: plain helper call.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// What an event says besides the session.
struct Told {
    what: u8,
    outcome: u8,
    verdict: u8,
    cookie: u64,
}

#[inline(always)]
fn tell(session: &Session, now: u64, told: Told) {
    let Some(mut entry) = SESSION_EVENTS.reserve(0) else { return lost(Loss::SessionRingFull) };
    let shared = &session.dialogue.shared;
    let mut marks = session.dialogue.client.marks << seen::MARKS;
    if session.dialogue.is_encrypted() {
        marks |= seen::ENCRYPTED;
    }
    if shared.is_unclear() {
        marks |= seen::UNCLEAR;
    }
    if session.stage & stage::JOINED_LATE != 0 {
        marks |= seen::JOINED_LATE;
    }
    // SAFETY: the record is as long as the event, and all of it is written.
    unsafe {
        let event = entry.as_mut_ptr();
        (*event).time = now;
        (*event).since = session.since;
        (*event).account = session.account;
        (*event).netns = session.netns;
        (*event).cgroup = session.cgroup;
        (*event).cookie = told.cookie;
        (*event).destination = session.destination;
        (*event).source = session.source;
        (*event).bytes_sent = session.bytes_sent;
        (*event).bytes_received = session.bytes_received;
        (*event).uid = session.uid;
        (*event).gid = session.gid;
        (*event).tgid = session.tgid;
        (*event).exchanges = session.exchanges;
        (*event).retransmits = session.retransmits;
        (*event).messages = session.messages;
        (*event).recipients = session.recipients;
        (*event).port = session.port;
        (*event).source_port = session.source_port as u16;
        (*event).flags = session.flags;
        (*event).route = session.route;
        (*event).what = told.what;
        (*event).outcome = told.outcome;
        (*event).reason = session.reason;
        (*event).unit = session.unit;
        (*event).verdict = told.verdict;
        (*event).seen = marks;
        (*event)._pad = 0;
        (*event).comm = session.comm;
    }
    entry.submit(0);
}

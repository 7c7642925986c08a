//! The packets of a session: read once each, in order, and let through or not.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_load_bytes, programs::SkBuffContext};
use smtp_common::{
    automaton::{CHUNK, Chunk, STRETCH},
    connection::Port,
    counter::Reason,
    dialogue::{STOPPED, mark},
    session::{Part, Session, part, stage},
    tally::{MessageOutcome, RecipientOutcome, Unit, family},
};

use crate::{
    follow::{self, Beside, Peer},
    packet::{self, Segment, tcp_flag},
    policy::{ports, remote_port},
    surroundings::matched_of_packet,
    units::{Who, charge, judge_unread, message_outcome, tally},
};

pub(crate) const PASS: i32 = 1;
pub(crate) const DROP: i32 = 0;

/// Steps a packet may take: each reads a chunk, or up to what must be looked at. Enough for the largest packet there can
/// be without BIG TCP (64 kB), with 256 commands in it that are more than a line.
const MAX_STEPS: u32 = 1024;

/// What most packets of a host see of all this.
#[inline(always)]
pub(crate) fn smtp_port(ctx: &SkBuffContext) -> Option<Port> {
    // SAFETY: a plain read of the context.
    let port = remote_port(unsafe { (*ctx.skb.skb).remote_port });
    if ports()?.contains(port) { Some(port) } else { None }
}

/// What is to be done with a packet before it is read.
enum Place {
    Verdict(i32),
    /// To be read from this offset of its payload on.
    New(u32),
}

/// A packet that leaves.
#[inline(always)]
pub(crate) fn sent(ctx: &SkBuffContext, port: Port) -> i32 {
    let Some(segment) = packet::segment(ctx) else { return PASS };
    let Some(beside) = follow::known(ctx, port, if segment.is_v6 { Peer::Destination6 } else { Peer::Destination4 })
    else {
        return PASS;
    };
    let session = follow::session(beside);
    if is_done(session) {
        return PASS;
    }
    let client = &session.dialogue.client;
    let before = (client.recipients, client.chunked, client.marks);
    if segment.flags & tcp_flag::URG != 0 && !session.dialogue.shared.is_encrypted() {
        session.dialogue.urgent();
    }
    let verdict = match place(ctx, session, &segment, Way::Out) {
        Place::Verdict(verdict) => verdict,
        Place::New(from) => {
            read_all(ctx, &segment, from, read_sent, |session| session.dialogue.flood(), beside);
            PASS
        }
    };
    // Anew: it was changed through another pointer, which a reference from before must not see.
    let session = follow::session(beside);
    let verdict = if verdict == PASS { judge(ctx, session, before) } else { verdict };
    follow::tell_stop(ctx, session);
    if session.stage & stage::JOINED_LATE != 0 {
        follow_to_the_end(ctx, session, &segment, stage::CLIENT_DONE, stage::SERVER_DONE);
    }
    verdict
}

/// Whether a session was counted to its end. One that was stopped stays stopped even then: what was held back may still
/// try to leave.
#[inline(always)]
fn is_done(session: &Session) -> bool {
    session.stage & stage::OVER != 0 && session.stopped == 0
}

/// Hands a segment to one of the readers below, step by step.
#[inline(always)]
fn read_all(
    ctx: &SkBuffContext,
    segment: &Segment,
    from: u32,
    read: extern "C" fn(*mut __sk_buff, u32, u32) -> u32,
    too_much: impl FnOnce(&mut Session),
    beside: Beside,
) {
    let end = segment.payload + segment.len;
    let mut at = segment.payload + from;
    let mut steps = 0;
    while steps < MAX_STEPS && at < end {
        at = read(ctx.skb.skb, at, end);
        steps += 1;
    }
    if at < end {
        too_much(follow::session(beside));
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// Finds a segment's place in its stream, and notes what is new in it.
#[inline(always)]
fn place(ctx: &SkBuffContext, session: &mut Session, segment: &Segment, way: Way) -> Place {
    let syn = segment.flags & tcp_flag::SYN != 0;
    // The SYN takes a number of its own; data may follow at once (TCP Fast Open).
    let seq = if syn { segment.seq.wrapping_add(1) } else { segment.seq };
    let begun = if way == Way::Out { stage::SENDING } else { stage::RECEIVING };
    let mut next = if way == Way::Out { session.next_sent } else { session.next_received };
    if session.stage & begun == 0 {
        session.stage |= begun;
        next = seq;
        if !syn {
            // Its beginning was not seen: nobody followed sessions then.
            follow::miss(session);
        }
    }
    let found = part(seq, segment.len, next);
    let end = seq.wrapping_add(segment.len);
    let from = match found {
        _ if segment.len == 0 => return keep(session, way, next, PASS),
        _ if session.stopped != 0 => return keep(session, way, next, DROP),
        Part::New(from) => from,
        Part::Old => {
            session.retransmits += (way == Way::Out) as u32;
            return keep(session, way, next, PASS);
        }
        // TCP sends in order: what comes before has left while nobody followed sessions. What arrives ahead is lost on the
        // way or overtaken, and comes again in its place; unless it is what TCP itself waits for now.
        Part::Ahead if way == Way::Out || follow::awaited(ctx) == Some(seq) => {
            follow::miss(session);
            0
        }
        Part::Ahead => return keep(session, way, next, DROP),
    };
    let new = (segment.len - from) as u64;
    if way == Way::Out {
        session.bytes_sent += new;
        session.exchanges += session.server_spoke;
        session.server_spoke = 0;
    } else {
        session.bytes_received += new;
        session.server_spoke = 1;
    }
    let unread = keep(session, way, end, PASS);
    if session.dialogue.shared.is_encrypted() { unread } else { Place::New(from) }
}

/// Notes the number that comes next.
#[inline(always)]
fn keep(session: &mut Session, way: Way, next: u32, verdict: i32) -> Place {
    if way == Way::Out {
        session.next_sent = next;
    } else {
        session.next_received = next;
    }
    Place::Verdict(verdict)
}

/// A session that no rule for a cgroup was for may meet one that came later.
#[inline(always)]
fn find_cgroup(ctx: &SkBuffContext, session: &mut Session) {
    if session.matched == 0 {
        session.matched = matched_of_packet(ctx.skb.skb);
    }
}

/// What a packet names or begins is charged before it leaves. If anything in it may not pass, none of it does.
#[inline(always)]
fn judge(ctx: &SkBuffContext, session: &mut Session, before: (u32, u32, u32)) -> i32 {
    let client = &session.dialogue.client;
    let recipients = client.recipients.wrapping_sub(before.0);
    let messages = client.chunked.wrapping_sub(before.1);
    let evasive = client.marks & !before.2 & mark::EVASIVE;
    if recipients | messages | evasive == 0 {
        return PASS;
    }
    let now = follow::boot_now();
    find_cgroup(ctx, session);
    let who = Who::of(session);
    if evasive != 0 {
        follow::note(session, Unit::Message, judge_unread(who, Reason::Evasive, now));
    }
    if recipients != 0 && session.stopped == 0 {
        follow::note(session, Unit::Recipient, charge(who, Unit::Recipient, recipients, now));
    }
    if messages != 0 && session.stopped == 0 {
        follow::note(session, Unit::Message, charge(who, Unit::Message, messages, now));
    }
    if session.stopped != 0 { DROP } else { PASS }
}

/// Reads a chunk of what is sent. Returns the offset it came to.
///
/// A global function, which the verifier proves once (`btf_check_subprog_call`): it has a loop over the bytes of a chunk
/// in it, and is itself called in a loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn read_sent(skb: *mut __sk_buff, at: u32, end: u32) -> u32 {
    let Some(beside) = follow::of_packet(skb, 0) else { return end };
    let dialogue = &mut follow::session(beside).dialogue;
    let ahead = end.wrapping_sub(at);
    let skipped = dialogue.client.skip(ahead);
    if skipped != 0 {
        return at.wrapping_add(skipped);
    }
    if !dialogue.client.prepare(&dialogue.shared) {
        return end;
    }
    let scanned = scan_sent(skb, at, ahead);
    let dialogue = &mut follow::session(beside).dialogue;
    dialogue.client.conclude(&dialogue.shared, scanned);
    at.wrapping_add(scanned & !STOPPED)
}

/// The loop of [`read_sent`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn scan_sent(skb: *mut __sk_buff, at: u32, ahead: u32) -> u32 {
    let Some(beside) = follow::of_packet(skb, 0) else { return ahead };
    let session = follow::session(beside);
    let client = &mut session.dialogue.client;
    if ahead >= STRETCH as u32 && client.may_glide_far() {
        // SAFETY: room for as many.
        let result = unsafe { bpf_skb_load_bytes(skb.cast(), at, session.stretch.as_mut_ptr().cast(), STRETCH as u32) };
        if result == 0 && client.may_glide(&session.stretch) {
            let last = session.stretch[STRETCH / 8 - 1];
            client.glide([(last >> 48) as u8, (last >> 56) as u8]);
            return STRETCH as u32;
        }
        client.stay_near();
    }
    let mut chunk = Chunk::EMPTY;
    let len = load(skb, at, ahead, &mut chunk);
    if len == 0 {
        return ahead;
    }
    let dialogue = &mut session.dialogue;
    if len > 1 && dialogue.client.may_glide(&chunk.words) {
        // From the packet and not from the chunk: the verifier of 6.1 and before reads the stack at known places only.
        let mut last = [0u8; 2];
        let at = at.wrapping_add(len).wrapping_sub(2);
        // SAFETY: room for two bytes.
        if unsafe { bpf_skb_load_bytes(skb.cast(), at, last.as_mut_ptr().cast(), 2) } == 0 {
            dialogue.client.glide(last);
            return len;
        }
    }
    dialogue.client.scan(&dialogue.shared, &chunk, len)
}

/// Fetches the next bytes, at most a chunk. Returns how many, 0 where there are none.
#[inline(always)]
fn load(skb: *mut __sk_buff, at: u32, ahead: u32, chunk: &mut Chunk) -> u32 {
    // In a way the optimiser cannot undo, so that the verifier sees it too: 1 to `CHUNK`.
    let len = if ahead > CHUNK as u32 { CHUNK as u32 } else { ahead };
    let len = (crate::gate::forget(len.wrapping_sub(1)) & (CHUNK as u32 - 1)) + 1;
    // SAFETY: the chunk has room for so many.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), at, chunk.words.as_mut_ptr().cast(), len) };
    if result == 0 { len } else { 0 }
}

/// A packet that has arrived.
#[inline(always)]
pub(crate) fn received(ctx: &SkBuffContext, port: Port) -> i32 {
    let Some(segment) = packet::segment(ctx) else { return PASS };
    let Some(beside) = follow::known(ctx, port, if segment.is_v6 { Peer::Source6 } else { Peer::Source4 }) else {
        return PASS;
    };
    if is_done(follow::session(beside)) {
        return PASS;
    }
    if !follow::claim(beside) {
        return DROP;
    }
    let session = follow::session(beside);
    // A reset ends the session, whatever its number is: TCP looks at that.
    let placed = match segment.flags & tcp_flag::RST {
        0 => place(ctx, session, &segment, Way::In),
        _ => Place::Verdict(PASS),
    };
    let verdict = match placed {
        Place::Verdict(verdict) => verdict,
        Place::New(from) => {
            let before = Counts::of(session);
            read_all(ctx, &segment, from, read_received, |session| session.dialogue.shared.confuse(), beside);
            // Anew, as in `sent`.
            let session = follow::session(beside);
            before.count_news(ctx, session);
            if session.stopped != 0 { DROP } else { PASS }
        }
    };
    follow::release(beside);
    let session = follow::session(beside);
    follow::tell_stop(ctx, session);
    if session.stage & stage::JOINED_LATE != 0 {
        follow_to_the_end(ctx, session, &segment, stage::SERVER_DONE, stage::CLIENT_DONE);
    }
    verdict
}

/// What a session had counted before a packet.
struct Counts {
    go_aheads: u32,
    messages: [u32; 4],
    recipients: [u32; 3],
}

impl Counts {
    #[inline(always)]
    fn of(session: &Session) -> Self {
        Self { go_aheads: session.go_aheads, messages: session.messages, recipients: session.recipients }
    }

    /// Counts what has come since, and charges what the server lets the client go ahead with.
    #[inline(always)]
    fn count_news(&self, ctx: &SkBuffContext, session: &mut Session) {
        let now = follow::boot_now();
        find_cgroup(ctx, session);
        let who = Who::of(session);
        for outcome in RecipientOutcome::ALL {
            let n = session.recipients[outcome as usize].wrapping_sub(self.recipients[outcome as usize]);
            if n != 0 {
                tally(session.account, session.route, family::RECIPIENTS, outcome as u8, n as u64);
            }
        }
        for outcome in MessageOutcome::ALL {
            let n = session.messages[outcome as usize].wrapping_sub(self.messages[outcome as usize]);
            if n != 0 {
                message_outcome(who, outcome, n, now);
            }
        }
        let go_aheads = session.go_aheads.wrapping_sub(self.go_aheads);
        if go_aheads != 0 {
            follow::note(session, Unit::Message, charge(who, Unit::Message, go_aheads, now));
        }
    }
}

/// Reads a chunk of what has arrived, up to the end of a reply at most, and notes what that has brought about. Returns the
/// offset it came to. A global function, as [`read_sent`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn read_received(skb: *mut __sk_buff, at: u32, end: u32) -> u32 {
    let Some(beside) = follow::of_packet(skb, 0) else { return end };
    let dialogue = &mut follow::session(beside).dialogue;
    let mut first = 0u8;
    // SAFETY: room for one byte.
    if unsafe { bpf_skb_load_bytes(skb.cast(), at, (&raw mut first).cast(), 1) } != 0
        || !dialogue.server.prepare(&dialogue.shared, first)
    {
        return end;
    }
    let scanned = scan_received(skb, at, end.wrapping_sub(at));
    let session = follow::session(beside);
    let dialogue = &mut session.dialogue;
    let effect = dialogue.server.conclude(&dialogue.shared, scanned);
    if let Some(outcome) = effect.recipient {
        session.recipients[outcome as usize] += 1;
    }
    if let Some(outcome) = effect.message {
        session.messages[outcome as usize] += 1;
    }
    session.go_aheads += effect.go_ahead as u32;
    at.wrapping_add(scanned & !STOPPED)
}

/// The loop of [`read_received`].
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn scan_received(skb: *mut __sk_buff, at: u32, ahead: u32) -> u32 {
    let Some(beside) = follow::of_packet(skb, 0) else { return ahead };
    let mut chunk = Chunk::EMPTY;
    let len = load(skb, at, ahead, &mut chunk);
    if len == 0 {
        return ahead;
    }
    follow::session(beside).dialogue.server.scan(&chunk, len)
}

/// For a session that joined late, whose socket does not tell when it ends: both sides done, or a reset.
#[inline(always)]
fn follow_to_the_end(ctx: &SkBuffContext, session: &mut Session, segment: &Segment, this: u8, other: u8) {
    let reset = segment.flags & tcp_flag::RST != 0;
    if !reset {
        if segment.flags & tcp_flag::FIN == 0 {
            return;
        }
        session.stage |= this;
        if session.stage & other == 0 {
            return;
        }
    }
    follow::end_late(ctx.skb.skb, reset as u32);
}

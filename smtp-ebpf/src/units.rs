//! Messages and recipients: what they are charged to, and where they are counted.

use smtp_common::{
    choice::{Choice, Ruling, choose},
    connection::{Account, Attempt, Route},
    counter::{Loss, Reason, Verdict},
    decide::{Decision, decide, decide_units, units_are_limited},
    rule::{PlanLimits, Policy, Rules, rule_flag},
    session::{NO_UID, Session},
    tally::{MessageOutcome, TallyKey, Unit, family},
};

use crate::{
    account::{Generation, KernelPurses, brake_note},
    emit::{add, lost},
    maps::{BPF_NOEXIST, TALLIES},
    policy::in_force,
};

/// Adds `n` to a tally. `packed` holds kind of account, family, which and route, a byte each from the highest.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn tally_add(packed: u32, id: u64, n: u64) -> u32 {
    let key = TallyKey {
        account: Account::new(packed >> 24, id),
        family: (packed >> 16) as u8,
        which: (packed >> 8) as u8,
        route: packed as u8,
        _pad: [0; 5],
    };
    if let Some(counter) = TALLIES.get_ptr_mut(key) {
        add(counter, n);
        return 0;
    }
    let _ = TALLIES.insert(key, 0, BPF_NOEXIST);
    // Somebody else may have made it meanwhile; nobody there means the map is full.
    if let Some(counter) = TALLIES.get_ptr_mut(key) {
        add(counter, n);
        return 0;
    }
    lost(Loss::TalliesFull);
    if let Some(counter) = TALLIES.get_ptr_mut(TallyKey { account: Account::OTHER, ..key }) {
        add(counter, n);
    }
    1
}

#[inline(always)]
pub(crate) fn tally(account: Account, route: u8, family: u8, which: u8, n: u64) {
    tally_add(account.kind << 24 | (family as u32) << 16 | (which as u32) << 8 | route as u32, account.id, n);
}

/// Who a session belongs to, in four registers.
#[derive(Clone, Copy)]
pub(crate) struct Who {
    /// From the lowest byte: room for a unit, route, kind of account, and what else there is in bits.
    packed: u32,
    id: u64,
    host_uid: u32,
    cgroup: u64,
}

impl Who {
    /// Where an action lies that an exception says.
    const EXCEPTION: u32 = 24;

    #[inline(always)]
    pub(crate) fn of(session: &Session) -> Self {
        Self::of_attempt(&session.attempt())
    }

    #[inline(always)]
    pub(crate) fn of_attempt(attempt: &Attempt) -> Self {
        Self {
            packed: (attempt.exception as u32) << Self::EXCEPTION
                | attempt.account.kind << 16
                | (attempt.route as u32) << 8,
            id: attempt.account.id,
            host_uid: match attempt.host_uid {
                Some(uid) => uid,
                None => NO_UID,
            },
            cgroup: attempt.cgroup,
        }
    }

    /// The attempt, and the unit in the lowest byte.
    #[inline(always)]
    fn unpack(&self) -> (Attempt, Unit) {
        let packed = self.packed;
        let route = match packed >> 8 & 0xff {
            0 => Route::Local,
            1 => Route::Remote,
            _ => Route::Pipe,
        };
        let host_uid = if self.host_uid == NO_UID { None } else { Some(self.host_uid) };
        let unit = if packed & 0xff == Unit::Message as u32 { Unit::Message } else { Unit::Recipient };
        let account = Account::new(packed >> 16 & 0xff, self.id);
        let exception = (packed >> Self::EXCEPTION) as u8;
        (Attempt { account, route, host_uid, cgroup: self.cgroup, exception }, unit)
    }

    /// A count of 32 bits beside the host's uid.
    #[inline(always)]
    fn with(&self, n: u32) -> u64 {
        (n as u64) << 32 | self.host_uid as u64
    }
}

/// What holds for an attempt at this moment.
struct Holding {
    policy: &'static Policy,
    rule: Ruling<'static>,
    limits: &'static PlanLimits,
    purses: KernelPurses,
}

/// For plans that limit connections alone.
static NO_LIMITS: PlanLimits = PlanLimits::NONE;

#[inline(always)]
fn holding_for(who: Who, attempt: &Attempt, now: u64) -> Option<Holding> {
    let choice = Choice(choose_rule(who.packed, who.id, who.host_uid, who.cgroup, now));
    let (generation, policy) = in_force()?;
    let rules = Generation(generation);
    let rule = choice.ruling(choice.rule(policy, &rules, attempt), &rules, attempt);
    let limits = if rule.has(rule_flag::UNITS) { rules.plan(rule.plan).unwrap_or(&NO_LIMITS) } else { &NO_LIMITS };
    Some(Holding { policy, rule, limits, purses: KernelPurses::of(generation, &rule, attempt.cgroup) })
}

/// A global function: what it looks up does not lie on the stack while its caller decides. Should a new policy come in force
/// between the two, the choice is looked up in that one.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn choose_rule(who: u32, id: u64, host_uid: u32, cgroup: u64, now: u64) -> u32 {
    let (attempt, _) = Who { packed: who, id, host_uid, cgroup }.unpack();
    let Some((generation, _)) = in_force() else { return 0 };
    choose(&Generation(generation), &attempt, now).0
}

#[inline(always)]
const fn packed(verdict: Verdict, why: u8) -> u32 {
    (verdict as u32) << 8 | why as u32
}

/// No policy has been written: nobody is limited.
const OPEN: u32 = packed(Verdict::Allowed, Reason::WithinLimits as u8);

/// Verdict on `n` units, as applied (in observe mode: as it would be), and the reason.
#[derive(Clone, Copy)]
pub(crate) struct Answer(u32);

impl Answer {
    #[inline(always)]
    pub(crate) fn verdict(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline(always)]
    pub(crate) fn reason(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub(crate) fn verdict_of(self) -> Verdict {
        // SAFETY: an answer is made from values of these types.
        unsafe { core::mem::transmute::<u8, Verdict>(self.verdict()) }
    }

    #[inline(always)]
    pub(crate) fn reason_of(self) -> Reason {
        // SAFETY: as above.
        unsafe { core::mem::transmute::<u8, Reason>(self.reason()) }
    }

    /// The units may not pass.
    #[inline(always)]
    pub(crate) fn is_refused(self) -> bool {
        self.verdict() == Verdict::Refused as u8
    }

    /// They may not, or would not in enforce mode.
    #[inline(always)]
    pub(crate) fn is_stop(self) -> bool {
        self.verdict() >= Verdict::Deferred as u8
    }
}

#[inline(always)]
pub(crate) fn charge(who: Who, unit: Unit, n: u32, now: u64) -> Answer {
    Answer(charge_units(who.packed | unit as u32, who.id, who.with(n), who.cgroup, now))
}

/// Charges `n` units, or none, and counts the verdict for each of them.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn charge_units(who: u32, id: u64, n_uid: u64, cgroup: u64, now: u64) -> u32 {
    let who = Who { packed: who, id, host_uid: n_uid as u32, cgroup };
    let (attempt, unit) = who.unpack();
    let n = (n_uid >> 32) as u32;
    let Some(mut holding) = holding_for(who, &attempt, now) else { return OPEN };
    let Holding { policy, rule, limits, purses } = &mut holding;
    let Decision { verdict, why } = decide_units(policy, rule, limits, &attempt, unit, n, now, purses);
    let verdict = if policy.enforce != 0 { verdict } else { verdict.observed() };
    let family = family::MESSAGE_VERDICTS + unit as u8;
    tally(attempt.account, attempt.route as u8, family, verdict as u8, n as u64);
    packed(verdict, why)
}

/// What becomes of a session that cannot be read, because the client evades that or for want of memory: where messages are
/// limited it may not go on.
#[inline(always)]
pub(crate) fn judge_unread(who: Who, why: Reason, now: u64) -> Answer {
    Answer(unread(who.packed | why as u32, who.id, who.host_uid, who.cgroup, now))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn unread(who: u32, id: u64, host_uid: u32, cgroup: u64, now: u64) -> u32 {
    let who = Who { packed: who, id, host_uid, cgroup };
    let (attempt, _) = who.unpack();
    let Some(Holding { policy, rule, limits, purses }) = holding_for(who, &attempt, now) else { return OPEN };
    if !units_are_limited(policy, &rule, limits, &attempt, purses.flags()) {
        return OPEN;
    }
    let verdict = if policy.enforce != 0 { Verdict::Refused } else { Verdict::WouldRefuse };
    tally(attempt.account, attempt.route as u8, family::MESSAGE_VERDICTS, verdict as u8, 1);
    packed(verdict, who.packed as u8)
}

/// Counts `n` messages with an outcome, also for the failure brake.
#[inline(always)]
pub(crate) fn message_outcome(who: Who, outcome: MessageOutcome, n: u32, now: u64) {
    note_messages(who.packed | outcome as u32, who.id, who.with(n), who.cgroup, now);
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn note_messages(who: u32, id: u64, n_uid: u64, cgroup: u64, now: u64) -> u32 {
    let outcome = (who & 0xff) as u8;
    let who = Who { packed: who, id, host_uid: n_uid as u32, cgroup };
    let (attempt, _) = who.unpack();
    let n = (n_uid >> 32) as u32;
    tally(attempt.account, attempt.route as u8, family::MESSAGES, outcome, n as u64);
    if outcome == MessageOutcome::Unknown as u8 {
        return 0;
    }
    let Some(Holding { rule, limits, .. }) = holding_for(who, &attempt, now) else { return 0 };
    if attempt.route as u8 != Route::Remote as u8 && !rule.has(rule_flag::LOCAL) || !rule.has(rule_flag::BRAKE) {
        return 0;
    }
    let failed = if outcome == MessageOutcome::Accepted as u8 { 0 } else { n };
    brake_note(attempt.account, limits, n, failed, now);
    0
}

/// What becomes of a connection: [`decide`] in a global function, so that its variables and those of the hook that asks
/// do not lie on the stack together, and the verifier walks what follows it once.
#[inline(always)]
pub(crate) fn decide_attempt(attempt: &Attempt, now: u64) -> Answer {
    let who = Who::of_attempt(attempt);
    Answer(decide_connect(who.packed, who.id, who.host_uid, who.cgroup, now))
}

#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn decide_connect(who: u32, id: u64, host_uid: u32, cgroup: u64, now: u64) -> u32 {
    let who = Who { packed: who, id, host_uid, cgroup };
    let (attempt, _) = who.unpack();
    let Some(Holding { policy, rule, mut purses, .. }) = holding_for(who, &attempt, now) else { return OPEN };
    let Decision { verdict, why } = decide(policy, &rule, &attempt, now, &mut purses);
    packed(if policy.enforce != 0 { verdict } else { verdict.observed() }, why)
}

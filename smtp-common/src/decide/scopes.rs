//! Charging everything that applies, or nothing.

use super::{Purses, Shared};
use crate::{
    choice::Ruling,
    connection::{Account, Attempt, Route},
    level::{LINKS, Purse, chain_flag, purse_flag},
    rule::{Action, Origin, PlanLimits, Policy, rule_flag},
    tally::Unit,
    window::{Both, Lane, Receipt, WindowKey, spans},
};

/// What a shared purse is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    pub now: u64,
    pub n: u32,
    /// A [`Unit`]; 2 for connections.
    unit: u8,
    /// Bits: 1 where it stays on the host, 2 where the account is exempt.
    facts: u8,
}

impl Ask {
    const LOCAL: u8 = 1;
    const EXEMPT: u8 = 2;

    #[inline(always)]
    pub(super) fn new(unit: Option<Unit>, rule: &Ruling<'_>, attempt: &Attempt, now: u64, n: u32) -> Self {
        let unit = match unit {
            Some(unit) => unit as u8,
            None => 2,
        };
        let local = if attempt.route as u8 == Route::Remote as u8 { 0 } else { Self::LOCAL };
        let exempt = if rule.action == Action::Exempt as u8 { Self::EXEMPT } else { 0 };
        Self { now, n, unit, facts: local | exempt }
    }

    /// In one register, and back: all but the time.
    #[inline(always)]
    pub const fn pack(&self) -> u64 {
        (self.n as u64) << 32 | (self.unit as u64) << 8 | self.facts as u64
    }

    #[inline(always)]
    pub const fn unpack(packed: u64, now: u64) -> Self {
        Self { now, n: (packed >> 32) as u32, unit: (packed >> 8) as u8, facts: packed as u8 }
    }

    /// What a chain must have that is concerned: a bit of [`chain_flag`].
    #[inline(always)]
    pub const fn flag(&self) -> u32 {
        if self.unit == 2 { chain_flag::CONNECTIONS } else { chain_flag::UNITS }
    }

    #[inline(always)]
    const fn unit(&self) -> Option<Unit> {
        match self.unit {
            0 => Some(Unit::Message),
            1 => Some(Unit::Recipient),
            _ => None,
        }
    }

    #[inline(always)]
    const fn lane(&self) -> Lane {
        match self.unit() {
            Some(unit) => Lane::of(unit),
            None => Lane::Admitted,
        }
    }

    /// Whether a purse with such flags is concerned.
    #[inline(always)]
    const fn meets(&self, flags: u8) -> bool {
        (self.facts & Self::LOCAL == 0 || flags & purse_flag::LOCAL != 0)
            && (self.facts & Self::EXEMPT == 0 || flags & purse_flag::STRICT != 0)
    }
}

/// Charges one shared purse what is asked for, if it limits that. A receipt that says "full" carries a note of whose limit
/// it is and how hard.
#[inline(always)]
fn charge_purse<P: Purses>(purse: &Purse, ask: &Ask, purses: &mut P) -> Receipt {
    let limits = purse.of(ask.unit());
    if !limits.is_set() || !ask.meets(purse.flags) {
        return Receipt::NONE;
    }
    let receipt = purses.charge(&WindowKey::new(purse.scope, ask.lane()), ask.now, limits, spans::BOTH, ask.n);
    if !receipt.is_full() {
        return receipt;
    }
    let bands = if ask.unit().is_none() { purse.bands() } else { Both { hour: 0, day: 0 } };
    receipt.with_note(note(purse.level as u32, bands.hour, bands.day, purse.on_soft))
}

/// Once for each purse of a chain, with its place as a constant: the kernel's stack is read and written at constant places
/// only, and a loop would be walked anew by the verifier at each of its exits.
macro_rules! each_link {
    ($link:ident => $body:expr) => {{
        each_link!(@ $link, $body, 0, 1, 2, 3);
    }};
    (@ $link:ident, $body:expr, $($n:literal),+) => {
        $({
            const $link: usize = $n;
            $body
        })+
    };
}

const _: () = assert!(LINKS == 4);

/// How far behind a window's newest slot a charge may lie and still be taken back: seven bits for the hour and seven for
/// the day of each purse. A clock that was read so much too early is none.
const MOST_BEHIND: u32 = 127;

/// Charges all purses of a chain, or says which is full and charges none. `purse` finds one by its place.
///
/// The receipt has no room for the slots of four purses: it says by how many slots each differs from those of `ask.now`.
#[inline(always)]
pub fn charge_chain<'a, P: Purses>(purse: impl Fn(usize) -> Option<&'a Purse>, ask: &Ask, purses: &mut P) -> Receipt {
    let mut held = [Receipt::NONE; LINKS];
    let mut greatest = 0;
    each_link!(LINK => if let Some(purse) = purse(LINK) {
        held[LINK] = charge_purse(purse, ask, purses);
        let one = rank(held[LINK], held[LINK].note() | (LINK as u32) << bit::LINK);
        if one > greatest {
            greatest = one;
        }
    });
    if greatest == 0 {
        let now = Both::slots(ask.now);
        let mut packed = 0;
        each_link!(LINK => packed |= held[LINK].behind(now, MOST_BEHIND) << (14 * LINK));
        return Receipt::of_chain(packed);
    }
    each_link!(LINK => if held[LINK].is_charged() && let Some(purse) = purse(LINK) {
        purses.uncharge(&WindowKey::new(purse.scope, ask.lane()), held[LINK], spans::BOTH, ask.n);
    });
    Receipt::FULL.with_note(greatest)
}

/// Takes back what a receipt of [`charge_chain`] stands for.
#[inline(always)]
pub fn uncharge_chain<'a, P: Purses>(
    purse: impl Fn(usize) -> Option<&'a Purse>,
    receipt: Receipt,
    ask: &Ask,
    purses: &mut P,
) {
    let now = Both::slots(ask.now);
    each_link!(LINK => if let Some(purse) = purse(LINK)
        && purse.of(ask.unit()).is_set()
        && ask.meets(purse.flags)
        && let Some(one) = receipt.of_link(LINK as u32, now, MOST_BEHIND)
    {
        purses.uncharge(&WindowKey::new(purse.scope, ask.lane()), one, spans::BOTH, ask.n);
    });
}

/// Charges the soft band of a purse's windows in `which`.
#[inline(always)]
pub fn put_off<P: Purses>(purse: &Purse, which: u32, now: u64, purses: &mut P) -> Receipt {
    purses.charge(&WindowKey::new(purse.scope, Lane::Deferred), now, purse.bands(), which, 1)
}

/// A limit that is used up, so that the greater number is the one that speaks: the hard before the soft, the greater scope
/// before the lesser. Bits, from the highest: used up, hard, level (4), whose it is (3), then what to do about it.
#[derive(Clone, Copy)]
pub(super) struct Full(u32);

mod bit {
    pub(super) const FULL: u32 = 1 << 31;
    pub(super) const HARD: u32 = 1 << 30;
    pub(super) const LEVEL: u32 = 24;
    pub(super) const LINK: u32 = 16;
    pub(super) const SHARED: u32 = 1 << 18;
    pub(super) const CGROUP: u32 = 1 << 19;
    pub(super) const ON_SOFT: u32 = 8;
    pub(super) const HOUR: u32 = 1;
    pub(super) const DAY: u32 = 1 << 1;
    pub(super) const HOUR_IS_HARD: u32 = 1 << 2;
    pub(super) const DAY_IS_HARD: u32 = 1 << 3;
}

impl Full {
    #[inline(always)]
    pub(super) const fn is_hard(self) -> bool {
        self.0 & bit::HARD != 0
    }

    #[inline(always)]
    pub(super) const fn level(self) -> u32 {
        self.0 >> bit::LEVEL & 0xf
    }

    /// `None`: the account's own.
    #[inline(always)]
    pub(super) const fn shared(self) -> Option<Shared> {
        if self.0 & bit::SHARED == 0 {
            None
        } else if self.0 & bit::CGROUP == 0 {
            Some(Shared::Account)
        } else {
            Some(Shared::Cgroup)
        }
    }

    /// Place of its purse in the chain.
    #[inline(always)]
    pub(super) const fn link(self) -> u32 {
        self.0 >> bit::LINK & (LINKS as u32 - 1)
    }

    #[inline(always)]
    pub(super) const fn on_soft(self) -> u32 {
        self.0 >> bit::ON_SOFT & 0xff
    }

    /// Bits of [`spans`].
    #[inline(always)]
    pub(super) const fn which(self) -> u32 {
        self.0 & (spans::HOUR | spans::DAY)
    }

    /// Of one that is hard: whether it is the day that is.
    #[inline(always)]
    pub(super) const fn hard_day(self) -> bool {
        self.0 & bit::DAY != 0 && self.0 & bit::DAY_IS_HARD != 0
    }
}

const _: () = assert!(bit::HOUR == spans::HOUR && bit::DAY == spans::DAY);

/// What is to be known of a limit should it be used up.
#[inline(always)]
pub(super) const fn note(level: u32, hour_band: u32, day_band: u32, on_soft: u8) -> u32 {
    let hour = if hour_band == 0 { bit::HOUR_IS_HARD } else { 0 };
    let day = if day_band == 0 { bit::DAY_IS_HARD } else { 0 };
    level << bit::LEVEL | (on_soft as u32) << bit::ON_SOFT | hour | day
}

/// A receipt that says "full" as a number to compare; 0 for another.
#[inline(always)]
const fn rank(receipt: Receipt, note: u32) -> u32 {
    if !receipt.is_full() {
        return 0;
    }
    let hour = receipt.hour_full() as u32;
    let day = receipt.day_full() as u32;
    let hard = hour & (note >> 2) | day & (note >> 3);
    bit::FULL | (hard & 1) << 30 | note | hour | day << 1
}

/// The facts of one decision. What follows from them is worked out where it is used, and again where it is used again: kept,
/// it would take more of the kernel's stack than there is.
pub(super) struct Scopes<'a> {
    pub(super) policy: &'a Policy,
    pub(super) rule: &'a Ruling<'a>,
    /// What its plan limits besides connections.
    pub(super) limits: &'a PlanLimits,
    pub(super) attempt: &'a Attempt,
    /// `None`: a connection.
    pub(super) unit: Option<Unit>,
}

/// What all were asked and answered.
pub(super) struct Charged {
    pub(super) own: Receipt,
    pub(super) host: Receipt,
    account: Receipt,
    cgroup: Receipt,
}

impl Charged {
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        Receipt(self.own.0 | self.host.0 | self.account.0 | self.cgroup.0).is_full()
    }

    /// The one that speaks, of the account's own limit, which `own` says more of, and those it shares.
    #[inline(always)]
    pub(super) fn greatest(&self, own: u32) -> Full {
        let mut greatest = rank(self.own, own);
        // A chain's note has been ranked already.
        let account = if self.account.is_full() { self.account.note() | bit::SHARED } else { 0 };
        if account > greatest {
            greatest = account;
        }
        let cgroup = if self.cgroup.is_full() { self.cgroup.note() | bit::SHARED | bit::CGROUP } else { 0 };
        if cgroup > greatest {
            greatest = cgroup;
        }
        Full(greatest)
    }
}

impl Scopes<'_> {
    #[inline(always)]
    pub(super) fn leaves(&self) -> bool {
        self.attempt.route as u8 == Route::Remote as u8
    }

    #[inline(always)]
    pub(super) fn is_exempt(&self) -> bool {
        self.rule.action == Action::Exempt as u8
    }

    /// Whether the account is held to limits of its own here.
    #[inline(always)]
    pub(super) fn is_held(&self) -> bool {
        !self.is_exempt() && (self.leaves() || self.rule.has(rule_flag::LOCAL))
    }

    /// Who was let go by hand or by an exception is held to nothing at all.
    #[inline(always)]
    pub(super) fn shares(&self) -> bool {
        !self.is_exempt() || self.rule.origin == Origin::AllowUser as u8 || self.rule.origin == Origin::AllowGroup as u8
    }

    #[inline(always)]
    fn own_limits(&self) -> Both {
        match self.unit {
            None => Both { hour: self.rule.hour.limit, day: self.rule.day.limit },
            Some(unit) => self.limits.of(unit),
        }
    }

    /// What goes to the local MTA is charged to the host when the MTA sends it.
    #[inline(always)]
    fn is_the_hosts(&self) -> bool {
        self.leaves() && !self.rule.has(rule_flag::NOT_THE_HOSTS)
    }

    /// The host's windows always count, so that its usage is known.
    #[inline(always)]
    fn budget(&self) -> Both {
        if self.is_exempt() && self.policy.strict == 0 {
            return Both::UNLIMITED;
        }
        match self.unit {
            None => Both { hour: self.policy.host_hour, day: self.policy.host_day },
            Some(unit) => self.policy.host_units(unit),
        }
    }

    #[inline(always)]
    fn key(&self, scope: Account) -> WindowKey {
        let lane = match self.unit {
            None => Lane::Admitted,
            Some(unit) => Lane::of(unit),
        };
        WindowKey::new(scope, lane)
    }

    #[inline(always)]
    fn ask(&self, now: u64, n: u32) -> Ask {
        Ask::new(self.unit, self.rule, self.attempt, now, n)
    }

    /// Charges all, or says which were full and charges none.
    #[inline(always)]
    pub(super) fn charge<P: Purses>(&self, now: u64, n: u32, purses: &mut P) -> Charged {
        let mut charged =
            Charged { own: Receipt::NONE, host: Receipt::NONE, account: Receipt::NONE, cgroup: Receipt::NONE };
        if self.shares() {
            charged.account = purses.share(Shared::Account, &self.ask(now, n));
            charged.cgroup = purses.share(Shared::Cgroup, &self.ask(now, n));
        }
        // An account has windows only where it has a limit.
        if self.is_held() && self.own_limits().is_set() {
            charged.own = purses.charge(&self.key(self.attempt.account), now, self.own_limits(), spans::BOTH, n);
        }
        // Tried even when others are full: the host's limit, which has no soft band, must be able to speak.
        if self.is_the_hosts() {
            charged.host = purses.charge(&self.key(Account::HOST), now, self.budget(), spans::BOTH, n);
        }
        if charged.is_full() {
            if charged.own.is_charged() {
                purses.uncharge(&self.key(self.attempt.account), charged.own, spans::BOTH, n);
            }
            if charged.host.is_charged() {
                purses.uncharge(&self.key(Account::HOST), charged.host, spans::BOTH, n);
            }
            if charged.account.is_charged() {
                purses.unshare(Shared::Account, charged.account, &self.ask(now, n));
            }
            if charged.cgroup.is_charged() {
                purses.unshare(Shared::Cgroup, charged.cgroup, &self.ask(now, n));
            }
        }
        charged
    }
}

//! How a window slides: a ring of 64 slots that never admits one too many.
//!
//! Time is cut into slots of one 64th of the window. The ring holds the newest 64 slots; the slot that
//! has just left it (`expiring`) may still overlap the window's tail, so it counts in full until the
//! next slot begins. Hence the two properties the tests prove:
//!
//! * in *no* stretch as long as the window is more than the limit admitted;
//! * a unit is held back at most one slot (1/64 of the window) longer than the window.
//!
//! The clock may be read before the lock is taken, so two processors can arrive in either order: a slot
//! older than the newest is charged to the newest.

use crate::{connection::Account, pod, tally::Unit};

/// Slots in a ring. A power of two, so that the index is a mask: the verifier loses track of `%`.
pub const SLOTS: u64 = 64;

/// "No limit", and the limit of a charge that always succeeds.
pub const UNLIMITED: u32 = u32::MAX;

/// A length of time over which a limit holds.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Span {
    Hour = 0,
    Day = 1,
}

impl Span {
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Length in nanoseconds.
    #[inline(always)]
    pub const fn nanos(self) -> u64 {
        match self {
            Self::Hour => 3_600_000_000_000,
            Self::Day => 86_400_000_000_000,
        }
    }

    /// Length of one slot in nanoseconds: 56.25 s of an hour, 1,350 s of a day, exact in both.
    #[inline(always)]
    pub const fn slot_nanos(self) -> u64 {
        self.nanos() / SLOTS
    }

    /// The slot a time (nanoseconds of the boot clock) falls into.
    #[inline(always)]
    pub const fn slot(self, now: u64) -> u64 {
        now / self.slot_nanos()
    }
}

/// What a window counts.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// Connections let through: bounded by the limit.
    Admitted = 0,
    /// Connections put off in the soft band: bounded by the band's width.
    Deferred = 1,
    /// Messages the client was let go ahead with.
    Messages = 2,
    /// Recipients that were named.
    Recipients = 3,
    /// Messages that had an outcome, and those of them that failed: for the failure brake.
    Outcomes = 4,
    Failed = 5,
}

impl Lane {
    pub const ALL: [Self; 6] =
        [Self::Admitted, Self::Deferred, Self::Messages, Self::Recipients, Self::Outcomes, Self::Failed];

    #[inline(always)]
    pub const fn of(unit: Unit) -> Self {
        match unit {
            Unit::Message => Self::Messages,
            Unit::Recipient => Self::Recipients,
        }
    }
}

/// Whose windows, and what they count.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WindowKey {
    pub scope: Account,
    pub lane: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<WindowKey>() == 24);
pod!(WindowKey);

impl WindowKey {
    #[inline(always)]
    pub const fn new(scope: Account, lane: Lane) -> Self {
        Self { scope, lane: lane as u32, _pad: 0 }
    }
}

/// One sliding count.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Number of the newest slot: time since boot divided by the slot's length.
    pub head: u64,
    /// Sum of the ring and `expiring`.
    pub total: u64,
    /// Count of slot `head - 64`, which the window may still overlap.
    pub expiring: u32,
    pub _pad: u32,
    /// Counts of slots `head - 63 ..= head`, each at its number modulo 64.
    pub ring: [u32; SLOTS as usize],
}

const _: () = assert!(size_of::<Window>() == 280);

/// Which of a scope's windows are meant: bits.
pub mod spans {
    pub const HOUR: u32 = 1;
    pub const DAY: u32 = 2;
    pub const BOTH: u32 = HOUR | DAY;
}

/// Hour and day of one scope. They lie together so that one look-up and one lock charge both, or neither: a lock
/// costs about half of a charge.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Windows {
    pub hour: Window,
    pub day: Window,
}

/// Windows as they lie in the map, under the map's spin lock.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LockedWindows {
    /// `struct bpf_spin_lock`. User space reads it as 0 and must look up with `BPF_F_LOCK`.
    pub lock: u32,
    pub _pad: u32,
    pub windows: Windows,
}

const _: () = assert!(size_of::<LockedWindows>() == 568);
pod!(LockedWindows);

/// Slot numbers or limits of an hour and a day.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Both {
    pub hour: u32,
    pub day: u32,
}

impl Both {
    pub const UNLIMITED: Self = Self { hour: UNLIMITED, day: UNLIMITED };

    #[inline(always)]
    pub const fn is_set(&self) -> bool {
        self.hour != UNLIMITED || self.day != UNLIMITED
    }

    #[inline(always)]
    pub const fn of(&self, span: Span) -> u32 {
        match span {
            Span::Hour => self.hour,
            Span::Day => self.day,
        }
    }

    /// The slots of a time (nanoseconds of the boot clock). 32 bits last 7,600 years of 56.25-second slots.
    #[inline(always)]
    pub const fn slots(now: u64) -> Self {
        Self { hour: Span::Hour.slot(now) as u32, day: Span::Day.slot(now) as u32 }
    }

    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.day as u64) << 32 | self.hour as u64
    }

    #[inline(always)]
    pub const fn unpack(packed: u64) -> Self {
        Self { hour: packed as u32, day: (packed >> 32) as u32 }
    }
}

/// What a charge came to: the slots that were charged, or which windows were full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt(pub u64);

impl Receipt {
    /// Charged to the window of those who found no room for one of their own.
    pub const OVERFLOW: u64 = 1 << 60;
    const HOUR_FULL: u64 = 1 << 61;
    const DAY_FULL: u64 = 1 << 62;
    /// Something was charged: a receipt without it stands for nothing.
    const CHARGED: u64 = 1 << 63;
    const SLOTS: u64 = Self::OVERFLOW - 1;

    /// Nothing was asked for.
    pub const NONE: Self = Self(0);

    /// For a charge that can never be made.
    pub const FULL: Self = Self(Self::HOUR_FULL | Self::DAY_FULL);

    #[inline(always)]
    pub const fn hour_full(self) -> bool {
        self.0 & Self::HOUR_FULL != 0
    }

    #[inline(always)]
    pub const fn day_full(self) -> bool {
        self.0 & Self::DAY_FULL != 0
    }

    #[inline(always)]
    pub const fn is_full(self) -> bool {
        self.0 & (Self::HOUR_FULL | Self::DAY_FULL) != 0
    }

    #[inline(always)]
    pub const fn is_charged(self) -> bool {
        self.0 & Self::CHARGED != 0
    }

    /// One that says "full", with a number of the caller's where the slots of a charge are.
    #[inline(always)]
    pub const fn with_note(self, note: u32) -> Self {
        Self(self.0 & !Self::SLOTS | note as u64)
    }

    #[inline(always)]
    pub const fn note(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub const fn slots(self) -> Both {
        Both::unpack(self.0 & Self::SLOTS)
    }

    /// By how much the slots of a charge lie after those of `now`, seven bits each and `most` at most.
    #[inline(always)]
    pub(crate) const fn behind(self, now: Both, most: u32) -> u64 {
        let at = self.slots();
        let hour = at.hour.wrapping_sub(now.hour);
        let day = at.day.wrapping_sub(now.day);
        let hour = if hour > most { most } else { hour };
        let day = if day > most { most } else { day };
        (day << 7 | hour) as u64
    }

    /// For a charge of several purses, of which [`Self::behind`] says 14 bits each.
    #[inline(always)]
    pub(crate) const fn of_chain(behind: u64) -> Self {
        Self(behind & Self::SLOTS | Self::CHARGED)
    }

    /// That of one of them, `None` where it lies too far from `now` to be known: what it charged then stays charged.
    #[inline(always)]
    pub(crate) const fn of_link(self, link: u32, now: Both, most: u32) -> Option<Self> {
        let behind = (self.0 >> (14 * link)) as u32;
        let (hour, day) = (behind & 0x7f, behind >> 7 & 0x7f);
        if hour == most || day == most {
            return None;
        }
        let slots = Both { hour: now.hour.wrapping_add(hour), day: now.day.wrapping_add(day) };
        Some(Self(slots.pack() & Self::SLOTS | Self::CHARGED))
    }
}

impl Windows {
    #[inline(always)]
    pub const fn of(&self, span: Span) -> &Window {
        match span {
            Span::Hour => &self.hour,
            Span::Day => &self.day,
        }
    }

    /// Slides both to `slots`.
    #[inline(always)]
    pub fn advance(&mut self, slots: Both) {
        self.hour.advance(slots.hour as u64);
        self.day.advance(slots.day as u64);
    }

    /// Slides both to `slots` and adds `n` to each window in `which` (bits of [`spans`]) unless one of those has no room
    /// for so many: then to none.
    #[inline(always)]
    pub fn charge(&mut self, slots: Both, limits: Both, which: u32, n: u32) -> Receipt {
        self.advance(slots);
        let mut full = 0;
        if which & spans::HOUR != 0 && !self.hour.has_room(limits.hour, n) {
            full |= Receipt::HOUR_FULL;
        }
        if which & spans::DAY != 0 && !self.day.has_room(limits.day, n) {
            full |= Receipt::DAY_FULL;
        }
        if full != 0 {
            return Receipt(full);
        }
        if which & spans::HOUR != 0 {
            self.hour.add(n);
        }
        if which & spans::DAY != 0 {
            self.day.add(n);
        }
        let slots = Both { hour: self.hour.head as u32, day: self.day.head as u32 }.pack() & Receipt::SLOTS;
        Receipt(slots | Receipt::CHARGED)
    }

    /// Takes back what a receipt of [`Self::charge`] with the same `which` and `n` stands for.
    #[inline(always)]
    pub fn uncharge(&mut self, receipt: Receipt, which: u32, n: u32) {
        let slots = receipt.slots();
        if which & spans::HOUR != 0 {
            self.hour.uncharge(slots.hour as u64, n);
        }
        if which & spans::DAY != 0 {
            self.day.uncharge(slots.day as u64, n);
        }
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Window {
    pub const EMPTY: Self = Self { head: 0, total: 0, expiring: 0, _pad: 0, ring: [0; SLOTS as usize] };

    /// Slides forward to `slot`. A slot in the past leaves the window where it is.
    ///
    /// Sixty-five steps empty any window, so the loop is bounded however far the clock jumped. It counts steps
    /// instead of comparing slots: what a comparison in the loop tells the verifier of `slot` would outlive the loop,
    /// and each of its ends would be a state of its own for all that follows.
    #[inline(always)]
    pub fn advance(&mut self, slot: u64) {
        if slot <= self.head {
            return;
        }
        let delta = slot - self.head;
        let steps = if delta > SLOTS { SLOTS + 1 } else { delta };
        let mut next = slot - steps;
        let mut step = 0;
        while step <= SLOTS && step < steps {
            next += 1;
            let i = (next & (SLOTS - 1)) as usize;
            self.total -= self.expiring as u64;
            self.expiring = self.ring[i];
            self.ring[i] = 0;
            step += 1;
        }
        self.head = slot;
    }

    /// Whether `n` more units fit under `limit`. Always, under [`UNLIMITED`].
    #[inline(always)]
    fn has_room(&self, limit: u32, n: u32) -> bool {
        limit == UNLIMITED || self.total + n as u64 <= limit as u64
    }

    #[inline(always)]
    fn add(&mut self, n: u32) {
        self.total += n as u64;
        let i = (self.head & (SLOTS - 1)) as usize;
        self.ring[i] = self.ring[i].wrapping_add(n);
    }

    /// Slides to `slot` and adds one unless the window is full. Returns the slot that was charged.
    #[cfg(test)]
    fn charge(&mut self, slot: u64, limit: u32) -> Option<u64> {
        self.advance(slot);
        if !self.has_room(limit, 1) {
            return None;
        }
        self.add(1);
        Some(self.head)
    }

    /// Takes back `n` units that were put into `slot`, wherever that slot has moved since.
    #[inline(always)]
    pub fn uncharge(&mut self, slot: u64, n: u32) {
        let age = self.head.wrapping_sub(slot);
        if age < SLOTS {
            let i = (slot & (SLOTS - 1)) as usize;
            if self.ring[i] >= n {
                self.ring[i] -= n;
                self.total -= n as u64;
            }
        } else if age == SLOTS && self.expiring >= n {
            self.expiring -= n;
            self.total -= n as u64;
        }
    }

    /// Units in force at `slot`, without changing the window.
    #[inline(always)]
    pub fn used(&self, slot: u64) -> u64 {
        let mut copy = *self;
        copy.advance(slot);
        copy.total
    }

    /// Nanoseconds from `now` until a unit is free again under `limit`, 0 when one is free already.
    pub fn free_in(&self, span: Span, now: u64, limit: u32) -> u64 {
        let mut copy = *self;
        let slot = span.slot(now);
        copy.advance(slot);
        let mut ahead = copy.head;
        while limit != UNLIMITED && copy.total > 0 && copy.total >= limit as u64 {
            ahead += 1;
            copy.advance(ahead);
        }
        if ahead <= slot { 0 } else { ahead * span.slot_nanos() - now }
    }
}

#[cfg(test)]
mod tests;

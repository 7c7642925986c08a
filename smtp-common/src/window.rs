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

use crate::{connection::Account, pod};

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
}

/// Whose window, how long, and what it counts.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct WindowKey {
    pub scope: Account,
    pub span: u32,
    pub lane: u32,
}

const _: () = assert!(size_of::<WindowKey>() == 24);
pod!(WindowKey);

impl WindowKey {
    #[inline(always)]
    pub const fn new(scope: Account, span: Span, lane: Lane) -> Self {
        Self { scope, span: span as u32, lane: lane as u32 }
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

/// A window as it lies in the map, under the map's spin lock.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockedWindow {
    /// `struct bpf_spin_lock`. User space reads it as 0 and must look up with `BPF_F_LOCK`.
    pub lock: u32,
    pub _pad: u32,
    pub window: Window,
}

const _: () = assert!(size_of::<LockedWindow>() == 288);
pod!(LockedWindow);

impl Default for Window {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Window {
    pub const EMPTY: Self = Self { head: 0, total: 0, expiring: 0, _pad: 0, ring: [0; SLOTS as usize] };

    /// Slides forward to `slot`. A slot in the past leaves the window where it is.
    ///
    /// Sixty-five steps empty any window, so the loop is bounded however far the clock jumped.
    #[inline(always)]
    pub fn advance(&mut self, slot: u64) {
        if slot <= self.head {
            return;
        }
        let delta = slot - self.head;
        let mut next = self.head + 1;
        if delta > SLOTS + 1 {
            // Only the last 65 steps matter; skipping the others keeps every index right.
            next = slot - SLOTS;
        }
        let mut step = 0;
        while step <= SLOTS && next <= slot {
            let i = (next & (SLOTS - 1)) as usize;
            self.total -= self.expiring as u64;
            self.expiring = self.ring[i];
            self.ring[i] = 0;
            next += 1;
            step += 1;
        }
        self.head = slot;
    }

    /// Slides to `slot` and adds one unless `limit` units stand already. Returns the slot that was
    /// charged, or `None` when the window is full. [`UNLIMITED`] always succeeds.
    #[inline(always)]
    #[must_use]
    pub fn charge(&mut self, slot: u64, limit: u32) -> Option<u64> {
        self.advance(slot);
        if limit != UNLIMITED && self.total >= limit as u64 {
            return None;
        }
        self.total += 1;
        self.ring[(self.head & (SLOTS - 1)) as usize] += 1;
        Some(self.head)
    }

    /// Takes back one unit that [`Self::charge`] put into `slot`, wherever that slot has moved since.
    #[inline(always)]
    pub fn uncharge(&mut self, slot: u64) {
        let age = self.head.wrapping_sub(slot);
        if age < SLOTS {
            let i = (slot & (SLOTS - 1)) as usize;
            if self.ring[i] > 0 {
                self.ring[i] -= 1;
                self.total -= 1;
            }
        } else if age == SLOTS && self.expiring > 0 {
            self.expiring -= 1;
            self.total -= 1;
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{collections::VecDeque, vec::Vec};

    /// What the ring must never be caught contradicting: every admission kept, by slot.
    #[derive(Default)]
    struct Ledger(VecDeque<u64>);

    impl Ledger {
        fn in_force(&self, head: u64) -> u64 {
            self.0.iter().filter(|&&slot| slot + SLOTS >= head).count() as u64
        }
    }

    /// Clock readings with every kind of gap: none, within a slot, over many, far beyond the ring, backwards.
    fn clocks(span: Span) -> impl Strategy<Value = Vec<u64>> {
        let slot = span.slot_nanos() as i64;
        let gap = prop_oneof![
            4 => Just(0i64),
            4 => 0..slot,
            3 => 0..slot * 8,
            2 => slot * 60..slot * 70,
            1 => 0..slot * 1000,
            2 => -slot * 3..0,
            1 => -slot * 200..0,
        ];
        (0u64..1 << 50, prop::collection::vec(gap, 1..400)).prop_map(|(start, gaps)| {
            let mut now = start;
            gaps.iter()
                .map(|&g| {
                    now = now.saturating_add_signed(g);
                    now
                })
                .collect()
        })
    }

    fn spans() -> impl Strategy<Value = Span> {
        prop_oneof![Just(Span::Hour), Just(Span::Day)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_stretch_of_a_window_admits_more_than_the_limit(
            (span, clocks) in spans().prop_flat_map(|s| (Just(s), clocks(s))),
            limit in 0u32..40,
        ) {
            let mut window = Window::EMPTY;
            let mut newest = 0u64;
            let mut admitted = Vec::new();
            for now in clocks {
                newest = newest.max(now);
                if window.charge(span.slot(now), limit).is_some() {
                    // The time in force: a reading older than one already used counts as that one.
                    admitted.push(newest);
                }
            }
            for (i, &from) in admitted.iter().enumerate() {
                let within = admitted[i..].iter().take_while(|&&t| t - from <= span.nanos()).count();
                prop_assert!(within <= limit as usize, "{within} from {from}");
            }
        }

        #[test]
        fn a_unit_is_free_again_after_the_window_and_one_slot(
            start in 0u64..1 << 50, limit in 1u32..40, late in 0u64..1 << 40, span in spans(),
        ) {
            let mut window = Window::EMPTY;
            for _ in 0..limit {
                prop_assert!(window.charge(span.slot(start), limit).is_some());
            }
            prop_assert!(window.charge(span.slot(start), limit).is_none());
            prop_assert!(window.charge(span.slot(start + span.nanos()), limit).is_none());
            let then = start + span.nanos() + span.slot_nanos() + late;
            for _ in 0..limit {
                prop_assert!(window.charge(span.slot(then), limit).is_some());
            }
        }

        #[test]
        fn the_ring_agrees_with_a_ledger_of_every_admission(
            clocks in clocks(Span::Hour), limit in 0u32..40, undo in prop::collection::vec(any::<bool>(), 400),
        ) {
            let mut window = Window::EMPTY;
            let mut ledger = Ledger::default();
            for (now, undo) in clocks.into_iter().zip(undo) {
                let slot = Span::Hour.slot(now);
                let full = ledger.in_force(slot.max(window.head)) >= limit as u64;
                let charged = window.charge(slot, limit);
                prop_assert_eq!(charged.is_none(), full);
                if let Some(at) = charged {
                    if undo { window.uncharge(at) } else { ledger.0.push_back(at) }
                }
                prop_assert_eq!(window.total, ledger.in_force(window.head));
                let ring: u64 = window.ring.iter().map(|&n| n as u64).sum();
                prop_assert_eq!(window.total, ring + window.expiring as u64);
            }
        }

        #[test]
        fn a_charge_taken_back_later_leaves_what_never_charging_would(
            start in 0u64..1 << 50, gap in 0u64..70, other in 0u32..5,
        ) {
            let slot = Span::Hour.slot(start);
            let (mut with, mut without) = (Window::EMPTY, Window::EMPTY);
            let at = with.charge(slot, UNLIMITED).unwrap();
            for _ in 0..other {
                let _ = with.charge(slot, UNLIMITED);
                let _ = without.charge(slot, UNLIMITED);
            }
            with.advance(slot + gap);
            without.advance(slot + gap);
            with.uncharge(at);
            without.head = with.head;
            prop_assert_eq!(with, without);
        }

        #[test]
        fn free_in_is_the_first_moment_a_unit_is_free(
            clocks in clocks(Span::Hour), limit in 1u32..10,
        ) {
            let mut window = Window::EMPTY;
            let mut now = 0;
            for t in clocks {
                now = now.max(t);
                let _ = window.charge(Span::Hour.slot(now), limit);
            }
            let wait = window.free_in(Span::Hour, now, limit);
            prop_assert!(window.used(Span::Hour.slot(now + wait)) < limit as u64);
            if wait > 0 {
                prop_assert!(window.used(Span::Hour.slot(now + wait - 1)) >= limit as u64);
            }
        }
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        let mut window = Window::EMPTY;
        assert_eq!(window.charge(7, 0), None);
    }

    #[test]
    fn slots_divide_their_spans_exactly() {
        for span in Span::ALL {
            assert_eq!(span.slot_nanos() * SLOTS, span.nanos());
        }
    }
}

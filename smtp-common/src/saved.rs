//! Windows over a reboot: the boot clock begins anew, and what was charged before it lies at times below zero.
//!
//! A slot is saved as its last instant, and put into the slot in which that instant lies on the new clock. Slots of the two
//! clocks do not begin together, so a unit may be held back a slot longer, and never a moment less than without the reboot.

use crate::window::{SLOTS, Span, Window};

impl Window {
    /// What is in force at `now`, slot by slot: the last instant at which it can have been charged, in nanoseconds of the boot
    /// clock (below zero for what was charged before the boot), and how much.
    pub fn charges(&self, span: Span, now: u64, mut each: impl FnMut(i64, u32)) {
        let mut copy = *self;
        copy.advance(span.slot(now));
        for back in 0..=SLOTS {
            let slot = copy.head as i64 - back as i64;
            let count = if back == SLOTS { copy.expiring } else { copy.ring[(slot.rem_euclid(SLOTS as i64)) as usize] };
            if count > 0 {
                let last = (slot + 1) * span.slot_nanos() as i64 - 1;
                each(if last > now as i64 { now as i64 } else { last }, count);
            }
        }
    }

    /// The window at `now` in which so much was charged so many nanoseconds ago.
    pub fn charged(span: Span, now: u64, charges: impl Iterator<Item = (u64, u32)>) -> Self {
        let mut window = Self { head: span.slot(now), ..Self::EMPTY };
        let length = span.slot_nanos() as i64;
        for (ago, count) in charges {
            // Beyond any window.
            let ago = ago.min(2 * span.nanos()) as i64;
            let slot = (now as i64 - ago).div_euclid(length);
            let back = window.head as i64 - slot;
            let place = if back < SLOTS as i64 {
                &mut window.ring[slot.rem_euclid(SLOTS as i64) as usize]
            } else if back == SLOTS as i64 {
                &mut window.expiring
            } else {
                continue;
            };
            let before = *place;
            *place = before.saturating_add(count);
            window.total += (*place - before) as u64;
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Both, Windows, spans};
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A window in which a unit was charged at each of these times.
    fn window(span: Span, times: &[u64]) -> Window {
        let mut windows = Windows::default();
        for &time in times {
            windows.charge(Both::slots(time), Both::UNLIMITED, spans::BOTH, 1);
        }
        *windows.of(span)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn over_reboots_nothing_is_forgotten_too_early_and_nothing_held_for_long(
            day: bool, start in 0u64..1 << 50, gaps in prop::collection::vec(0..1_000_000u64, 1..60),
            downs in prop::collection::vec((0u64..1_500_000, 0u64..500_000), 1..4),
        ) {
            let span = if day { Span::Day } else { Span::Hour };
            // A millionth of the window is the unit of all times.
            let unit = span.nanos() / 1_000_000;
            let mut now = start;
            let mut wall: Vec<u64> = Vec::new();
            let times: Vec<u64> = gaps.iter().map(|gap| { now += gap * unit / 16; now }).collect();
            wall.extend(&times);
            let mut window = window(span, &times);
            // The wall clock is the first boot's clock; of each boot it is known how far it lies behind.
            let mut behind = 0;
            for (down, up) in &downs {
                let mut saved = Vec::new();
                window.charges(span, now - behind, |last, count| saved.push((last + behind as i64, count)));
                now += down * unit;
                // This long after the boot the agent starts.
                behind = now - (up * unit).min(now);
                let ago = saved.iter().map(|&(last, count)| (now.saturating_add_signed(-last), count));
                window = Window::charged(span, now - behind, ago);
                prop_assert_eq!(window.total, window.expiring as u64 + window.ring.iter().map(|&n| n as u64).sum::<u64>());
                now += up * unit / 2;
            }
            for after in [0, span.slot_nanos() / 3, span.nanos() / 5, span.nanos() - 1, span.nanos(), span.nanos() * 2] {
                let at = now + after;
                let used = window.used(span.slot(at - behind));
                let within = |length: u64| wall.iter().filter(|&&time| time + length > at).count() as u64;
                prop_assert!(used >= within(span.nanos()), "{} of {} in force", used, within(span.nanos()));
                // A slot of the ring's own, and one for each reboot.
                let late = span.slot_nanos() * (downs.len() as u64 + 1);
                prop_assert!(used <= within(span.nanos() + late), "{} held, {} could be", used, within(span.nanos() + late));
            }
        }
    }

    #[test]
    fn what_was_charged_before_the_boot_slides_out_of_a_window_that_lies_around_it() {
        let slot = Span::Hour.slot_nanos();
        // Half an hour ago, and the host is up for two slots.
        let restored = Window::charged(Span::Hour, 2 * slot, [(32 * slot, 7)].into_iter());
        assert_eq!(restored.total, 7);
        assert_eq!(restored.used(2 + 32), 7);
        assert_eq!(restored.used(2 + 33), 0);
    }

    #[test]
    fn a_window_that_cannot_hold_it_holds_as_much_as_it_can() {
        let full = Window::charged(Span::Day, 5, [(0, u32::MAX), (0, u32::MAX)].into_iter());
        assert_eq!(full.total, u32::MAX as u64);
    }
}

//! Properties of one window, under any clock.

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
                if undo { window.uncharge(at, 1) } else { ledger.0.push_back(at) }
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
        with.uncharge(at, 1);
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

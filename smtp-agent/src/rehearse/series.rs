//! Attempts that are spread evenly over a stretch of time, and the order in which those of several flows come, without a
//! list of them: a tight loop makes a thousand million in an hour.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

/// Number n of `count` attempts is in the middle of the n-th part of the stretch. Times are milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Series {
    pub(super) from: i64,
    pub(super) length: i64,
    pub(super) count: u64,
}

impl Series {
    pub(super) fn time(&self, number: u64) -> i64 {
        let count = i128::from(self.count.max(1));
        self.from + (i128::from(self.length) * (2 * i128::from(number) + 1) / (2 * count)) as i64
    }

    /// How many of them come before a time.
    pub(super) fn before(&self, time: i64) -> u64 {
        let (into, length) = (i128::from(time) - i128::from(self.from), i128::from(self.length));
        if into <= 0 {
            return 0;
        }
        if into >= length {
            return self.count;
        }
        // The first n that is not: length * (2 n + 1) >= 2 count * into.
        let doubled = 2 * i128::from(self.count) * into;
        ((doubled + length - 1) / length / 2).min(i128::from(self.count)) as u64
    }
}

/// Of `whole` things that are shared out evenly among `of`, those of these numbers.
pub(super) fn share(whole: u64, numbers: Range<u64>, of: u64) -> u64 {
    let of = of.max(1);
    let upto = |n: u64| (u128::from(whole) * u128::from(n.min(of)) / u128::from(of)) as u64;
    upto(numbers.end) - upto(numbers.start)
}

/// Times of the next attempts, each with the place of its flow: of two at one time the lesser place comes first.
type Queue = BinaryHeap<Reverse<(i64, usize)>>;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) place: usize,
    /// Before this time nothing else comes that can be stopped.
    pub(super) until: i64,
    pub(super) is_free: bool,
}

/// The next attempt of each flow. Those of flows that nothing can stop make no difference to each other: only others must
/// come at their time among them.
#[derive(Default)]
pub(super) struct Queues {
    bound: Queue,
    free: Queue,
}

impl Queues {
    /// The next attempt of the flow at this place.
    pub(super) fn push(&mut self, time: i64, place: usize, is_free: bool) {
        let queue = if is_free { &mut self.free } else { &mut self.bound };
        queue.push(Reverse((time, place)));
    }

    pub(super) fn pop(&mut self) -> Option<Next> {
        let is_free = match (self.free.peek(), self.bound.peek()) {
            // The lesser is the later: they are turned around.
            (Some(free), Some(bound)) => free > bound,
            (free, _) => free.is_some(),
        };
        let queue = if is_free { &mut self.free } else { &mut self.bound };
        let Reverse((_, place)) = queue.pop()?;
        let until = self.bound.peek().map_or(i64::MAX, |Reverse((time, other))| {
            // At one time the lesser place comes first.
            time.saturating_add(i64::from(place < *other))
        });
        Some(Next { place, until, is_free })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_comes_before_a_time_is_counted_without_a_list(
            from in -100_i64..100, length in 0_i64..200, count in 0_u64..300, time in -200_i64..500,
        ) {
            let series = Series { from, length, count };
            let listed = (0..count).filter(|n| series.time(*n) < time).count() as u64;
            prop_assert_eq!(series.before(time), listed);
            prop_assert!((1..count).all(|n| series.time(n - 1) <= series.time(n)));
        }

        #[test]
        fn shares_add_up(whole in 0_u64..1000, of in 1_u64..50, cut in 0_u64..60) {
            prop_assert_eq!((0..of).map(|n| share(whole, n..n + 1, of)).sum::<u64>(), whole);
            prop_assert_eq!(share(whole, 0..cut, of) + share(whole, cut..100, of), whole);
        }
    }

    #[test]
    fn what_nothing_can_stop_comes_in_one_up_to_the_next_that_something_can() {
        let mut queues = Queues::default();
        queues.push(5, 1, false);
        queues.push(3, 0, true);
        queues.push(3, 2, true);
        let mut pop = || queues.pop().map(|Next { place, until, is_free }| (place, until, is_free));
        assert_eq!(pop(), Some((0, 6, true)), "at one time the lesser place is first");
        assert_eq!(pop(), Some((2, 5, true)));
        assert_eq!(pop(), Some((1, i64::MAX, false)));
        assert_eq!(pop(), None);
        queues.push(7, 3, false);
        queues.push(8, 0, true);
        queues.push(9, 1, false);
        let mut pop = || queues.pop().map(|Next { place, until, is_free }| (place, until, is_free));
        assert_eq!(pop(), Some((3, 9, false)));
        assert_eq!(pop(), Some((0, 10, true)));
    }
}

//! Medians, and the order in which cases are visited.

/// The value below which `percent` of the values lie; the nearest one there is.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    assert!(!values.is_empty(), "no values to take a percentile of");
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) * percent / 100]
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// What came of the rounds: the middle, and where all but the outer tenths lie.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) p10: f64,
    pub(crate) p90: f64,
}

impl Summary {
    pub(crate) fn of(values: &[f64]) -> Self {
        Self { median: median(values), p10: percentile(values, 10), p90: percentile(values, 90) }
    }

    /// Of the differences of values that were measured in the same round.
    pub(crate) fn of_differences(values: &[f64], baseline: &[f64]) -> Self {
        assert_eq!(values.len(), baseline.len(), "rounds are compared in pairs");
        Self::of(&values.iter().zip(baseline).map(|(value, base)| value - base).collect::<Vec<_>>())
    }
}

/// A small generator (xorshift64, Marsaglia 2003): the order of cases needs no better one.
pub(crate) struct Shuffle(u64);

impl Shuffle {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            items.swap(i, (self.0 % (i as u64 + 1)) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_of_paired_differences_and_outliers_do_not_move_its_median() {
        let base: Vec<f64> = (0..11).map(f64::from).collect();
        let mut with: Vec<f64> = base.iter().map(|value| value + 7.0).collect();
        with[3] = 1e9;
        let summary = Summary::of_differences(&with, &base);
        assert_eq!(summary, Summary { median: 7.0, p10: 7.0, p90: 7.0 });
        assert_eq!(percentile(&base, 10), 1.0);
        assert_eq!(percentile(&base, 90), 9.0);
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_does_not_repeat_itself() {
        let mut shuffle = Shuffle::new(42);
        let mut orders: Vec<Vec<u32>> = (0..20)
            .map(|_| {
                let mut items: Vec<u32> = (0..10).collect();
                shuffle.shuffle(&mut items);
                items
            })
            .collect();
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>());
        }
        orders.sort();
        orders.dedup();
        assert_eq!(orders.len(), 20);
    }
}

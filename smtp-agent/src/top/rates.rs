//! How fast accounts go, from counts that only grow.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Samples that are kept of each account: as many as a wide terminal shows.
pub(super) const SAMPLES: usize = 60;

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Rates {
    at: VecDeque<Instant>,
    of: HashMap<String, VecDeque<u64>>,
}

impl Rates {
    /// Takes each account's count at a moment. One that is not named any more is forgotten.
    pub(super) fn sample(&mut self, now: Instant, counts: impl Iterator<Item = (String, u64)>) {
        self.at.push_back(now);
        let length = self.at.len();
        let mut kept = HashMap::new();
        for (account, count) in counts {
            let mut samples = self.of.remove(&account).unwrap_or_default();
            // What is seen for the first time was there before we looked, or has begun since.
            let before = if length > 1 { 0 } else { count };
            while samples.len() < length - 1 {
                samples.push_back(samples.back().copied().unwrap_or(before));
            }
            samples.push_back(count);
            kept.insert(account, samples);
        }
        self.of = kept;
        if self.at.len() > SAMPLES + 1 {
            self.at.pop_front();
            for samples in self.of.values_mut() {
                samples.pop_front();
            }
        }
    }

    /// By how much the count grew between samples, the last at the end.
    pub(super) fn steps(&self, account: &str) -> Vec<u64> {
        let Some(samples) = self.of.get(account) else { return Vec::new() };
        samples.iter().zip(samples.iter().skip(1)).map(|(before, after)| after.saturating_sub(*before)).collect()
    }

    /// In a minute, by the samples of the last one.
    pub(super) fn per_minute(&self, account: &str) -> f64 {
        let (Some(samples), Some(now)) = (self.of.get(account), self.at.back()) else { return 0.0 };
        let first = self.at.iter().position(|at| now.duration_since(*at) <= MINUTE).unwrap_or(0);
        let seconds = now.duration_since(self.at[first]).as_secs_f64();
        let grown = samples.back().zip(samples.get(first)).map_or(0, |(last, first)| last.saturating_sub(*first));
        if seconds > 0.0 { grown as f64 * 60.0 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampled(counts: &[&[(&str, u64)]]) -> Rates {
        let start = Instant::now();
        let mut rates = Rates::default();
        for (n, counts) in counts.iter().enumerate() {
            let now = start + Duration::from_secs(10) * n as u32;
            rates.sample(now, counts.iter().map(|(name, count)| ((*name).to_owned(), *count)));
        }
        rates
    }

    #[test]
    fn growth_is_a_rate_and_what_was_there_before_is_none() {
        let rates = sampled(&[&[("a", 1000)], &[("a", 1005), ("new", 4)], &[("a", 1020), ("new", 4)]]);
        assert_eq!(rates.steps("a"), [5, 15]);
        assert_eq!(rates.per_minute("a"), 60.0);
        assert_eq!(rates.steps("new"), [4, 0], "it has begun while we looked");
        assert_eq!((rates.per_minute("absent"), rates.steps("absent").len()), (0.0, 0));
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute_and_history_is_bounded() {
        let many: Vec<Vec<(&str, u64)>> = (0..200).map(|n| vec![("a", if n < 100 { n * 10 } else { 1000 })]).collect();
        let many: Vec<&[(&str, u64)]> = many.iter().map(Vec::as_slice).collect();
        let rates = sampled(&many);
        assert_eq!(rates.per_minute("a"), 0.0);
        assert_eq!(rates.steps("a").len(), SAMPLES);
        assert_eq!(sampled(&many[..50]).per_minute("a"), 60.0);
    }

    #[test]
    fn counts_that_begin_anew_are_no_negative_rate() {
        assert_eq!(sampled(&[&[("a", 9)], &[("a", 2)]]).steps("a"), [0]);
    }
}

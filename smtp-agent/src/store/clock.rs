//! Whether the wall clock is believed when it says that something is too old: one that runs ahead for a while, as at a boot
//! without a battery, must not cost the history.

use std::time::{Duration, Instant};

use super::{record::Millis, schema::Level};

/// How far ahead of the last time it may be at once, where `keep` is not shorter.
const FAR: Millis = Level::Day.millis();
/// How long it must say so before it is believed: by then somebody, or NTP, would have set it right. A host that was switched
/// off for days keeps what is too old for so much longer.
const HOLDS: Duration = Duration::from_secs(3_600);

/// The last time that was believed, and since when another is told.
pub(super) struct Trust {
    believed: Option<Millis>,
    doubted: Option<Instant>,
}

impl Trust {
    pub(super) fn new(believed: Option<Millis>) -> Self {
        Self { believed, doubted: None }
    }

    /// How far the clock may go at once.
    pub(super) fn far(keep: Duration) -> Millis {
        i64::try_from(keep.as_millis()).unwrap_or(i64::MAX).min(FAR)
    }

    /// Whether what is too old by this clock may go. One that is set back makes nothing too old.
    pub(super) fn believes(&mut self, now: Millis, at: Instant, keep: Duration) -> bool {
        let is_far = self.believed.is_some_and(|believed| now.saturating_sub(believed) > Self::far(keep));
        let doubted = is_far.then(|| *self.doubted.get_or_insert(at));
        if doubted.is_some_and(|since| at.saturating_duration_since(since) < HOLDS) {
            return false;
        }
        *self = Self::new(Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONTH: Duration = Duration::from_secs(31 * 86_400);

    #[test]
    fn a_clock_that_runs_ahead_is_believed_only_when_it_goes_on_saying_so() {
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut trust = Trust::new(Some(0));
        assert!(trust.believes(FAR, begin, MONTH));
        assert!(!trust.believes(2 * FAR + 1, after(1), MONTH));
        assert!(!trust.believes(400 * FAR, after(3_500), MONTH));
        assert!(trust.believes(FAR + 1, after(3_600), MONTH), "it was set right");
        assert!(!trust.believes(400 * FAR, after(3_700), MONTH), "the doubt begins anew");
        assert!(!trust.believes(400 * FAR, after(7_299), MONTH));
        assert!(trust.believes(400 * FAR, after(7_300), MONTH));
        assert!(trust.believes(0, after(7_301), MONTH), "set back");
        assert!(Trust::new(None).believes(400 * FAR, begin, MONTH), "nothing is known of before");
    }

    #[test]
    fn where_little_is_kept_less_is_far() {
        let hour = Level::Hour.millis();
        let keep = Duration::from_secs(3_600);
        assert!(Trust::new(Some(0)).believes(hour, Instant::now(), keep));
        assert!(!Trust::new(Some(0)).believes(hour + 1, Instant::now(), keep));
        assert!(Trust::new(Some(0)).believes(hour + 1, Instant::now(), MONTH));
    }
}

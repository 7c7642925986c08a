//! Two clocks: the wall clock, which survives a reboot, and the boot clock, which the kernel program reads and nobody sets.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// The last millisecond that RFC 3339 can write: the end of the year 9999.
const LAST: u64 = 253_402_300_799_999;

/// A time of the wall clock, in milliseconds since 1970. Written in RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(u64);

impl Time {
    pub const EPOCH: Self = Self(0);

    pub fn now() -> Self {
        SystemTime::now().into()
    }

    #[must_use]
    pub fn after(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)).min(LAST))
    }

    /// Seconds until it, the begun one included; 0 when it has passed.
    pub fn seconds_from(self, now: Self) -> u64 {
        self.0.saturating_sub(now.0).div_ceil(1000)
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self(u64::try_from(since).unwrap_or(LAST).min(LAST))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(self.0)).fmt(f)
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match humantime::parse_rfc3339(&text) {
            Ok(time) => Ok(time.into()),
            Err(e) => Err(format!("{text:?} is no time as RFC 3339 writes it: {e}")),
        }
    }
}

/// How far the wall clock is ahead of the boot clock. Kept, so that the same time is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// In nanoseconds.
    ahead: i128,
}

const MILLISECOND: i128 = 1_000_000;
/// The wall clock is steered a little all the time. Beyond this it was set.
const JUMP: u128 = 1_000_000_000;

impl Clock {
    /// Both clocks as read one after the other; `boot` in nanoseconds.
    pub fn new(wall: Time, boot: u64) -> Self {
        Self { ahead: wall.0 as i128 * MILLISECOND - boot as i128 }
    }

    /// What the kernel is told: nanoseconds of the boot clock, 0 for never. A time before the boot has passed, and 1 says so.
    pub fn boot(self, until: Option<Time>) -> u64 {
        let Some(until) = until else { return 0 };
        u64::try_from(until.0 as i128 * MILLISECOND - self.ahead).unwrap_or(0).max(1)
    }

    /// The time of the wall clock at this moment of the boot clock.
    pub fn wall(self, boot: u64) -> Time {
        let millis = (boot as i128 + self.ahead) / MILLISECOND;
        Time(u64::try_from(millis).unwrap_or(0).min(LAST))
    }

    /// Somebody has set the wall clock in between.
    pub fn has_jumped(self, since: Self) -> bool {
        (self.ahead - since.ahead).unsigned_abs() > JUMP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_written_as_rfc_3339_and_read_back() {
        let time = Time(1_795_169_831_639);
        assert_eq!(time.to_string(), "2026-11-20T10:17:11.639Z");
        assert_eq!(Time::try_from(time.to_string()), Ok(time));
        assert_eq!(Time(LAST).after(1), Time(LAST), "the calendar ends there");
        for wrong in ["", "soon", "2026-11-20", "10000-01-01T00:00:00Z"] {
            assert!(Time::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn seconds_left_include_the_begun_one() {
        assert_eq!(Time(2_001).seconds_from(Time(1_000)), 2);
        assert_eq!(Time(2_000).seconds_from(Time(1_000)), 1);
        assert_eq!(Time(1_000).seconds_from(Time(1_000)), 0);
        assert_eq!(Time(1_000).seconds_from(Time(9_000)), 0);
    }

    #[test]
    fn only_a_clock_that_was_set_has_jumped() {
        let clock = Clock::new(Time(100_000), 5_000_000_000);
        assert!(!clock.has_jumped(Clock::new(Time(160_999), 65_000_000_000)));
        assert!(clock.has_jumped(Clock::new(Time(161_001), 65_000_000_000)), "forward");
        assert!(clock.has_jumped(Clock::new(Time(158_999), 65_000_000_000)), "back");
    }

    proptest! {
        #[test]
        fn both_clocks_tell_the_same_time(wall in 0..=LAST, boot in 1..=1_u64 << 60, seconds in 1..=1_u64 << 34) {
            let clock = Clock::new(Time(wall), boot);
            let until = Time(wall).after(seconds);
            let told = clock.boot(Some(until));
            prop_assert!(told >= boot);
            prop_assert_eq!(clock.wall(told), until);
        }

        #[test]
        fn what_has_lapsed_is_never_told_as_for_ever(wall in 0..=LAST, boot: u64, until in 0..=LAST) {
            let clock = Clock::new(Time(wall), boot);
            prop_assert_ne!(clock.boot(Some(Time(until))), 0);
            prop_assert_eq!(clock.boot(None), 0);
        }
    }
}

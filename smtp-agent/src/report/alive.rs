//! Whether a process of the past still runs: the number alone does not tell, since numbers are given out again.

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// Clock ticks per second in /proc/PID/stat: `USER_HZ`, 100 on every Linux architecture.
const NANOS_PER_TICK: u64 = 10_000_000;
/// The start was worked out from two clocks, one of which is steered.
const TOLERANCE: Duration = Duration::from_secs(1);

/// Whether the process with this number is the one that began then (RFC 3339). `None`: nobody knows when it began.
pub fn is_alive(tgid: u32, started: Option<&str>) -> Option<bool> {
    let started = humantime::parse_rfc3339(started?).ok()?;
    Some(start_of(tgid).is_some_and(|found| {
        let apart = found.duration_since(started).unwrap_or_else(|e| e.duration());
        apart <= TOLERANCE
    }))
}

/// When a process that runs now began.
pub fn start_of(tgid: u32) -> Option<SystemTime> {
    let ticks = procfs::process::Process::new(i32::try_from(tgid).ok()?).ok()?.stat().ok()?.starttime;
    let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    let age = boot.checked_sub(Duration::from_nanos(ticks.checked_mul(NANOS_PER_TICK)?))?;
    SystemTime::now().checked_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_that_had_its_number_before_is_not() {
        let own = std::process::id();
        let started = start_of(own).unwrap();
        let at = |time| humantime::format_rfc3339_millis(time).to_string();
        assert_eq!(is_alive(own, Some(&at(started))), Some(true));
        assert_eq!(is_alive(own, Some(&at(started - Duration::from_secs(5)))), Some(false));
        assert_eq!(is_alive(own, None), None);
        assert_eq!(is_alive(u32::MAX, Some(&at(started))), Some(false));
        assert_eq!(is_alive(own, Some("some day")), None);
    }
}

//! Waiting for something that happens in another process.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, and fails the test when it does not within `deadline`.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    assert!(holds_within(deadline, &mut condition), "did not happen within {deadline:?}: {what}");
}

/// Like [`eventually`] for a value that is not there yet.
#[track_caller]
pub fn eventually_some<T>(deadline: Duration, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(deadline, what, || {
        found = find();
        found.is_some()
    });
    found.expect("the condition held")
}

/// Whether `condition` comes to hold within `deadline`. It is looked at once more when the time is over.
pub fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        let last = Instant::now() >= end;
        if condition() {
            return true;
        }
        if last {
            return false;
        }
        std::thread::sleep(STEP);
    }
}

//! Several things at once, on threads whose panics are the test's own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
};

fn joined<T>(hand: ScopedJoinHandle<'_, T>) -> T {
    hand.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Does all of them at once.
pub fn at_once<T: Send>(jobs: impl IntoIterator<Item = impl FnOnce() -> T + Send>) -> Vec<T> {
    thread::scope(|scope| {
        let hands: Vec<_> = jobs.into_iter().map(|job| scope.spawn(job)).collect();
        hands.into_iter().map(joined).collect()
    })
}

/// Does `during` while every job goes on, until it is told to stop.
pub fn while_going_on<T: Send, const N: usize>(
    jobs: [impl FnOnce(&AtomicBool) -> T + Send; N],
    during: impl FnOnce(),
) -> [T; N] {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let hands = jobs.map(|job| scope.spawn(move || job(stop)));
        let outcome = catch_unwind(AssertUnwindSafe(during));
        stop.store(true, Ordering::Relaxed);
        let results = hands.map(joined);
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
        results
    })
}

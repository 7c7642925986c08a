//! What the programs on the tracepoints take of a process's start, as the kernel times them.

use super::places::World;
use crate::bpf::{Hook, Loaded, Runs};
use smtp_common::names::program;
use smtp_tests::Must;
use std::process::Command;

const STARTS: u64 = 300;

/// Nanoseconds of one run.
pub(crate) struct Tracer {
    pub(crate) name: &'static str,
    pub(crate) empty: f64,
    pub(crate) ours: f64,
}

/// To be called while the kernel times programs. The tracepoints are the whole host's: what else starts meanwhile runs the
/// same programs, and is in both figures.
pub(crate) fn measure(world: &World) -> [Tracer; 2] {
    let tracers =
        [(program::EXEC, c"sched_process_exec"), (program::FORK, c"sched_process_fork")].map(|(name, tracepoint)| {
            (name, Loaded::empty(Hook::Tracepoint(tracepoint)).attached_to_tracepoint(), world.tracer(name))
        });
    let read = || tracers.each_ref().map(|(_, empty, ours)| (empty.runs(), Runs::of(ours)));
    let before = read();
    for _ in 0..STARTS {
        let status = Command::new("/bin/true").status().must("cannot run /bin/true");
        assert!(status.success(), "/bin/true has failed: {status}");
    }
    let after = read();
    [0, 1].map(|i| {
        let (empty, ours) = (after[i].0.since(before[i].0), after[i].1.since(before[i].1));
        for runs in [empty, ours] {
            let (name, count) = (tracers[i].0, runs.count());
            assert!(count >= STARTS, "{STARTS} programs were started, and {name} ran {count} times");
        }
        Tracer { name: tracers[i].0, empty: empty.mean(), ours: ours.mean() }
    })
}

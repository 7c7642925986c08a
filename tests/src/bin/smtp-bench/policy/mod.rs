//! What the size of a policy costs: how long it takes until it is in force, what it takes of memory, and what it adds to
//! the decision about a connect().

mod cases;
mod load;
mod memory;
mod report;
mod texts;
mod world;

use crate::{
    bpf,
    connect::timing::{self, Answer},
    is_interrupted, place, progress,
    stats::Shuffle,
};
use cases::Case;
use report::{Line, Report};
use world::World;

/// Batches of one case in one round; the median batch stands for the round.
const BATCHES: usize = 40;
/// Before them, uncounted: caches and branch predictors are filled, windows made.
const WARM_UP: usize = 2;
/// Rounds for the kernel's own timing.
const FEW_ROUNDS: usize = 20;

/// `None` when a signal came.
pub(crate) fn measure(rounds: usize, shuffle: &mut Shuffle) -> Option<Report> {
    let (lines, counted) = decisions(rounds, shuffle)?;
    Some(Report { lines, counted, loads: load::measure()? })
}

fn decisions(rounds: usize, shuffle: &mut Shuffle) -> Option<(Vec<Line>, u64)> {
    let world = World::new();
    let _pinned = place::pin();
    let mut lines: Vec<Line> = Case::all().into_iter().map(Line::new).collect();
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let mut made = 0;
    for round in 0..rounds {
        progress("policy", round, rounds);
        shuffle.shuffle(&mut order);
        for &index in &order {
            if is_interrupted() {
                return None;
            }
            let case = lines[index].case;
            made += calls(case, WARM_UP + BATCHES);
            lines[index].took.push(world.visit(case, || {
                connects(&world, case, WARM_UP);
                connects(&world, case, BATCHES)
            }));
        }
    }
    let statistics = bpf::enable_statistics();
    for _ in 0..FEW_ROUNDS {
        shuffle.shuffle(&mut order);
        for &index in &order {
            if is_interrupted() {
                return None;
            }
            let case = lines[index].case;
            made += calls(case, BATCHES);
            let before = world.runs(case);
            world.visit(case, || connects(&world, case, BATCHES));
            lines[index].program.push(world.runs(case).since(before).mean());
        }
    }
    drop(statistics);
    let counted = world.counted();
    assert!(
        counted == made,
        "the gates counted {counted} connections of {made} that were made: something else was measured"
    );
    Some((lines, counted))
}

/// Nanoseconds of one connect() that fails for want of a route.
fn connects(world: &World, case: Case, batches: usize) -> f64 {
    let to = world.no_route(case);
    match case.who.uids()[..] {
        [_] => timing::one_socket(to, Answer::Unreachable, batches),
        ref several => timing::in_turn(several, to, Answer::Unreachable, cycles(batches)),
    }
}

/// Cycles through accounts that take about as long as so many batches of one.
const fn cycles(batches: usize) -> usize {
    batches.div_ceil(10)
}

/// How many connect() calls [`connects`] makes.
fn calls(case: Case, batches: usize) -> u64 {
    match case.who.uids().len() {
        1 => timing::repeated_calls(batches),
        several => (cycles(batches) * several) as u64,
    }
}

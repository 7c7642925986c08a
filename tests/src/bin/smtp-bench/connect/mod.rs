//! Nanoseconds the gate adds to a connect().

mod cases;
mod nft;
mod report;
pub(crate) mod timing;
pub(crate) mod wire;
mod world;

use crate::{bpf, is_interrupted, place, progress, stats::Shuffle};
use report::{Line, Report};
use smtp_tests::Must;
use world::World;

/// Batches of one case in one round; the median batch stands for the round.
const BATCHES: usize = 40;
/// Before them, uncounted: caches and branch predictors are filled, windows and meters made and used up.
const WARM_UP: usize = 2;
/// Rounds for the two lesser questions.
const FEW_ROUNDS: usize = 20;

/// `None` when a signal came.
pub(crate) fn measure(rounds: usize, shuffle: &mut Shuffle) -> Option<Report> {
    let first_program =
        world::cost_of_first_program(FEW_ROUNDS, |to| timing::one_socket(to, timing::Answer::Unreachable, BATCHES));
    let world = World::new();
    let _pinned = place::pin();
    let cases = cases::Case::all();
    let mut lines: Vec<Line> = cases.iter().map(|&case| Line::new(case)).collect();
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let mut seen_by_gates = 0;

    for round in 0..rounds {
        progress("connect()", round, rounds);
        shuffle.shuffle(&mut order);
        for &index in &order {
            if is_interrupted() {
                return None;
            }
            let line = &mut lines[index];
            world.visit(line.case, || measure_once(&world, line));
            seen_by_gates += line.case.connections_counted(calls_of_a_visit(line));
        }
    }
    let statistics = bpf::enable_statistics();
    for _ in 0..FEW_ROUNDS {
        shuffle.shuffle(&mut order);
        for &index in &order {
            if is_interrupted() {
                return None;
            }
            let line = &mut lines[index];
            let Some(before) = world.runs(line.case.place) else { continue };
            world.visit(line.case, || {
                timing::one_socket(world.no_route(line.case), line.case.answer_without_route(), BATCHES)
            });
            let after = world.runs(line.case.place).must("the program was there before");
            line.program.push(after.since(before).mean());
            seen_by_gates += line.case.connections_counted(timing::repeated_calls(BATCHES));
        }
    }
    drop(statistics);

    let counted = world.counted_by_gates();
    assert!(
        counted == seen_by_gates,
        "the gates counted {counted} connections of {seen_by_gates} that were made: something else was measured"
    );
    Some(Report { lines, first_program, counted })
}

/// One round of one case, in its place.
fn measure_once(world: &World, line: &mut Line) {
    let case = line.case;
    timing::fresh_sockets(world.void(case), timing::Answer::Any, WARM_UP);
    let before = world.packets_sent(case);
    line.whole.push(timing::fresh_sockets(world.void(case), case.answer(), BATCHES));
    let sent = world.packets_sent(case) - before;
    let wanted = if case.is_let_through() { timing::fresh_calls(BATCHES) } else { 0 };
    // The wire carries a stray packet of IPv6 now and then.
    assert!(
        sent.abs_diff(wanted) < 20,
        "{} ({}): {sent} packets left, and {wanted} should have: something else was measured",
        case.scenario.name(),
        case.place.name()
    );
    if case.place.is_on_host() {
        let to = world.no_route(case);
        timing::one_socket(to, timing::Answer::Any, WARM_UP);
        line.hook.push(timing::one_socket(to, case.answer_without_route(), BATCHES));
    }
}

fn calls_of_a_visit(line: &Line) -> u64 {
    let on_one_socket = if line.case.place.is_on_host() { timing::repeated_calls(WARM_UP + BATCHES) } else { 0 };
    timing::fresh_calls(WARM_UP + BATCHES) + on_one_socket
}

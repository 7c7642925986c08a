//! What the gate adds to packets, sessions and messages, in time and in memory, and to executions.

mod books;
mod cases;
mod exec;
mod memory;
mod places;
mod report;
mod talk;

use crate::{
    bpf::{self, Runs, run_in_vitro},
    is_interrupted, place, progress,
    stats::{Shuffle, Summary, median},
};
use books::Books;
use cases::{Case, Script};
use places::{Empties, Place, Way, World};
use report::{Line, Report};
use smtp_tests::{Cgroup, Must};
use std::time::Instant;
use talk::Talk;

/// Rounds for the lesser questions.
const FEW_ROUNDS: usize = 20;
/// Units before a visit's first batch, uncounted: caches, branch predictors and buffers are filled.
const WARM_UP: usize = 2;
/// Runs of a program on request, between two readings of the clock.
const IN_VITRO: u32 = 100_000;

/// `None` when a signal came.
pub(crate) fn measure(rounds: usize, shuffle: &mut Shuffle) -> Option<Report> {
    let first_programs = cost_of_first_programs();
    let world = World::new();
    let _pinned = place::pin();
    let mut books = Books::default();
    let memory = memory::measure(&world, &mut books);
    let mut lines = Line::all();
    let scripts: Vec<Script> = lines.iter().map(|line| Script::of(line.case)).collect();
    let mut order = Order::new(lines.len() / Place::ALL.len(), shuffle);
    let mut in_vitro = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];

    for round in 0..rounds {
        progress("messages", round, rounds);
        for index in order.next_round() {
            if is_interrupted() {
                return None;
            }
            let line = &mut lines[index];
            line.took.push(visit(&world, line.case, line.place, &scripts[index], &mut books));
        }
        for way in Way::BOTH {
            for (program, values) in world.programs(way).into_iter().zip(&mut in_vitro[way as usize]) {
                values.push(run_in_vitro(program, IN_VITRO));
            }
        }
    }
    let statistics = bpf::enable_statistics();
    for _ in 0..FEW_ROUNDS {
        for index in order.next_round() {
            if is_interrupted() {
                return None;
            }
            let line = &mut lines[index];
            let Some(before) = world.runs(line.place) else { continue };
            visit(&world, line.case, line.place, &scripts[index], &mut books);
            let after = world.runs(line.place).must("the programs were there before");
            line.note_programs(Way::BOTH.map(|way| after[way as usize].since(before[way as usize])));
        }
    }
    let tracers = exec::measure(&world);
    drop(statistics);
    books::check(&world, &books);
    let retransmits = world.gate().metrics().value("smtp_session_retransmits_total", &[]) as u64;
    Some(Report { lines, first_programs, in_vitro, memory, tracers, counted: books.gate, retransmits })
}

/// The order in which lines are visited: case by case, drawn anew each round, and within a case its places, so that what
/// is compared lies close together in time.
struct Order<'a> {
    cases: Vec<usize>,
    shuffle: &'a mut Shuffle,
}

impl<'a> Order<'a> {
    fn new(cases: usize, shuffle: &'a mut Shuffle) -> Self {
        Self { cases: (0..cases).collect(), shuffle }
    }

    /// Indices of lines as [`Line::all`] has them.
    fn next_round(&mut self) -> Vec<usize> {
        self.shuffle.shuffle(&mut self.cases);
        let places = Place::ALL.len();
        let mut lines = Vec::new();
        for case in &self.cases {
            let mut of_case: Vec<usize> = (case * places..(case + 1) * places).collect();
            self.shuffle.shuffle(&mut of_case);
            lines.extend(of_case);
        }
        lines
    }
}

/// Nanoseconds of one unit of the case in the place.
fn visit(world: &World, case: Case, place: Place, script: &Script, books: &mut Books) -> f64 {
    let book = books.of(place, case);
    world.visit(place, || {
        let listener = world.listener(case);
        if case.is_connection() {
            let mut ended = Vec::new();
            let took = time(case, || {
                let mut talk = Talk::with(&listener);
                script.open(&mut talk);
                script.close(&mut talk);
                ended.push(talk.said);
                talk.end();
            });
            if let Some(book) = book {
                ended.into_iter().for_each(|said| book.note(said));
            }
            return took;
        }
        let mut talk = Talk::with(&listener);
        script.open(&mut talk);
        let took = time(case, || script.perform(&mut talk));
        script.close(&mut talk);
        if let Some(book) = book {
            book.note(talk.said);
            book.messages += script.messages * case.units_of_a_visit();
        }
        talk.end();
        took
    })
}

fn time(case: Case, mut unit: impl FnMut()) -> f64 {
    let shape = case.shape();
    (0..WARM_UP).for_each(|_| unit());
    let batch = || {
        let began = Instant::now();
        (0..shape.units).for_each(|_| unit());
        began.elapsed().as_nanos() as f64 / shape.units as f64
    };
    median(&std::iter::repeat_with(batch).take(shape.batches).collect::<Vec<_>>())
}

impl Case {
    fn units_of_a_visit(self) -> u64 {
        let shape = self.shape();
        (WARM_UP + shape.batches * shape.units) as u64
    }
}

/// What the first programs of their kind cost everybody on the host: until there are some, the kernel does not even look
/// (`cgroup_bpf_enabled_key`). Nanoseconds of a packet each way in a cgroup without a program, with and without
/// programs elsewhere.
fn cost_of_first_programs() -> Summary {
    let (nothing, elsewhere) = (Cgroup::new("bench-nothing"), Cgroup::new("bench-empty"));
    let _home = place::Home::here();
    place::enter_cgroup(nothing.path());
    let _pinned = place::pin();
    let script = Script::of(Case::Packets);
    let mut talk = Talk::with(&places::loopback());
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..FEW_ROUNDS {
        let programs = Empties::on(&elsewhere);
        with.push(time(Case::Packets, || script.perform(&mut talk)));
        drop(programs);
        without.push(time(Case::Packets, || script.perform(&mut talk)));
    }
    Summary::of_differences(&with, &without)
}

/// Runs in both directions together.
fn both(runs: [Runs; 2]) -> Runs {
    runs[0].plus(runs[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_visits_every_line_once_and_the_places_of_a_case_together() {
        let lines = Line::all();
        let mut shuffle = Shuffle::new(1);
        let round = Order::new(lines.len() / Place::ALL.len(), &mut shuffle).next_round();
        for four in round.chunks(Place::ALL.len()) {
            assert!(four.iter().all(|&index| lines[index].case == lines[four[0]].case));
            assert!(Place::ALL.iter().all(|place| four.iter().any(|&index| lines[index].place == *place)));
        }
        let mut sorted = round;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..lines.len()).collect::<Vec<_>>());
    }
}

//! `smtp-bench`: nanoseconds the kernel gate adds to a connect(), beside an empty program and nftables.
//! `cargo xtask bench` builds and runs it; docs/benchmarks.md says how to read what it prints.

mod bpf;
mod cases;
mod nft;
mod report;
mod stats;
mod timing;
mod wire;
mod world;

use clap::Parser;
use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::geteuid,
};
use report::{Line, Report};
use smtp_tests::Must;
use stats::Shuffle;
use std::{
    panic,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};
use world::World;

/// Batches of one case in one round; the median batch stands for the round.
const BATCHES: usize = 40;
/// Before them, uncounted: caches and branch predictors are filled, windows and meters made and used up.
const WARM_UP: usize = 2;
/// Rounds for the two lesser questions.
const FEW_ROUNDS: usize = 20;

#[derive(Parser)]
#[command(about = "Nanoseconds the kernel gate adds to a connect(), beside an empty program and nftables")]
struct Arguments {
    /// How often every case is measured, in an order that is drawn anew each time
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !geteuid().is_root() {
        eprintln!("smtp-bench: it makes cgroups and network namespaces and loads programs, which needs root");
        return ExitCode::from(77);
    }
    panic::set_hook(Box::new(|info| {
        eprintln!("smtp-bench: {}", info.payload_as_str().unwrap_or("it failed without a word"));
    }));
    watch_signals();
    match panic::catch_unwind(|| measure(arguments.rounds as usize)) {
        Ok(Some(report)) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::from(130),
        Err(_) => ExitCode::FAILURE,
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn interrupted(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// A signal ends the bench between two cases, where everything can be taken away again.
fn watch_signals() {
    let action = SigAction::new(SigHandler::Handler(interrupted), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.must("cannot catch a signal");
    }
}

/// `None` when a signal came.
fn measure(rounds: usize) -> Option<Report> {
    let first_program =
        world::cost_of_first_program(FEW_ROUNDS, |to| timing::one_socket(to, timing::Answer::Unreachable, BATCHES));
    let world = World::new();
    let processor = world::pin();
    let cases = cases::Case::all();
    let mut lines: Vec<Line> = cases.iter().map(|&case| Line::new(case)).collect();
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let mut shuffle = Shuffle::new(SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64));
    let mut seen_by_gates = 0;

    for round in 0..rounds {
        // On a terminal the line is written over; in a log it would only be noise.
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            eprint!("\rround {} of {rounds}", round + 1);
        }
        shuffle.shuffle(&mut order);
        for &index in &order {
            if INTERRUPTED.load(Ordering::Relaxed) {
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
            if INTERRUPTED.load(Ordering::Relaxed) {
                return None;
            }
            let line = &mut lines[index];
            let Some(before) = world.runs(line.case.place) else { continue };
            world.visit(line.case, || {
                timing::one_socket(world.no_route(line.case), line.case.answer_without_route(), BATCHES)
            });
            let after = world.runs(line.case.place).must("the program was there before");
            line.program.push(after.mean_since(before));
            seen_by_gates += line.case.connections_counted(timing::repeated_calls(BATCHES));
        }
    }
    drop(statistics);
    eprintln!();

    let counted = world.counted_by_gates();
    assert!(
        counted == seen_by_gates,
        "the gates counted {counted} connections of {seen_by_gates} that were made: something else was measured"
    );
    Some(Report { lines, first_program, rounds, processor, counted })
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

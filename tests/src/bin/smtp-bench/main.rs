//! `smtp-bench`: what the kernel gate adds to a connect(), beside an empty program and nftables, and to packets, sessions
//! and messages, what the size of a policy does to it, and how long reports take. `cargo xtask bench` builds and runs it; docs/benchmarks.md says how to read what it prints.

mod bpf;
mod connect;
mod history;
mod messages;
mod place;
mod policy;
mod stats;

use clap::{Parser, ValueEnum};
use nix::{
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    unistd::geteuid,
};
use smtp_tests::Must;
use stats::Shuffle;
use std::{
    fs,
    io::{IsTerminal, stderr},
    panic,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Parser)]
#[command(about = "What the kernel gate adds to a connect(), to packets, sessions and messages")]
struct Arguments {
    /// How often every case is measured, in an order that is drawn anew each time
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Measure one part only
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// connect()
    Connect,
    /// Packets, sessions, messages and executions
    Messages,
    /// Policies of many accounts, cgroups and exceptions
    Policy,
    /// Reports over a month of ten million events
    History,
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
    match panic::catch_unwind(|| measure(&arguments)) {
        Ok(Some(())) => ExitCode::SUCCESS,
        Ok(None) => ExitCode::from(130),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints each part when it is done. `None` when a signal came.
fn measure(arguments: &Arguments) -> Option<()> {
    let rounds = arguments.rounds as usize;
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let mut shuffle = Shuffle::new(SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64));
    println!(
        "{}\nAll figures are medians of {rounds} rounds, times in nanoseconds unless it says otherwise.\n",
        machine()
    );
    if wanted(Part::Connect) {
        println!("# connect()\n\n{}", connect::measure(rounds, &mut shuffle)?);
    }
    if wanted(Part::Messages) {
        println!("# Packets, sessions and messages\n\n{}", messages::measure(rounds, &mut shuffle)?);
    }
    if wanted(Part::Policy) {
        println!("# Large policies\n\n{}", policy::measure(rounds, &mut shuffle)?);
    }
    if wanted(Part::History) {
        println!("# Reports over a month\n\n{}", history::measure(rounds)?);
    }
    Some(())
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

fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// On a terminal the line is written over; in a log it would only be noise.
fn progress(part: &str, round: usize, rounds: usize) {
    if stderr().is_terminal() {
        eprint!("\r{part}: round {} of {rounds} ", round + 1);
        if round + 1 == rounds {
            eprintln!();
        }
    }
}

fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let model =
        processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let jit = if read("/proc/sys/net/core/bpf_jit_enable").trim() == "0" { ", BPF JIT off" } else { "" };
    let model = model.unwrap_or("an unknown processor");
    format!("Linux {}{jit}; {model}, {cores} cores", read("/proc/sys/kernel/osrelease").trim())
}

//! The places, and going from one to the other.
//!
//! One process goes everywhere: processes of their own would differ in the memory they were given, which
//! shows in figures as small as these. A socket belongs for good to the cgroup, the network namespace and
//! the user it was made by, so each place is entered before its sockets are made.

use crate::{
    bpf::{Empty, Runs, program_of_link},
    cases::{Case, Place, Scenario, config},
    nft,
    stats::Summary,
    wire::{Unreachable, Void},
};
use nix::{
    sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns},
    unistd::{Pid, Uid, setresuid},
};
use smtp_tests::{Agent, Cgroup, Must, Netns, cgroup};
use std::{
    fs::{self, File},
    net::SocketAddrV4,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

pub(crate) struct World {
    /// First, so that we are out of the cgroups before they are removed, which kills who is in them.
    home: Home,
    nothing: Cgroup,
    empty_cgroup: Cgroup,
    empty: Empty,
    gate: Gate,
    gate_without_events: Gate,
    host_void: Void,
    unreachable: Unreachable,
    ns: Netns,
    ns_file: File,
    ns_void: Void,
}

/// An agent with the cgroup and the program that are its own.
pub(crate) struct Gate {
    agent: Agent,
    program: OwnedFd,
}

impl Gate {
    fn start(more: &str) -> Self {
        let agent = Agent::builder().config(|all| all.merge(&config()).merge(more)).start();
        let program = program_of_link(&agent.pins_dir().join("link_connect4"));
        Self { agent, program }
    }
}

impl World {
    /// Everything but the pinning to one processor, so that the agents may run on another.
    pub(crate) fn new() -> Self {
        let ns = Netns::new();
        let empty_cgroup = Cgroup::new("bench-empty");
        Self {
            home: Home::here(),
            nothing: Cgroup::new("bench-nothing"),
            empty: Empty::attach(&empty_cgroup),
            empty_cgroup,
            gate: Gate::start(""),
            gate_without_events: Gate::start("[events]\nper_second = 0"),
            host_void: Void::of_host(),
            unreachable: Unreachable::new(),
            ns_file: File::open(ns.path()).must("cannot open the network namespace"),
            ns_void: Void::of(&ns),
            ns,
        }
    }

    /// Runs `measure` as the case's user in the case's place, and comes back.
    pub(crate) fn visit<T>(&self, case: Case, measure: impl FnOnce() -> T) -> T {
        let cgroup = match case.place {
            Place::Empty => &self.empty_cgroup,
            Place::Gate => self.gate.agent.cgroup(),
            Place::GateWithoutEvents => self.gate_without_events.agent.cgroup(),
            Place::Nothing | Place::Bare | Place::Nft(_) => &self.nothing,
        };
        enter_cgroup(cgroup.path());
        match case.place {
            Place::Nft(ruleset) => ruleset.load(&self.ns, !case.is_let_through()),
            Place::Bare => nft::unload(&self.ns),
            _ => {}
        }
        if !case.place.is_on_host() {
            enter_ns(&self.ns_file);
        }
        // The saved uid stays root's, which is the way back.
        become_user(case.scenario.uid());
        let result = measure();
        become_user(0);
        enter_ns(&self.home.ns);
        result
    }

    /// Where a SYN is swallowed.
    pub(crate) fn void(&self, case: Case) -> SocketAddrV4 {
        SocketAddrV4::new(self.wire(case).address(), case.scenario.port())
    }

    /// Where no SYN can go.
    pub(crate) fn no_route(&self, case: Case) -> SocketAddrV4 {
        SocketAddrV4::new(self.unreachable.address(), case.scenario.port())
    }

    /// SYNs that have left by the case's wire; to be asked in its place.
    pub(crate) fn packets_sent(&self, case: Case) -> u64 {
        self.wire(case).packets_sent()
    }

    fn wire(&self, case: Case) -> &Void {
        if case.place.is_on_host() { &self.host_void } else { &self.ns_void }
    }

    /// The kernel's own timing of the program that the case meets.
    pub(crate) fn runs(&self, place: Place) -> Option<Runs> {
        match place {
            Place::Empty => Some(self.empty.runs()),
            Place::Gate => Some(Runs::of(&self.gate.program)),
            Place::GateWithoutEvents => Some(Runs::of(&self.gate_without_events.program)),
            Place::Nothing | Place::Bare | Place::Nft(_) => None,
        }
    }

    /// Connections that the agents themselves have counted.
    pub(crate) fn counted_by_gates(&self) -> u64 {
        [&self.gate, &self.gate_without_events]
            .into_iter()
            .flat_map(|gate| {
                let metrics = gate.agent.metrics();
                metrics.series("smtp_connections_total").iter().map(|series| series.value).collect::<Vec<_>>()
            })
            .sum::<f64>() as u64
    }
}

/// What the first program of its kind costs everybody on the host, those included whom it does not concern:
/// until there is one, the kernel does not even look (`cgroup_bpf_enabled_key`). Nanoseconds of a connect() in
/// a cgroup without a program, with and without a program elsewhere.
pub(crate) fn cost_of_first_program(rounds: usize, measure: impl Fn(SocketAddrV4) -> f64) -> Summary {
    let (nothing, elsewhere) = (Cgroup::new("bench-nothing"), Cgroup::new("bench-empty"));
    let unreachable = Unreachable::new();
    let _home = Home::here();
    enter_cgroup(nothing.path());
    let to = SocketAddrV4::new(unreachable.address(), Scenario::OtherPort.port());
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let empty = Empty::attach(&elsewhere);
        with.push(measure(to));
        drop(empty);
        without.push(measure(to));
    }
    Summary::of_differences(&with, &without)
}

/// Where and who this process was; it is so again when this is dropped, wherever a panic left it.
struct Home {
    cgroup: PathBuf,
    ns: File,
}

impl Home {
    fn here() -> Self {
        let text = fs::read_to_string("/proc/self/cgroup").must("cannot read /proc/self/cgroup");
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).must("this process is in no cgroup v2");
        let ns = File::open("/proc/thread-self/ns/net").must("cannot open our own network namespace");
        Self { cgroup: cgroup::root().join(path), ns }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        become_user(0);
        enter_ns(&self.ns);
        enter_cgroup(&self.cgroup);
    }
}

/// Keeps this process on one processor and returns its number.
pub(crate) fn pin() -> usize {
    let allowed = sched_getaffinity(Pid::from_raw(0)).must("cannot tell the processors we may use");
    // The last: the first one gets most interrupts.
    let last = (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let last = last.must("we may use no processor at all");
    let mut one = CpuSet::new();
    one.set(last).must("cannot name a processor");
    sched_setaffinity(Pid::from_raw(0), &one).must("cannot stay on one processor");
    last
}

fn enter_cgroup(path: &Path) {
    fs::write(path.join("cgroup.procs"), "0").must(format_args!("cannot enter the cgroup {}", path.display()));
}

fn enter_ns(ns: &File) {
    setns(ns, CloneFlags::CLONE_NEWNET).must("cannot enter a network namespace");
}

fn become_user(uid: u32) {
    let (uid, root) = (Uid::from_raw(uid), Uid::from_raw(0));
    setresuid(uid, uid, root).must(format_args!("cannot become user {uid}"));
}

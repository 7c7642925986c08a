//! The places that connect() is called in, and what is in its way there.

use super::{
    cases::{Case, Place, Scenario, config},
    nft,
    wire::{Unreachable, Void},
};
use crate::{
    bpf::{Hook, Loaded, Runs, program_of_link},
    place::{Home, become_user, enter_cgroup, enter_ns},
    stats::Summary,
};
use smtp_tests::{Agent, Cgroup, Must, Netns};
use std::{fs::File, net::SocketAddrV4, os::fd::OwnedFd};

pub(crate) struct World {
    /// First, so that we are out of the cgroups before they are removed, which kills who is in them.
    home: Home,
    nothing: Cgroup,
    empty_cgroup: Cgroup,
    empty: Loaded,
    gate: Gate,
    gate_without_events: Gate,
    gate_of_connections: Gate,
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
            empty: attach_empty(&empty_cgroup),
            empty_cgroup,
            gate: Gate::start(""),
            gate_without_events: Gate::start("[events]\nper_second = 0"),
            gate_of_connections: Gate::start("[smtp]\nmessages = false"),
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
            Place::GateOfConnections => self.gate_of_connections.agent.cgroup(),
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
        self.home.back_to_ns();
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
            Place::GateOfConnections => Some(Runs::of(&self.gate_of_connections.program)),
            Place::Nothing | Place::Bare | Place::Nft(_) => None,
        }
    }

    /// Connections that the agents themselves have counted.
    pub(crate) fn counted_by_gates(&self) -> u64 {
        [&self.gate, &self.gate_without_events, &self.gate_of_connections]
            .into_iter()
            .flat_map(|gate| {
                let metrics = gate.agent.metrics();
                metrics.series("smtp_connections_total").iter().map(|series| series.value).collect::<Vec<_>>()
            })
            .sum::<f64>() as u64
    }
}

fn attach_empty(cgroup: &Cgroup) -> Loaded {
    Loaded::empty(Hook::Connect4).attached_to(cgroup)
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
        let empty = attach_empty(&elsewhere);
        with.push(measure(to));
        drop(empty);
        without.push(measure(to));
    }
    Summary::of_differences(&with, &without)
}

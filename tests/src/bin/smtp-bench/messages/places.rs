//! The places conversations are held in, and what looks at their packets there.

use super::cases::{Case, Transport};
use crate::{
    bpf::{Hook, Loaded, Runs, program_of_link},
    place::{Home, become_user, enter_cgroup},
};
use smtp_common::names::program;
use smtp_tests::{Agent, Cgroup, Must, Netns, Veth};
use std::{
    net::{Ipv4Addr, TcpListener},
    os::fd::OwnedFd,
};

/// By number only: nobody has it, and nothing needs its name.
const SENDER: u32 = 60_011;

/// Limits in every unit, far away: what is counted is charged too, which is the longest way of a message that may pass.
const LIMITS: &str = "
    mode = 'enforce'
    [default]
    plan = 'ample'
    [plan.ample]
    per_hour = 1_000_000_000
    per_day = 1_000_000_000
";
const MESSAGE_LIMITS: &str = "
    [plan.ample]
    messages_per_hour = 1_000_000_000
    messages_per_day = 1_000_000_000
    recipients_per_hour = 1_000_000_000
    recipients_per_day = 1_000_000_000
";

/// What stands in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A cgroup without a program.
    Nothing,
    /// A cgroup with empty programs where the agent has its own that follow sessions.
    Empty,
    /// A cgroup with the agent's gate.
    Gate,
    /// A cgroup with the gate of an agent that counts connections only.
    Connections,
}

impl Place {
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::Empty, Self::Gate, Self::Connections];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Empty => "empty programs",
            Self::Gate => "gate",
            Self::Connections => "gate, messages = false",
        }
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Out,
    In,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Out, Self::In];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Out => "leaves",
            Self::In => "arrives",
        }
    }

    fn hook(self) -> Hook {
        match self {
            Self::Out => Hook::Egress,
            Self::In => Hook::Ingress,
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Out => program::SENT,
            Self::In => program::RECEIVED,
        }
    }
}

/// The empty programs of a cgroup.
pub(crate) struct Empties {
    /// By [`Way`].
    packets: [Loaded; 2],
    _session: Loaded,
}

impl Empties {
    pub(crate) fn on(cgroup: &Cgroup) -> Self {
        Self {
            packets: Way::BOTH.map(|way| Loaded::empty(way.hook()).attached_to(cgroup)),
            _session: Loaded::empty(Hook::SockOps).attached_to(cgroup),
        }
    }
}

pub(crate) struct World {
    /// First, so that we are out of the cgroups before they are removed, which kills who is in them.
    _home: Home,
    nothing: Cgroup,
    empty_cgroup: Cgroup,
    empty: Empties,
    gate: Agent,
    /// The gate's own programs on packets, by [`Way`].
    packets: [OwnedFd; 2],
    connections: Agent,
    server: TcpListener,
    _wire: Veth,
}

impl World {
    /// Everything but the pinning to one processor, so that the agents may run on another.
    pub(crate) fn new() -> Self {
        let far = Netns::new();
        let wire = Veth::between_host_and(&far);
        let address = wire.far.v4;
        let server = far.run(|| TcpListener::bind((address, 25))).must("cannot listen at the other end of the wire");
        let gate = Agent::builder().config(|all| all.merge(LIMITS).merge(MESSAGE_LIMITS)).start();
        let connections = Agent::builder().config(|all| all.merge(LIMITS).set("smtp.messages", false)).start();
        for program in program::FOLLOWERS {
            let link = connections.pins_dir().join(format!("link_{program}"));
            assert!(!link.exists(), "`messages = false` leaves the program {program} attached");
        }
        let empty_cgroup = Cgroup::new("bench-empty");
        Self {
            _home: Home::here(),
            nothing: Cgroup::new("bench-nothing"),
            empty: Empties::on(&empty_cgroup),
            empty_cgroup,
            packets: Way::BOTH.map(|way| attached(&gate, way.program())),
            gate,
            connections,
            server,
            _wire: wire,
        }
    }

    /// Runs `measure` in the place, as a user who is limited, and comes back.
    pub(crate) fn visit<T>(&self, place: Place, measure: impl FnOnce() -> T) -> T {
        let cgroup = match place {
            Place::Nothing => &self.nothing,
            Place::Empty => &self.empty_cgroup,
            Place::Gate => self.gate.cgroup(),
            Place::Connections => self.connections.cgroup(),
        };
        enter_cgroup(cgroup.path());
        // The saved uid stays root's, which is the way back.
        become_user(SENDER);
        let result = measure();
        become_user(0);
        result
    }

    /// Where a case connects to. To be asked for in its place: on loopback both ends stay there, of an SMTP session the
    /// client's.
    pub(crate) fn listener(&self, case: Case) -> TcpListener {
        match case.transport() {
            Transport::Smtp => self.server.try_clone().must("cannot share the server's socket"),
            Transport::Loopback => loopback(),
        }
    }

    /// The kernel's own timing of the programs on packets, where there are any.
    pub(crate) fn runs(&self, place: Place) -> Option<[Runs; 2]> {
        match place {
            Place::Empty => Some(self.empty.packets.each_ref().map(Loaded::runs)),
            Place::Gate => Some(self.packets.each_ref().map(Runs::of)),
            Place::Nothing | Place::Connections => None,
        }
    }

    /// The empty program and the gate's own.
    pub(crate) fn programs(&self, way: Way) -> [&OwnedFd; 2] {
        [&self.empty.packets[way as usize].program, &self.packets[way as usize]]
    }

    /// The gate's program on a tracepoint.
    pub(crate) fn tracer(&self, program: &str) -> OwnedFd {
        attached(&self.gate, program)
    }

    pub(crate) fn gate(&self) -> &Agent {
        &self.gate
    }

    pub(crate) fn connections(&self) -> &Agent {
        &self.connections
    }
}

/// A port nobody counts.
pub(crate) fn loopback() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).must("cannot listen on loopback")
}

fn attached(agent: &Agent, program: &str) -> OwnedFd {
    program_of_link(&agent.pins_dir().join(format!("link_{program}")))
}

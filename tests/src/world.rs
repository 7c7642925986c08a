//! The scene most tests play in: an agent, a sink behind a wire in a namespace of its own, and users that only
//! exist as numbers.

use std::net::{IpAddr, SocketAddr};

use crate::{Agent, Cgroup, Dial, Mailer, Metrics, Netns, Sink, Veth, agent::Builder, sink};

/// Users of the tests: no host has them, so every name stays out of it.
pub mod uid {
    pub const SENDER: u32 = 61_001;
    pub const OTHER: u32 = 61_002;
    pub const DENIED: u32 = 61_003;
    pub const EXEMPT: u32 = 61_004;
}

/// What every world's configuration says, before the test adds to it.
const BASE: &str = r#"
mode = "enforce"
[allow]
users = ["61004"]
[deny]
users = ["61003"]
[plan.standard]
per_hour = 1000000
[events]
per_second = 10000
"#;

pub struct World {
    pub agent: Agent,
    pub sink: Sink,
    pub veth: Veth,
    pub ns: Netns,
}

impl World {
    /// A world whose agent runs with this TOML laid over the base.
    #[track_caller]
    pub fn with(toml: &str) -> Self {
        Self::built(toml, |builder| builder)
    }

    /// The same before the agent runs.
    #[track_caller]
    pub fn stopped(toml: &str) -> Self {
        Self::stopped_with(toml, |builder| builder)
    }

    /// A world with more to say about the agent.
    #[track_caller]
    pub fn built(toml: &str, more: impl FnOnce(Builder) -> Builder) -> Self {
        let mut world = Self::stopped_with(toml, more);
        world.agent.start();
        world
    }

    /// Such a world before the agent runs.
    #[track_caller]
    pub fn stopped_with(toml: &str, more: impl FnOnce(Builder) -> Builder) -> Self {
        Self::made(toml, more, |sink| sink)
    }

    /// A world whose sink has manners of its own.
    #[track_caller]
    pub fn meeting(toml: &str, manners: impl FnOnce(sink::Builder) -> sink::Builder) -> Self {
        let mut world = Self::stopped_meeting(toml, manners);
        world.agent.start();
        world
    }

    /// Such a world before the agent runs.
    #[track_caller]
    pub fn stopped_meeting(toml: &str, manners: impl FnOnce(sink::Builder) -> sink::Builder) -> Self {
        Self::made(toml, |builder| builder, manners)
    }

    #[track_caller]
    pub fn made(
        toml: &str,
        more: impl FnOnce(Builder) -> Builder,
        manners: impl FnOnce(sink::Builder) -> sink::Builder,
    ) -> Self {
        let ns = Netns::new();
        let veth = Veth::between_host_and(&ns);
        // On every address of the namespace, and in both families (`IPV6_V6ONLY` is off).
        let sink = Sink::at(SocketAddr::new("::".parse().expect("an address"), 25)).netns(&ns);
        let sink = manners(sink).start();
        let builder = Agent::builder().config(|c| c.merge(BASE).merge(toml));
        Self { agent: more(builder).stopped(), sink, veth, ns }
    }

    /// Attempts from the agent's cgroup to the sink's port 25 over IPv4.
    pub fn dial(&self) -> Dial {
        self.dial_to(self.veth.far.v4.into(), 25)
    }

    pub fn dial_to(&self, to: IpAddr, port: u16) -> Dial {
        Dial::to(SocketAddr::new(to, port)).cgroup(self.cgroup())
    }

    pub fn cgroup(&self) -> &Cgroup {
        self.agent.cgroup()
    }

    /// The sink over IPv4.
    pub fn sink_address(&self) -> SocketAddr {
        SocketAddr::new(self.veth.far.v4.into(), 25)
    }

    /// Messages from the agent's cgroup to the sink over IPv4.
    pub fn mailer(&self, uid: u32) -> Mailer {
        Mailer::to(self.sink_address()).cgroup(self.cgroup()).uid(uid)
    }

    /// Puts this TOML, laid over what the world began with, in force.
    #[track_caller]
    pub fn reload(&self, toml: &str) {
        self.agent.rewrite_config(toml);
        self.agent.cli(&["reload"]).expect_ok("smtp-agent reload");
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        self.agent.metrics()
    }

    /// Connections of one account counted with one verdict, on every route and port.
    #[track_caller]
    pub fn counted(&self, user: &str, verdict: &str) -> u64 {
        self.agent.metrics().value("smtp_connections_total", &[("user", user), ("verdict", verdict)]) as u64
    }

    /// The same for a uid without a name.
    #[track_caller]
    pub fn counted_uid(&self, uid: u32, verdict: &str) -> u64 {
        self.counted(&uid.to_string(), verdict)
    }

    /// Every connection counted, whoever made it and whatever became of it.
    #[track_caller]
    pub fn counted_in_all(&self) -> u64 {
        self.agent.metrics().value("smtp_connections_total", &[]) as u64
    }
}

//! Fixtures of the tests: everything that makes a world (cgroups, network namespaces, users, an SMTP
//! sink, a mail server, a Prometheus) and acts in it (connection attempts of every kind, the agent).
//!
//! A fixture that cannot be made ends its test with a sentence that says what is missing: nothing is
//! skipped. Each one takes away on `Drop` what it made, so a test that panics leaves nothing behind, and
//! all of them can be used by many tests at once, in one process or in several.

pub mod agent;
pub mod alertmanager;
pub mod bpffs;
pub mod browser;
pub mod cgroup;
pub mod dial;
pub mod hands;
pub mod home;
pub mod hook;
pub mod hostile;
pub mod howto;
pub mod http;
pub mod limits;
pub mod listener;
pub mod mailer;
pub mod maps;
pub mod mountns;
pub mod mta;
pub mod must;
pub mod netns;
pub mod netstat;
pub mod passwd;
pub mod poll;
pub mod port;
pub mod process;
pub mod prometheus;
pub mod scratch;
pub mod sink;
pub mod tally;
pub mod told;
pub mod tools;
pub mod veth;
pub mod who;
pub mod world;

pub use agent::{Agent, Metrics};
pub use cgroup::Cgroup;
pub use dial::{Dial, Tally, Way};
pub use home::Home;
pub use hostile::Hostile;
pub use listener::Listener;
pub use mailer::Mailer;
pub use must::Must;
pub use netns::Netns;
pub use passwd::Etc;
pub use poll::eventually;
pub use sink::Sink;
pub use veth::Veth;
pub use world::{World, uid};

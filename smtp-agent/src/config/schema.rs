//! What a valid configuration is, and its defaults.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use smtp_common::rule::OnSoft;

use super::place::Spot;

/// Every table and its keys; the first is the top level. A key that is not here is an error.
pub const SECTIONS: [(&str, &[&str]); 14] = [
    (
        "",
        &[
            "mode",
            "smtp",
            "allow",
            "deny",
            "default",
            "plan",
            "containers",
            "host",
            "rule",
            "paths",
            "kernel",
            "metrics",
            "events",
            "log",
        ],
    ),
    ("smtp", &["ports", "messages", "sendmail"]),
    ("allow", &["users", "groups"]),
    ("deny", &["users"]),
    ("default", &["plan"]),
    (
        "plan",
        &[
            "per_hour",
            "per_day",
            "soft_percent",
            "on_soft",
            "messages_per_hour",
            "messages_per_day",
            "recipients_per_hour",
            "recipients_per_day",
            "max_failed_percent",
            "min_failed",
            "release_after",
            "local",
        ],
    ),
    ("containers", &["plan"]),
    (
        "host",
        &[
            "per_hour",
            "per_day",
            "messages_per_hour",
            "messages_per_day",
            "recipients_per_hour",
            "recipients_per_day",
            "strict",
            "count_lists",
            "list_users",
        ],
    ),
    ("rule", &["user", "group", "cgroup", "plan"]),
    ("paths", &["pins", "state", "run"]),
    ("kernel", &["cgroup"]),
    ("metrics", &["listen", "max_users"]),
    ("events", &["per_second"]),
    ("log", &["level", "format", "probe"]),
];

/// The keys of one of [`SECTIONS`].
pub(super) fn keys_of(section: &str) -> &'static [&'static str] {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

pub(super) const MAX_LIMIT: u32 = 1_000_000_000;
pub(super) const MAX_PORTS: usize = 32;
pub(super) const DEFAULT_PORTS: [u16; 3] = [25, 465, 587];
pub(super) const DEFAULT_SOFT_PERCENT: u32 = 125;
pub(super) const DEFAULT_MIN_FAILED: u32 = 5;
pub(super) const STANDARD: &str = "standard";
/// How many programs may be named in `sendmail`.
pub(super) const MAX_PROGRAMS: usize = 32;
/// Where distributions put the program that every MTA brings under the same name, and exim under its own.
pub(super) const DEFAULT_SENDMAIL: [&str; 5] =
    ["/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/sendmail", "/usr/sbin/exim", "/usr/sbin/exim4"];
pub(super) const LONGEST_RELEASE: Duration = Duration::from_secs(30 * 86_400);

/// The names that stand in `allow.users`, `deny.users` and `host.list_users` where a file does not set them. As a text of
/// its own, so that diagnostics about such a name have a place to point to.
pub(super) const BUILT_IN_NAMES: &str = r#"[allow]
users = ["root", "exim", "Debian-exim", "mailnull", "mailman", "list", "postfix"]

[deny]
users = ["nobody"]

[host]
list_users = ["mailman", "list"]
"#;

/// A configuration without errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub mode: Mode,
    /// As written: 1 to 32 ports, none twice, none 0.
    pub ports: Vec<u16>,
    /// Sessions and messages are followed.
    pub messages: bool,
    /// Programs whose executions are submissions to the local MTA. They need not exist.
    pub sendmail: Vec<PathBuf>,
    pub allow: Allow,
    /// Users refused everywhere.
    pub deny: Vec<Spot<Name>>,
    pub default_plan: PlanRef,
    pub containers_plan: PlanRef,
    /// The index is the plan's number.
    pub plans: Vec<Plan>,
    pub rules: Vec<RuleEntry>,
    pub host: Host,
    pub paths: Paths,
    pub cgroup: CgroupChoice,
    pub metrics: Metrics,
    pub events: Events,
    pub log: Log,
}

impl Config {
    /// What people call the plan: its name, "deny" or "allow".
    pub fn plan_name(&self, plan: PlanRef) -> &str {
        match plan {
            PlanRef::Deny => "deny",
            PlanRef::Allow => "allow",
            PlanRef::Plan(number) => &self.plans[number].name,
        }
    }
}

/// Whether verdicts are applied or only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Observe,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// Who is never limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    pub users: Vec<Spot<Name>>,
    pub groups: Vec<Spot<Name>>,
}

/// A user or group as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    Text(String),
    /// Written in digits: a uid or gid, whether it has a name or not.
    Id(u32),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(name) => f.write_str(name),
            Self::Id(id) => write!(f, "{id}"),
        }
    }
}

/// What a `plan = "…"` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanRef {
    /// Only the local MTA may be reached.
    Deny,
    /// No limits.
    Allow,
    /// Index into [`Config::plans`].
    Plan(usize),
}

/// How much of one unit may pass; `None`: any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    pub per_hour: Option<u32>,
    pub per_day: Option<u32>,
}

/// When too many of an account's messages fail, it sends no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brake {
    /// The highest share of failed messages in an hour that is permitted.
    pub max_failed_percent: u32,
    /// How many must have failed before the share says anything.
    pub min_failed: u32,
    /// `None`: only once the share has fallen.
    pub release_after: Option<Duration>,
}

/// `[plan.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub name: String,
    pub connections: Quota,
    pub messages: Quota,
    pub recipients: Quota,
    /// Above the limit and up to this share of it attempts are put off, beyond they are refused.
    pub soft_percent: u32,
    pub on_soft: OnSoft,
    pub brake: Option<Brake>,
    /// Submissions to the local MTA are limited too.
    pub local: bool,
}

impl Plan {
    /// What "standard" means where no file defines it.
    pub(super) fn standard() -> Self {
        Self {
            name: STANDARD.to_owned(),
            connections: Quota { per_hour: Some(100), per_day: Some(1000) },
            messages: Quota::default(),
            recipients: Quota::default(),
            soft_percent: DEFAULT_SOFT_PERCENT,
            on_soft: OnSoft::Defer,
            brake: None,
            local: false,
        }
    }
}

/// `[[rule]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleEntry {
    pub subject: Subject,
    pub plan: PlanRef,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(Spot<Name>),
    Group(Spot<Name>),
}

/// `[host]`: the budget of the whole machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub connections: Quota,
    pub messages: Quota,
    pub recipients: Quota,
    /// Exempt accounts are refused too when the budget is spent.
    pub strict: bool,
    /// What list managers send is charged to the budget.
    pub count_lists: bool,
    /// The list managers.
    pub list_users: Vec<Spot<Name>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub pins: PathBuf,
    pub state: PathBuf,
    pub run: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            pins: "/sys/fs/bpf/smtp-agent".into(),
            state: "/var/lib/smtp-agent".into(),
            run: "/run/smtp-agent".into(),
        }
    }
}

/// Where the programs are attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CgroupChoice {
    /// The root of the cgroup v2 hierarchy, wherever it is mounted.
    #[default]
    Auto,
    Path(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `None`: switched off.
    pub listen: Option<SocketAddr>,
    /// Accounts with a `user` label of their own.
    pub max_users: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9725))), max_users: 1000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Per account and second, for passed, deferred and refused attempts each.
    pub per_second: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self { per_second: 20 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: Level,
    pub format: LogFormat,
    /// The kernel probe's own messages; `None`: switched off.
    pub probe: Option<Level>,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::Info, format: LogFormat::Text, probe: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

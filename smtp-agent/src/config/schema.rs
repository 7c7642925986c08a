//! What a valid configuration is, and its defaults.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    network::Network,
    notify::Notify,
    pattern::Pattern,
    place::{Place, Spot},
    plan::{Plan, PlanRef, Quota, Quotas},
};

pub(super) const MAX_PORTS: usize = 32;
pub(super) const DEFAULT_PORTS: [u16; 3] = [25, 465, 587];
/// How many programs may be named in `sendmail`.
pub(super) const MAX_PROGRAMS: usize = 32;
/// How many names the web page may be asked for by.
pub(super) const MAX_HOSTS: usize = 32;
/// Where distributions put the program that every MTA brings under the same name, and exim under its own.
pub(super) const DEFAULT_SENDMAIL: [&str; 5] =
    ["/usr/sbin/sendmail", "/usr/lib/sendmail", "/usr/bin/sendmail", "/usr/sbin/exim", "/usr/sbin/exim4"];

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
    /// Changed files are loaded without being asked.
    pub watch: bool,
    /// Whose members may use the control socket besides root.
    pub control_group: Option<Spot<Name>>,
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
    /// The limits of a group's members together.
    pub groups: Vec<GroupEntry>,
    /// Who has which plan: no subject twice.
    pub rules: Vec<RuleEntry>,
    /// What is allowed or denied before the rules are asked.
    pub exceptions: Vec<ExceptionEntry>,
    pub host: Host,
    pub paths: Paths,
    pub cgroup: CgroupChoice,
    pub metrics: Metrics,
    pub page: Page,
    pub events: Events,
    pub attribution: Attribution,
    pub notify: Notify,
    pub history: History,
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

/// `[group.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    pub name: Spot<Name>,
    pub quotas: Quotas,
}

/// A `[[rule]]` that says which plan somebody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleEntry {
    pub subject: Subject,
    pub plan: PlanRef,
    /// Of a cgroup: each that the pattern matches has windows of its own.
    pub each: bool,
    /// Of a cgroup: exempt accounts are held to it too.
    pub strict: bool,
    pub at: Place,
    /// The rule of an earlier file in whose place this one stands.
    pub replaces: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    User(Spot<Name>),
    Group(Spot<Name>),
    Cgroup(Spot<Pattern>),
}

/// A `[[rule]]` that allows or denies certain connections: those for which all that is set here holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionEntry {
    pub user: Option<Spot<Name>>,
    pub group: Option<Spot<Name>>,
    pub cgroup: Option<Spot<Pattern>>,
    /// Empty: wherever they go.
    pub to: Vec<Network>,
    /// Empty: to every port in `[smtp] ports`.
    pub ports: Vec<u16>,
    pub allow: bool,
    pub at: Place,
    /// The rule of an earlier file in whose place this one stands.
    pub replaces: Option<Place>,
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

/// `[page]`: what the web page shows, and by which names it may be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub show: Show,
    /// In lower case, without port.
    pub hosts: Vec<String>,
}

/// What whoever can connect to the metrics address may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Show {
    /// No page, but where the metrics are.
    Off,
    /// Accounts and counts: what the metrics tell, too.
    #[default]
    Accounts,
    /// And who was behind the last attempts.
    All,
}

impl Show {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Accounts => "accounts",
            Self::All => "all",
        }
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

/// What is shown of the processes behind attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribution {
    pub mask: Masking,
    /// Patterns of more that is secret, each a valid regular expression.
    pub mask_also: Vec<String>,
}

/// What is masked in command lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Masking {
    /// What looks like a password or a token.
    #[default]
    Secrets,
    /// All arguments but options and paths.
    Arguments,
    Nothing,
}

/// `[history]`: what is kept of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    pub enabled: bool,
    pub keep: Duration,
    /// Octets on the disk.
    pub max_size: u64,
    /// What the DNS is asked about destinations. Nothing: no name is looked up.
    pub resolve: Vec<Resolve>,
    /// Whom it is asked of; `None`: those of /etc/resolv.conf.
    pub resolver: Option<SocketAddr>,
    /// Domains whose servers are known by their MX.
    pub mx_domains: Vec<String>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            enabled: true,
            keep: Duration::from_secs(31 * 86_400),
            max_size: 512 << 20,
            resolve: Vec::new(),
            resolver: None,
            mx_domains: MX_DOMAINS.map(str::to_owned).to_vec(),
        }
    }
}

/// Where names of destinations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolve {
    /// The name of the address, where the name has that address.
    Ptr,
    /// The servers that take the mail of `mx_domains`.
    Mx,
}

/// Who receives most of what is sent.
pub(super) const MX_DOMAINS: [&str; 20] = [
    "gmail.com",
    "outlook.com",
    "hotmail.com",
    "yahoo.com",
    "icloud.com",
    "aol.com",
    "proton.me",
    "zoho.com",
    "gmx.net",
    "web.de",
    "t-online.de",
    "orange.fr",
    "free.fr",
    "libero.it",
    "comcast.net",
    "mail.ru",
    "yandex.ru",
    "qq.com",
    "163.com",
    "naver.com",
];

/// Each is asked for again and again.
pub(super) const MAX_MX_DOMAINS: usize = 100;

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

//! `[notify]`: what is told to whom, and how often.

use std::{path::PathBuf, time::Duration};

use super::{place::Place, template::Template};

/// What a notice is about. Closed list: it is in messages, labels and the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An account is in the soft band of a limit.
    SoftLimit,
    /// An account was refused at a limit.
    HardLimit,
    /// Somebody in `[deny]`, such as nobody, tried to send.
    Nobody,
    /// The failure brake holds an account.
    Brake,
    /// An account that never sent before did.
    FirstTime,
    /// An account sends much more than it usually does.
    Unusual,
    /// The host has used this share of its budget.
    #[serde(rename = "host_quota_50")]
    HostQuota50,
    #[serde(rename = "host_quota_80")]
    HostQuota80,
    #[serde(rename = "host_quota_100")]
    HostQuota100,
    /// Somebody asked for it: `smtp-agent notify test`. Not for `on`.
    Test,
}

impl Kind {
    /// Those that `on` takes.
    pub const ALL: [Self; 9] = [
        Self::SoftLimit,
        Self::HardLimit,
        Self::Nobody,
        Self::Brake,
        Self::FirstTime,
        Self::Unusual,
        Self::HostQuota50,
        Self::HostQuota80,
        Self::HostQuota100,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftLimit => "soft_limit",
            Self::HardLimit => "hard_limit",
            Self::Nobody => "nobody",
            Self::Brake => "brake",
            Self::FirstTime => "first_time",
            Self::Unusual => "unusual",
            Self::HostQuota50 => "host_quota_50",
            Self::HostQuota80 => "host_quota_80",
            Self::HostQuota100 => "host_quota_100",
            Self::Test => "test",
        }
    }

    /// Whether it is about the host as a whole.
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::HostQuota50 | Self::HostQuota80 | Self::HostQuota100 | Self::Test)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    pub const NONE: Self = Self(0);

    pub fn all() -> Self {
        Kind::ALL.into_iter().fold(Self::NONE, Self::with)
    }

    #[must_use]
    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What was asked for is told whatever else is.
    pub const fn has(self, kind: Kind) -> bool {
        matches!(kind, Kind::Test) || self.0 & (1 << kind as u16) != 0
    }

    /// Whether any of another set is in it.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// The whole section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// The same is told again after this time at the earliest.
    pub repeat: Duration,
    /// How long others are waited for, to be told together.
    pub group_wait: Duration,
    /// Messages of each sink in any hour.
    pub max_per_hour: u32,
    /// How many times its usual rate is unusual for an account, and how many an hour at least.
    pub unusual_factor: u32,
    pub unusual_min: u32,
    /// How long is watched before anything is said of first times and unusual rates.
    pub learn: Duration,
    pub sinks: Vec<SinkEntry>,
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            repeat: Duration::from_secs(4 * 3600),
            group_wait: Duration::from_secs(30),
            max_per_hour: 20,
            unusual_factor: 4,
            unusual_min: 50,
            learn: Duration::from_secs(7 * 24 * 3600),
            sinks: Vec::new(),
        }
    }
}

impl Notify {
    /// What any sink wants to be told.
    pub fn wanted(&self) -> Kinds {
        self.sinks.iter().fold(Kinds::NONE, |all, sink| all.and(sink.on))
    }
}

/// One of those who are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkEntry {
    /// No other sink has it.
    pub name: String,
    pub on: Kinds,
    /// `None`: the built-in texts.
    pub subject: Option<Template>,
    pub body: Option<Template>,
    pub way: Way,
    pub at: Place,
}

/// How it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    Mail { to: Vec<String>, from: Option<String>, sendmail: PathBuf },
    Webhook { url: String, secret_file: Option<PathBuf> },
    Alertmanager { url: String },
    Command { argv: Vec<String>, timeout: Duration },
    Journald { socket: PathBuf },
}

impl Way {
    /// The `sink` label, and the name of a sink that was given none.
    pub const NAMES: [&'static str; 5] = ["mail", "webhook", "alertmanager", "command", "journald"];

    /// Its place in [`Self::NAMES`].
    pub const fn index(&self) -> usize {
        match self {
            Self::Mail { .. } => 0,
            Self::Webhook { .. } => 1,
            Self::Alertmanager { .. } => 2,
            Self::Command { .. } => 3,
            Self::Journald { .. } => 4,
        }
    }

    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }
}

pub(super) const SENDMAIL: &str = "/usr/sbin/sendmail";
pub(super) const JOURNAL: &str = "/run/systemd/journal/socket";
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

//! What is to be told, and several of them in one message.

use serde::{Deserialize, Serialize};

use super::{Kind, Kinds, Seconds};
use crate::attribution::Culprit;

/// Whose notices about the whole machine are.
pub const HOST: &str = "host";

/// How grave a kind is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub(super) const fn of(kind: Kind) -> Self {
        match kind {
            Kind::SoftLimit | Kind::FirstTime | Kind::HostQuota50 | Kind::Test => Self::Info,
            Kind::Nobody | Kind::Unusual | Kind::HostQuota80 => Self::Warning,
            Kind::HardLimit | Kind::Brake | Kind::HostQuota100 => Self::Critical,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that somebody should know of. All text in it is safe on a terminal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub kind: Kind,
    #[serde(with = "rfc3339")]
    pub time: Seconds,
    /// The label of the account, or [`HOST`].
    pub account: String,
    /// Nothing was stopped: the mode is "observe".
    #[serde(default)]
    pub observed: bool,
    /// Why, as events have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `connection`, `message` or `recipient`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// `hour` or `day`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What was used of the limit, or how many attempts there were in the hour that is unusual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Attempts in an hour as they usually are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<f64>,
    /// Address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// How often the same was withheld since it was last told.
    #[serde(default)]
    pub again: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub culprit: Option<Culprit>,
    /// Whoever wants one of these is told that instead: of several shares of a budget that are passed at once, the greatest.
    #[serde(skip)]
    pub unless: Kinds,
}

impl Notice {
    pub fn new(kind: Kind, account: impl Into<String>, time: Seconds) -> Self {
        Self {
            kind,
            time,
            account: account.into(),
            observed: false,
            reason: None,
            unit: None,
            window: None,
            limit: None,
            used: None,
            usual: None,
            destination: None,
            again: 0,
            culprit: None,
            unless: Kinds::NONE,
        }
    }

    /// Says less of its culprit: first without command lines and parents, then only program and script, then nothing.
    pub(super) fn shorten(&mut self, step: usize) {
        let Some(culprit) = &mut self.culprit else { return };
        match step {
            0 => {
                (culprit.command, culprit.started_as) = (None, None);
                culprit.lineage.clear();
            }
            1 => {
                let (exe, script) = (culprit.exe.take(), culprit.script.take());
                *culprit = Culprit { exe, script, ..Culprit::default() };
            }
            _ => self.culprit = None,
        }
    }

    /// How often that says less and less.
    pub(super) const STEPS: usize = 3;

    /// Bytes of what is said of its culprit.
    pub(super) fn weight(&self) -> usize {
        self.culprit.as_ref().and_then(|culprit| serde_json::to_vec(culprit).ok()).map_or(0, |json| json.len())
    }

    /// Whether it is for somebody who wants these.
    pub(super) const fn is_for(&self, on: Kinds) -> bool {
        on.has(self.kind) && !on.meets(self.unless)
    }

    /// What two notices have in common that are about the same. Budgets of the host are several.
    pub(super) fn key(&self) -> String {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        match self.kind.is_of_host() {
            true => format!("{} {} {}", self.kind.name(), part(&self.unit), part(&self.window)),
            false => format!("{} {}", self.kind.name(), self.account),
        }
    }
}

/// What one sink is told at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The same each time it is tried: who takes it can tell that he has it already.
    pub id: String,
    pub host: String,
    #[serde(with = "rfc3339")]
    pub time: Seconds,
    pub notices: Vec<Notice>,
    /// Notices that were not told since the message before: the same had been told, or they found no room among those that
    /// waited because of `max_per_hour`.
    #[serde(default)]
    pub repeated: u64,
    #[serde(default)]
    pub over_rate: u64,
    /// Notices that found no room in this message otherwise.
    #[serde(default)]
    pub left_out: u64,
}

/// As RFC 3339 has them, UTC.
pub(super) mod rfc3339 {
    use std::time::{Duration, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Seconds;

    /// The end of the year 9999, beyond which there is no such text.
    const LAST: Seconds = 253_402_300_799;

    pub(in crate::notify) fn text(time: Seconds) -> String {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.min(LAST))).to_string()
    }

    pub(super) fn serialize<S: Serializer>(time: &Seconds, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*time))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Seconds, D::Error> {
        let text = String::deserialize(from)?;
        let time = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        Ok(time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_written_as_documented_and_read_back() {
        let culprit = Culprit { exe: Some("/usr/bin/php8.2".into()), ..Culprit::default() };
        let mut notice = Notice::new(Kind::HostQuota80, HOST, 1_790_000_000);
        notice.culprit = Some(culprit);
        let text = serde_json::to_string(&notice).unwrap();
        let wanted = r#"{"kind":"host_quota_80","time":"2026-09-21T14:13:20Z","account":"host","observed":false,"again":0,"culprit":{"exe":"/usr/bin/php8.2"}}"#;
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<Notice>(&text).unwrap(), notice);
        assert_eq!(rfc3339::text(u64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn every_kind_has_the_same_name_in_json_and_in_the_configuration() {
        for kind in Kind::ALL.into_iter().chain([Kind::Test]) {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}

//! The settings of the whole server, and limits as cPanel writes them.

use super::super::{
    draft::from,
    lines::{Line, Text, number},
    report::Report,
};

pub(super) const CONFIG: &str = "/var/cpanel/cpanel.config";
const DEFER_CUTOFF: u32 = 125;
const MIN_FAILED: u32 = 5;
/// What `soft_percent` takes; cPanel permits 10000.
const LARGEST_SOFT: u32 = 1000;

/// A number and where it comes from; `None`: no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) of: Option<u32>,
    pub(super) from: String,
}

/// The server-wide settings.
pub(super) struct Server {
    pub(super) limit: Limit,
    pub(super) failed: Limit,
    pub(super) min_failed: (u32, String),
    pub(super) soft: (u32, String),
    /// Only the MTA, Mailman and root may connect to other servers.
    pub(super) restricted: Option<String>,
    pub(super) nobody: Option<(bool, String)>,
}

/// A limit as cPanel reads it; `None`: nothing is set here, so the next higher level holds.
pub(super) fn limit(key: &str, value: &Line<'_>, report: &mut Report) -> Option<Limit> {
    let of = match value.text {
        "" | "default" | "0" | "undef" => return None,
        "unlimited" => None,
        text => {
            let n = number(text);
            if n.is_none() {
                let why = "not a number, \"unlimited\" or \"default\": the server's value holds";
                report.not_understood(key, why, &value.at);
            }
            Some(n?)
        }
    };
    Some(Limit { of, from: from(&value.at, &format!("{key}={}", value.text)) })
}

/// Shares of 100 and more can never be exceeded.
pub(super) fn percent(mut limit: Limit) -> Limit {
    limit.of = limit.of.filter(|percent| *percent < 100);
    limit
}

pub(super) fn read(config: Option<&Text>, report: &mut Report) -> Server {
    let unset = |key: &str, meaning: &str| format!("{CONFIG}: {key} is not set, which means {meaning}");
    let mut server = Server {
        limit: Limit { of: None, from: unset("maxemailsperhour", "no limit") },
        failed: Limit { of: None, from: unset("email_send_limits_max_defer_fail_percentage", "no limit") },
        min_failed: (MIN_FAILED, unset("email_send_limits_min_defer_fail_to_trigger_protection", "5")),
        soft: (DEFER_CUTOFF, unset("email_send_limits_defer_cutoff", "125")),
        restricted: None,
        nobody: None,
    };
    let Some(config) = config else { return server };
    let settings = config.settings(report);
    let outbound = settings.iter().find(|(key, _)| *key == "email_outbound_spam_detect_enable");
    let detects = outbound.is_none_or(|(_, value)| value.text != "0");
    for (key, value) in &settings {
        let key = *key;
        let from = from(&value.at, &format!("{key}={}", value.text));
        match key {
            "maxemailsperhour" => server.limit = limit(key, value, report).unwrap_or(Limit { of: None, from }),
            "email_send_limits_max_defer_fail_percentage" => {
                server.failed = percent(limit(key, value, report).unwrap_or(Limit { of: None, from }));
            }
            "email_send_limits_min_defer_fail_to_trigger_protection" => {
                if let Some(Limit { of: Some(n), from }) = limit(key, value, report) {
                    server.min_failed = (n.max(1), from);
                }
            }
            "email_send_limits_defer_cutoff" => match number(value.text) {
                Some(percent) if percent > LARGEST_SOFT => {
                    server.soft = (LARGEST_SOFT, format!("{from}, of which {LARGEST_SOFT} is possible"));
                }
                Some(percent) if percent >= 100 => server.soft = (percent, from),
                _ => {
                    report.not_understood(key, "not a share from 100 to 10000: 125, cPanel's default, holds", &value.at)
                }
            },
            "smtpmailgidonly" => server.restricted = (value.text == "1").then_some(from),
            "nobodyspam" => server.nobody = Some((value.text != "0", from)),
            "email_send_limits_count_mailman" if value.text == "1" => {
                report.no_equivalent(
                    key,
                    "what Mailman delivers is charged to mailman, who is exempt, and not to the owner of the list",
                    &value.at,
                );
            }
            "emailsperdaynotify" if number(value.text).is_some_and(|n| n > 0) => {
                report.no_equivalent(
                    key,
                    "it only notifies; alert on smtp_usage of messages in a day, or limit by messages_per_day",
                    &value.at,
                );
            }
            "email_outbound_spam_detect_threshold" if detects => {
                report.no_equivalent(
                    key,
                    "it counts different recipients of one mailbox; the nearest is recipients_per_hour in a plan",
                    &value.at,
                );
            }
            "email_outbound_spam_detect_action" if detects && !matches!(value.text, "" | "noaction") => {
                report.no_equivalent(key, "mailboxes are held or rejected by Exim, which goes on doing so", &value.at);
            }
            _ => {}
        }
    }
    server
}

//! One account: the file with its name in /var/cpanel/users.

use std::collections::{BTreeSet, HashMap};

use super::{
    super::{
        draft::from,
        lines::{LARGEST, Text},
        report::Report,
    },
    server::{Limit, Server, limit, percent},
};

/// What the file of an account says.
pub(super) struct Account {
    pub(super) limit: Limit,
    pub(super) failed: Limit,
    pub(super) suspended: Option<String>,
    pub(super) held: Option<String>,
}

impl Account {
    pub(super) fn read(text: &Text, server: &Server, owned: Option<&BTreeSet<String>>, report: &mut Report) -> Self {
        let mut user = Self { limit: server.limit.clone(), failed: server.failed.clone(), suspended: None, held: None };
        let mut domains = BTreeSet::new();
        let mut own = HashMap::new();
        let mut per_domain = false;
        for (key, value) in text.settings(report) {
            let set = !matches!(value.text, "" | "0");
            match key {
                "MAX_EMAIL_PER_HOUR" => user.limit = limit(key, &value, report).unwrap_or(user.limit),
                "MAX_DEFER_FAIL_PERCENTAGE" => {
                    user.failed = limit(key, &value, report).map(percent).unwrap_or(user.failed);
                }
                "SUSPENDED" | "OUTGOING_MAIL_SUSPENDED" if set => {
                    user.suspended = Some(from(&value.at, &format!("{key}={}", value.text)));
                }
                "OUTGOING_MAIL_HOLD" if set => user.held = Some(from(&value.at, &format!("{key}={}", value.text))),
                _ => {
                    if let Some(domain) = key.strip_prefix("MAX_EMAIL_PER_HOUR-") {
                        if let Some(limit) = limit("MAX_EMAIL_PER_HOUR-DOMAIN", &value, report) {
                            own.insert(domain.to_owned(), limit.of);
                        }
                        per_domain = true;
                    } else if key.starts_with("MAX_DEFER_FAIL_PERCENTAGE-") {
                        let why = "the share of failures is kept for an account, not for each of its domains";
                        report.no_equivalent("MAX_DEFER_FAIL_PERCENTAGE-DOMAIN", why, &value.at);
                    } else if key.strip_prefix("DNS").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) {
                        domains.insert(value.text.to_owned());
                    }
                }
            }
        }
        let domains = owned.unwrap_or(&domains);
        if per_domain {
            let why = "a domain has no limit of its own here: the account may send what all its domains may together";
            report.no_equivalent("MAX_EMAIL_PER_HOUR-DOMAIN", why, &text.origin());
        }
        user.limit = sum(user.limit, domains, &own, text);
        user
    }
}

/// What all domains of an account may send together.
fn sum(each: Limit, domains: &BTreeSet<String>, own: &HashMap<String, Option<u32>>, text: &Text) -> Limit {
    if domains.len() < 2 && own.is_empty() {
        return each;
    }
    let parts: Vec<Option<u32>> = match domains.is_empty() {
        true => own.values().copied().collect(),
        false => domains.iter().map(|domain| own.get(domain).copied().unwrap_or(each.of)).collect(),
    };
    let of = parts.iter().copied().try_fold(0u32, |sum, part| Some(sum.saturating_add(part?).min(LARGEST)));
    let count = parts.len();
    let special = own.len();
    let how = match (of, special) {
        (None, _) => format!("no limit, as for one of {count} domains ({}; {})", each.from, text.origin()),
        (Some(sum), 0) => format!("{sum}, the sum over {count} domains ({}; {})", each.from, text.origin()),
        (Some(sum), _) => format!(
            "{sum}, the sum over {count} domains, {special} with a limit of its own ({}; {})",
            each.from,
            text.origin()
        ),
    };
    Limit { of, from: how }
}

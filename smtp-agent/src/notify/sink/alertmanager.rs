//! Alerts as Alertmanager's API has them, version 2: one for each notice.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    config::SinkEntry,
    notify::{
        Kind, Message, Notice, Seconds,
        notice::{Severity, rfc3339},
        text,
    },
};

const API: &str = "/api/v2/alerts";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
}

/// Where alerts are posted to, for the address of an Alertmanager.
pub(super) fn endpoint(url: &str) -> String {
    let base = url.trim_end_matches('/');
    if base.ends_with(API) { base.to_owned() } else { format!("{base}{API}") }
}

/// An alert stands for `hold` from now on, unless the same is told again before.
pub(super) fn alerts(sink: &SinkEntry, message: &Message, now: Seconds, hold: Duration) -> Vec<Alert> {
    let alert = |notice: &Notice| {
        let alone =
            Message { notices: vec![notice.clone()], repeated: 0, over_rate: 0, left_out: 0, ..message.clone() };
        let filled = text::fill(&alone, None, sink.body.as_ref());
        let summary = match &sink.subject {
            Some(template) => text::line(&text::fill_one(message, notice, template)),
            None => text::what(notice),
        };
        // No other label: what changes with each notice would make each a new alert.
        let mut labels = BTreeMap::from([
            ("alertname", name(notice.kind)),
            ("kind", notice.kind.name().to_owned()),
            ("user", notice.account.clone()),
            ("instance", message.host.clone()),
            ("severity", Severity::of(notice.kind).name().to_owned()),
        ]);
        let of_host = [("unit", &notice.unit), ("window", &notice.window)];
        for (label, value) in of_host.into_iter().filter(|_| notice.kind.is_of_host()) {
            labels.extend(value.clone().map(|value| (label, value)));
        }
        Alert {
            labels,
            annotations: BTreeMap::from([("summary", summary), ("description", filled.body)]),
            starts_at: rfc3339::text(notice.time.min(now)),
            ends_at: rfc3339::text(now.saturating_add(hold.as_secs())),
        }
    };
    message.notices.iter().map(alert).collect()
}

/// `SmtpNoticeHardLimit`: unlike the alerts that Prometheus makes of the metrics, so that each can be silenced alone.
fn name(kind: Kind) -> String {
    let words = kind.name().split('_');
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    format!("SmtpNotice{}", words.map(capital).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_found_below_the_address() {
        for url in ["http://am:9093", "http://am:9093/", "http://am:9093/api/v2/alerts"] {
            assert_eq!(endpoint(url), "http://am:9093/api/v2/alerts");
        }
        assert_eq!(endpoint("https://m.example.org/am/"), "https://m.example.org/am/api/v2/alerts");
    }

    #[test]
    fn alerts_are_named_by_kind() {
        let names: Vec<_> = Kind::ALL.into_iter().map(name).collect();
        assert_eq!(names[..2], ["SmtpNoticeSoftLimit", "SmtpNoticeHardLimit"]);
        assert_eq!(names[8], "SmtpNoticeHostQuota100");
    }
}

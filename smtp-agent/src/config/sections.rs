//! Every table of a configuration and its keys. A key that is not here is an error.

/// The first is the top level. `plan.total` and `plan.schedule` lie in each `[plan.NAME]`, sinks in `[notify]`.
pub const SECTIONS: [(&str, &[&str]); 27] = [
    (
        "",
        &[
            "mode",
            "watch",
            "smtp",
            "allow",
            "deny",
            "default",
            "plan",
            "containers",
            "host",
            "group",
            "rule",
            "control",
            "paths",
            "kernel",
            "metrics",
            "page",
            "events",
            "attribution",
            "notify",
            "history",
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
            "total",
            "schedule",
        ],
    ),
    ("plan.total", &LIMITS),
    (
        "plan.schedule",
        &[
            "days",
            "hours",
            "per_hour",
            "per_day",
            "messages_per_hour",
            "messages_per_day",
            "recipients_per_hour",
            "recipients_per_day",
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
    ("group", &LIMITS),
    (
        "rule",
        &[
            "user",
            "group",
            "cgroup",
            "to",
            "ports",
            "plan",
            "each",
            "strict",
            "per_hour",
            "per_day",
            "messages_per_hour",
            "messages_per_day",
            "recipients_per_hour",
            "recipients_per_day",
        ],
    ),
    ("control", &["group"]),
    ("paths", &["pins", "state", "run"]),
    ("kernel", &["cgroup"]),
    ("metrics", &["listen", "max_users"]),
    ("page", &["show", "hosts"]),
    ("events", &["per_second"]),
    ("attribution", &["mask", "mask_also"]),
    (
        "notify",
        &[
            "on",
            "repeat",
            "group_wait",
            "max_per_hour",
            "unusual_factor",
            "unusual_min",
            "learn",
            "mail",
            "webhook",
            "alertmanager",
            "command",
            "journald",
        ],
    ),
    ("notify.mail", &["name", "on", "to", "from", "sendmail", "subject", "body"]),
    ("notify.webhook", &["name", "on", "url", "secret_file", "subject", "body"]),
    ("notify.alertmanager", &["name", "on", "url", "subject", "body"]),
    ("notify.command", &["name", "on", "argv", "timeout", "subject", "body"]),
    ("notify.journald", &["enabled", "on", "socket", "subject"]),
    ("history", &["enabled", "keep", "max_size", "resolve", "resolver", "mx_domains"]),
    ("log", &["level", "format", "probe"]),
];

/// The keys of a limit, hour and day of each unit.
pub(super) const LIMITS: [&str; 6] =
    ["per_hour", "per_day", "messages_per_hour", "messages_per_day", "recipients_per_hour", "recipients_per_day"];

/// The keys of one of [`SECTIONS`].
pub(super) fn keys_of(section: &str) -> &'static [&'static str] {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

/// How messages name a table. Those in a plan have its name in their title instead.
pub(super) fn title(section: &str) -> String {
    match section {
        "" => "at the top of the file, above the first [table]".to_owned(),
        "plan" | "group" => format!("in [{section}.NAME]"),
        "plan.total" => "in [plan.NAME.total]".to_owned(),
        "plan.schedule" => "in [[plan.NAME.schedule]]".to_owned(),
        "rule" => "in [[rule]]".to_owned(),
        "notify.journald" => "in [notify.journald]".to_owned(),
        sink if sink.starts_with("notify.") => format!("in [[{sink}]]"),
        name => format!("in [{name}]"),
    }
}

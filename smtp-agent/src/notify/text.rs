//! What people read: a sentence for each notice, the built-in subject and body, and templates filled in.

use smtp_common::{counter::Reason, level::Level};

use super::{Kind, Message, Notice, notice::rfc3339};
use crate::config::{Field, Template};

/// Characters of a subject.
const LONGEST_SUBJECT: usize = 200;
/// Characters of a value, such as a command line, and of all that is said of one notice. The body as a whole has no bound
/// besides: whoever makes one notice long must not cut away another. The built-in text is shorter, whatever is in it.
const LONGEST_VALUE: usize = 1000;
const LONGEST_PART: usize = 20_000;

/// What stands for something that is not known.
const UNKNOWN: &str = "unknown";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filled {
    pub(super) subject: String,
    pub(super) body: String,
}

/// Subject and body of a message, as the templates of its sink have them.
pub(super) fn fill(message: &Message, subject: Option<&Template>, body: Option<&Template>) -> Filled {
    let subject = subject.map_or_else(|| own_subject(message), |template| template.fill(|f| of_all(message, f)));
    let each = |notice: &Notice| match body {
        Some(template) => template.fill(|field| of_one(message, notice, field)),
        None => own_body(notice),
    };
    let mut parts: Vec<String> = message.notices.iter().map(|notice| cut(each(notice), LONGEST_PART)).collect();
    parts.extend(withheld(message));
    let body = parts.iter().map(|part| part.trim_end()).collect::<Vec<_>>().join("\n\n") + "\n";
    Filled { subject: line(&subject), body }
}

/// Something of a notice as one line, for whoever takes notices one by one.
pub(super) fn fill_one(message: &Message, notice: &Notice, template: &Template) -> String {
    template.fill(|field| of_one(message, notice, field))
}

/// Nothing that ends a header or a line.
pub(super) fn line(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(clean, LONGEST_SUBJECT)
}

/// So many characters of it.
fn cut(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn value(text: String) -> String {
    cut(text, LONGEST_VALUE)
}

fn own_subject(message: &Message) -> String {
    match &message.notices[..] {
        [one] => format!("[smtp-agent] {}: {}", message.host, what(one)),
        several => {
            let mut kinds: Vec<(Kind, usize)> = Vec::new();
            for notice in several {
                match kinds.iter_mut().find(|(kind, _)| *kind == notice.kind) {
                    Some((_, count)) => *count += 1,
                    None => kinds.push((notice.kind, 1)),
                }
            }
            let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
            format!("[smtp-agent] {}: {} notices: {}", message.host, several.len(), kinds.join(", "))
        }
    }
}

/// The notice in a sentence without a full stop.
pub(super) fn what(notice: &Notice) -> String {
    let who = &value(notice.account.clone());
    let would = if notice.observed { "would have been" } else { "was" };
    match notice.kind {
        Kind::SoftLimit => format!("{who} {would} put off in the soft band of {}", limit_of(notice)),
        Kind::HardLimit => format!("{who} {would} refused at {}", limit_of(notice)),
        Kind::Nobody => format!("{who} tried to send and may not: it {would} refused"),
        Kind::Brake => format!("the failure brake holds {who}: too many of its messages have failed"),
        Kind::FirstTime => format!("{who} sends mail for the first time"),
        Kind::Unusual => {
            let usual = notice.usual.map_or_else(|| "less is".to_owned(), |usual| format!("{usual:.0} are"));
            format!("{who} made {} attempts within the hour, where {usual} usual", shown(notice.used))
        }
        Kind::HostQuota50 => budget(notice, 50),
        Kind::HostQuota80 => budget(notice, 80),
        Kind::HostQuota100 => budget(notice, 100),
        Kind::Test => "this is a test of the notices".to_owned(),
    }
}

fn limit_of(notice: &Notice) -> String {
    match (notice.limit, &notice.unit, &notice.window) {
        (Some(limit), Some(unit), Some(window)) => {
            let whose = match level(notice) {
                None | Some(Level::User) => "its".to_owned(),
                Some(Level::Host) => "the host's".to_owned(),
                Some(shared) => format!("its {}'s", shared.name()),
            };
            format!("{whose} limit of {limit} {unit}s per {window}")
        }
        _ => format!("a limit ({})", notice.reason.as_deref().unwrap_or("of its plan")),
    }
}

/// Whose limit was met.
fn level(notice: &Notice) -> Option<Level> {
    let name = notice.reason.as_deref()?;
    Reason::ALL.into_iter().find(|reason| reason.name() == name)?.level()
}

fn budget(notice: &Notice, percent: u32) -> String {
    let unit = notice.unit.as_deref().unwrap_or("unit");
    let (used, limit) = (shown(notice.used), shown(notice.limit));
    let window = notice.window.as_deref().unwrap_or("window");
    format!("the host has used {percent} % of its budget: {used} of {limit} {unit}s per {window}")
}

fn shown(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), |number| number.to_string())
}

fn own_body(notice: &Notice) -> String {
    let mut text = format!("{}\n\n", what(notice));
    let culprit = notice.culprit.clone().unwrap_or_default();
    let origin = culprit.origin.as_ref().map(|origin| format!("{}: {}", origin.kind, origin.name));
    let script = culprit.script.as_ref().map(|script| format!("{} (known by: {})", script.path, script.how));
    let parents: Vec<_> = culprit.lineage.iter().map(|one| format!("{} ({})", one.comm, one.tgid)).collect();
    let used = notice.used.zip(notice.limit).map(|(used, limit)| format!("{used} of {limit}"));
    let again = (notice.again > 0).then(|| format!("{} times since it was last told", notice.again));
    for (name, known) in [
        ("time", Some(rfc3339::text(notice.time))),
        ("reason", notice.reason.clone()),
        ("used", used),
        ("seen again", again),
        ("destination", notice.destination.clone()),
        ("script", script),
        ("program", culprit.exe.clone()),
        ("command", culprit.command.as_ref().map(|words| words.join(" "))),
        ("directory", culprit.cwd.clone()),
        ("service", culprit.service().map(str::to_owned)),
        ("came from", origin),
        ("parents", Some(parents.join(" < ")).filter(|text| !text.is_empty())),
        ("login", culprit.login_user.clone()),
        ("domains", Some(culprit.domains.join(" ")).filter(|text| !text.is_empty())),
    ] {
        if let Some(known) = known {
            text.push_str(&format!("  {name:<12} {}\n", value(known)));
        }
    }
    for line in advice(notice).lines() {
        text.push_str(&format!("\n  {line}"));
    }
    text
}

/// What to type, a line each.
fn advice(notice: &Notice) -> String {
    let account = &notice.account;
    if notice.kind.is_of_host() {
        return "smtp-agent status".to_owned();
    }
    let spoken_to = !["kernel", "other"].contains(&account.as_str());
    if !spoken_to {
        return "smtp-agent status\nsmtp-agent events".to_owned();
    }
    let name = quoted(account);
    // A name that begins with a dash would be taken for an option.
    let (see, name) = match account.starts_with('-') {
        true => (format!("--user={name}"), format!("--user={name}")),
        false => (format!("--user {name}"), name),
    };
    let reason = notice.culprit.as_ref().and_then(|culprit| culprit.script_path()).map_or_else(
        || notice.kind.name().replace('_', " "),
        |script| format!("{} by {script}", notice.kind.name().replace('_', " ")),
    );
    let reason: String = reason.chars().take(200).collect();
    let release = match notice.kind {
        Kind::Nobody => String::new(),
        _ => format!("\nsmtp-agent release {name}"),
    };
    format!("smtp-agent who {see}\nsmtp-agent block {name} --for 2h --reason {}{release}", quoted(&reason))
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._:@/+-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What was not told.
fn withheld(message: &Message) -> Option<String> {
    let mut lines = Vec::new();
    if message.repeated > 0 {
        lines.push(format!("{} notices were withheld because the same had just been told.", message.repeated));
    }
    if message.over_rate > 0 {
        lines.push(format!(
            "{} notices found no room among those that waited because of max_per_hour.",
            message.over_rate
        ));
    }
    if message.left_out > 0 {
        lines.push(format!("{} more notices came at the same time and found no room here.", message.left_out));
    }
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn of_one(message: &Message, notice: &Notice, field: Field) -> String {
    let known = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| UNKNOWN.to_owned());
    let culprit = notice.culprit.as_ref();
    let text = match field {
        // Several lines, which end by themselves and are typed as they are.
        Field::Advice => return advice(notice),
        Field::Host => message.host.clone(),
        Field::Kind => notice.kind.name().to_owned(),
        Field::What => what(notice),
        Field::Account => notice.account.clone(),
        Field::Time => rfc3339::text(notice.time),
        Field::Reason => known(notice.reason.clone()),
        Field::Unit => known(notice.unit.clone()),
        Field::Window => known(notice.window.clone()),
        Field::Limit => shown(notice.limit),
        Field::Used => shown(notice.used),
        Field::Usual => known(notice.usual.map(|usual| format!("{usual:.0}"))),
        Field::Again => notice.again.to_string(),
        Field::Destination => known(notice.destination.clone()),
        Field::Process => known(culprit.and_then(|culprit| culprit.exe.clone())),
        Field::Script => known(culprit.and_then(|culprit| culprit.script_path()).map(str::to_owned)),
        Field::Service => known(culprit.and_then(|culprit| culprit.service()).map(str::to_owned)),
        Field::Command => known(culprit.and_then(|culprit| culprit.command.as_ref()).map(|words| words.join(" "))),
        Field::Domains => known(culprit.map(|culprit| culprit.domains.join(" "))),
        Field::Count => message.notices.len().to_string(),
        Field::Withheld => (message.repeated + message.over_rate + message.left_out).to_string(),
    };
    value(text)
}

/// Each value once, the first three by name.
fn of_all(message: &Message, field: Field) -> String {
    const NAMED: usize = 3;
    let mut values: Vec<String> = Vec::new();
    for notice in &message.notices {
        let value = of_one(message, notice, field);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    match values.len().checked_sub(NAMED) {
        None | Some(0) => values.join(", "),
        Some(more) => format!("{} and {more} more", values[..NAMED].join(", ")),
    }
}

#[cfg(test)]
mod tests;

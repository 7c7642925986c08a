//! `smtp-agent timeline`: what one user did, and what happened to him.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use serde_json::Value;

use super::{
    Timeline as Arguments,
    history::{Past, period, unreadable},
    output::{self, Align, Table},
};
use crate::{
    accounts::label::printable,
    control::audit,
    exit::{Code, Result},
    report::{
        numbers::grouped,
        timeline::{Happening, Timeline},
    },
    store::Millis,
};

/// How much of the end of the audit log is looked through.
const LOOKED_AT: u64 = 4 << 20;

pub(super) fn timeline(path: &Path, args: &Arguments) -> Result<Code> {
    let period = period(&args.period, "24h")?;
    let past = Past::open(path)?;
    let account = past.account(&args.user)?;
    let by_hand = by_hand(&past.lenient.paths.state.join(audit::NAME), &args.user);
    let timeline = Timeline::make(&past.reader, &account, period, by_hand, past.now).map_err(unreadable)?;
    // Whoever reads what is printed may take his time, and an open reader holds the journal.
    drop(past);
    if args.json.json {
        output::json(&timeline)?;
    } else {
        output::line(&show(&timeline))?;
    }
    Ok(Code::Fine)
}

/// What somebody said of the account by hand. A log that cannot be read has nothing to say here.
fn by_hand(log: &Path, user: &str) -> Vec<Happening> {
    let mut text = Vec::new();
    let Ok(mut file) = File::open(log) else { return Vec::new() };
    let length = file.metadata().map_or(0, |found| found.len());
    let read = file.seek(SeekFrom::Start(length.saturating_sub(LOOKED_AT))).and_then(|_| file.read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    text.lines().filter_map(|line| happening(&serde_json::from_str(line).ok()?, user)).collect()
}

fn happening(line: &Value, user: &str) -> Option<Happening> {
    let whom = line["whom"].as_object()?;
    let container = user.strip_prefix("container:");
    let meant = whom.get("user").and_then(Value::as_str) == Some(user)
        || container.is_some() && whom.get("container").and_then(Value::as_str) == container;
    if !meant || line["outcome"] != "done" {
        return None;
    }
    let time = humantime::parse_rfc3339(line["time"].as_str()?).ok()?;
    let millis = time.duration_since(std::time::UNIX_EPOCH).ok()?.as_millis();
    let by = line["user"].as_str().map_or_else(|| line["uid"].to_string(), |name| printable(name.as_bytes()));
    let mut what = format!("{} by hand, by {by}", line["what"].as_str()?);
    if let Some(seconds) = line["for"].as_u64() {
        what.push_str(&format!(", for {}", humantime::format_duration(std::time::Duration::from_secs(seconds))));
    }
    if let Some(reason) = line["reason"].as_str() {
        what.push_str(&format!(": {}", printable(reason.as_bytes())));
    }
    Some(Happening::new(Millis::try_from(millis).ok()?, what))
}

fn show(timeline: &Timeline) -> String {
    let mut lines = vec![format!(
        "{}, {} to {}, by the {}\nfirst seen {}, last seen {}\n",
        timeline.user, timeline.since, timeline.until, timeline.step, timeline.first_ever, timeline.last
    )];
    if timeline.points.is_empty() {
        lines.push("nothing was attempted in this period".to_owned());
    } else {
        let heads = [
            "ATTEMPTS",
            "ALLOWED",
            "EXEMPT",
            "DEFERRED",
            "REDIRECTED",
            "REFUSED",
            "WOULD STOP",
            "OVER",
            "MESSAGES",
            "RCPTS",
        ];
        let mut columns = vec![("TIME", Align::Left)];
        columns.extend(heads.map(|head| (head, Align::Right)));
        let mut table = Table::new(&columns);
        for point in &timeline.points {
            let n = &point.numbers;
            let would = n.would_defer + n.would_redirect + n.would_refuse;
            let messages = n.messages.accepted + n.messages.deferred + n.messages.rejected + n.messages.unknown;
            let rcpts = n.recipients.accepted + n.recipients.deferred + n.recipients.rejected;
            let cells = [
                n.attempts,
                n.allowed,
                n.exempt,
                n.deferred,
                n.redirected,
                n.refused,
                would,
                n.over_limit,
                messages,
                rcpts,
            ];
            let mut row = vec![point.time.clone()];
            row.extend(cells.map(grouped));
            table.row(row);
        }
        lines.push(table.render());
    }
    if !timeline.happenings.is_empty() {
        lines.push(String::new());
        lines.extend(timeline.happenings.iter().map(|one| format!("  {}  {}", one.time, one.what)));
    }
    lines.extend(timeline.notes.iter().map(|note| format!("\n{note}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_done_to_this_account_is_told() {
        let line = |whom: &str, outcome: &str| {
            let text = format!(
                r#"{{"time":"2026-11-20T10:00:00.500Z","uid":0,"user":"root","pid":1,"what":"block","whom":{whom},"for":7200,"reason":"a\nb","outcome":"{outcome}","error":null}}"#
            );
            happening(&serde_json::from_str(&text).unwrap(), "shop")
        };
        let told = line(r#"{"user":"shop"}"#, "done").unwrap();
        assert_eq!(
            (told.time.as_str(), told.what.as_str()),
            ("2026-11-20T10:00:00Z", "block by hand, by root, for 2h: a\\nb")
        );
        assert_eq!(line(r#"{"user":"shop"}"#, "failed"), None);
        assert_eq!(line(r#"{"user":"other"}"#, "done"), None);
        assert_eq!(line(r#"{"group":"shop"}"#, "done"), None);
        assert_eq!(line("null", "done"), None);
    }
}

//! What is said by hand, as a table and as JSON: for `--list`, `status` and `explain`.

use std::{path::Path, time::Duration};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use smtp_common::connection::Account;

use super::super::output::{Align, Table};
use crate::{
    accounts::{database::Database, label::printable},
    by_hand::{self, Entry, Time, store},
};

/// Everything that is said, at a time.
pub(in crate::cli) struct List {
    entries: Vec<Entry>,
    now: Time,
}

impl Default for List {
    fn default() -> Self {
        Self::new(Vec::new(), Time::EPOCH)
    }
}

impl List {
    pub(in crate::cli) fn new(mut entries: Vec<Entry>, now: Time) -> Self {
        entries.retain(|entry| entry.holds(now));
        Self { entries, now }
    }

    /// From the file, without an agent. One that cannot be read is told on standard error.
    pub(in crate::cli) fn read(state: &Path) -> Self {
        let entries = store::read(state).unwrap_or_else(|e| {
            let path = state.join(store::NAME);
            eprintln!("smtp-agent: {path:?} cannot be read, so what is said by hand is not shown: {e}");
            Vec::new()
        });
        Self::new(entries, Time::now())
    }

    /// `None` where nothing is said.
    pub(in crate::cli) fn table(&self) -> Option<String> {
        if self.entries.is_empty() {
            return None;
        }
        let heads = ["WHOM", "SAYS", "LEFT", "SINCE", "BY", "REASON"].map(|head| (head, Align::Left));
        let mut table = Table::new(&heads);
        for entry in &self.entries {
            table.row(vec![
                entry.whom.to_string(),
                entry.says.name().to_owned(),
                left(entry, self.now),
                entry.since.to_string(),
                by(entry),
                entry.reason.as_ref().map_or_else(|| "-".to_owned(), |reason| printable(reason.as_bytes())),
            ]);
        }
        Some(table.render())
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.entries.iter().map(|entry| listed(entry, self.now)))
    }
}

/// What decides about an account, by the file.
pub(in crate::cli) fn deciding(
    state: &Path,
    account: Account,
    container: Option<&str>,
    cgroup: Option<&str>,
) -> Option<Entry> {
    let List { entries, .. } = List::read(state);
    by_hand::deciding(&entries, &Database::read(), account.uid(), container, cgroup).cloned()
}

/// One of them as JSON.
pub(in crate::cli) fn listed(entry: &Entry, now: Time) -> Value {
    let Entry { whom, says, since, until, reason, by } = entry;
    json!({
        "whom": whom, "says": says, "since": since, "until": until,
        "left_seconds": until.map(|until| until.seconds_from(now)), "reason": reason, "by": by,
    })
}

fn left(entry: &Entry, now: Time) -> String {
    entry.until.map_or_else(|| "for ever".to_owned(), |until| time(until.seconds_from(now)))
}

pub(in crate::cli) fn time(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn by(entry: &Entry) -> String {
    let user = entry.by.user.as_ref().map(|name| printable(name.as_bytes()));
    user.unwrap_or_else(|| format!("uid {}", entry.by.uid))
}

/// By whom, when and why.
pub(in crate::cli) fn said_by(entry: &Entry) -> String {
    let reason = entry.reason.as_ref().map(|reason| format!(": {}", printable(reason.as_bytes()))).unwrap_or_default();
    format!("{} on {}{reason}", by(entry), entry.since)
}

/// The whole of it in one line, for `explain`.
pub(in crate::cli) fn line(entry: &Entry) -> String {
    let until = match entry.until {
        Some(until) => format!("until {until}, {} left", left(entry, Time::now())),
        None => "for ever".to_owned(),
    };
    format!("{} is {} {until}; said by {}", entry.whom, entry.says.name(), said_by(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_hand::{By, Says, Subject};

    fn entries() -> Vec<Entry> {
        let by = |user: Option<&str>| By { uid: 7, user: user.map(Into::into) };
        let since = Time::try_from("2026-11-20T10:00:00.000Z".to_owned()).unwrap();
        let shop = Entry {
            whom: Subject::user("shop").unwrap(),
            says: Says::Blocked,
            since,
            until: Some(since.after(7200)),
            reason: Some("spam \\".into()),
            by: by(Some("root")),
        };
        let web = Entry {
            whom: Subject::container("web").unwrap(),
            says: Says::Allowed,
            until: None,
            reason: None,
            by: by(None),
            ..shop.clone()
        };
        vec![shop, web]
    }

    #[test]
    fn the_table_shows_what_is_left_and_the_json_is_stable() {
        let list = List::new(entries(), entries()[0].since.after(7139));
        assert_eq!(
            list.table().unwrap(),
            "  WHOM          SAYS    LEFT     SINCE                    BY    REASON\n\
             \x20 user shop     blocked 1m 1s    2026-11-20T10:00:00.000Z root  spam \\\\\n\
             \x20 container web allowed for ever 2026-11-20T10:00:00.000Z uid 7 -"
        );
        let expected = json!([
            {"whom": {"user": "shop"}, "says": "blocked", "since": "2026-11-20T10:00:00.000Z",
             "until": "2026-11-20T12:00:00.000Z", "left_seconds": 61, "reason": "spam \\", "by": {"uid": 7, "user": "root"}},
            {"whom": {"container": "web"}, "says": "allowed", "since": "2026-11-20T10:00:00.000Z",
             "until": null, "left_seconds": null, "reason": null, "by": {"uid": 7, "user": null}},
        ]);
        assert_eq!(serde_json::to_value(&list).unwrap(), expected);
    }

    #[test]
    fn what_has_lapsed_is_not_shown() {
        let later = List::new(entries(), entries()[0].since.after(7200));
        assert_eq!(later.entries.len(), 1);
        assert_eq!(List::default().table(), None);
    }
}

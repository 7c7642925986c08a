//! `[notify]` and its sinks. Sinks of several files add up; the journal is one, whose keys merge.

use std::{path::PathBuf, time::Duration};

use toml::de::DeTable;

use super::super::{
    limits::{set, value},
    notify::{COMMAND_TIMEOUT, Kinds, SENDMAIL, Way},
    place::{Place, Spot},
    problem::Problem,
    reader::{Entry, Reader, Section},
    template::Template,
};

/// More than anybody needs, and few enough to have a thread for each delivery.
const MOST_SINKS: usize = 32;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Default)]
pub(in crate::config) struct NotifyDraft {
    pub(in crate::config) on: Option<Kinds>,
    pub(in crate::config) repeat: Option<Duration>,
    pub(in crate::config) group_wait: Option<Duration>,
    pub(in crate::config) max_per_hour: Option<u32>,
    pub(in crate::config) unusual_factor: Option<u32>,
    pub(in crate::config) unusual_min: Option<u32>,
    pub(in crate::config) learn: Option<Duration>,
    pub(in crate::config) sinks: Vec<SinkDraft>,
    pub(in crate::config) journald: JournaldDraft,
}

pub(in crate::config) struct SinkDraft {
    pub(in crate::config) name: Option<Spot<String>>,
    pub(in crate::config) on: Option<Kinds>,
    pub(in crate::config) subject: Option<Template>,
    pub(in crate::config) body: Option<Template>,
    pub(in crate::config) way: Way,
    pub(in crate::config) at: Place,
}

#[derive(Default)]
pub(in crate::config) struct JournaldDraft {
    pub(in crate::config) enabled: Option<bool>,
    pub(in crate::config) on: Option<Kinds>,
    pub(in crate::config) subject: Option<Template>,
    pub(in crate::config) socket: Option<PathBuf>,
    pub(in crate::config) at: Option<Place>,
}

impl NotifyDraft {
    pub(super) fn read<'t>(&mut self, reader: &mut Reader<'_>, root: &Section<'t>) {
        let Some(section) = reader.open(root, "notify") else { return };
        set(&mut self.on, reader.kinds(section.get("on")));
        set(&mut self.repeat, reader.length(section.get("repeat"), SECOND..=30 * DAY));
        set(&mut self.group_wait, reader.length(section.get("group_wait"), Duration::ZERO..=HOUR));
        set(&mut self.max_per_hour, value(reader.number(section.get("max_per_hour"), 1..=3600)));
        set(&mut self.unusual_factor, value(reader.number(section.get("unusual_factor"), 2..=1000)));
        set(&mut self.unusual_min, value(reader.number(section.get("unusual_min"), 1..=1_000_000)));
        set(&mut self.learn, reader.length(section.get("learn"), Duration::ZERO..=90 * DAY));
        for key in ["mail", "webhook", "alertmanager", "command"] {
            let Some(entry) = section.get(key) else { continue };
            self.sinks(reader, key, &entry);
        }
        if let Some(entry) = section.get("journald") {
            self.journald.read(reader, &entry);
        }
    }

    fn sinks<'t>(&mut self, reader: &mut Reader<'_>, key: &'static str, entry: &Entry<'t>) {
        let title = format!("notify.{key}");
        for (node, table) in reader.tables(entry, &title, "a sink") {
            let at = reader.place(node.span());
            if self.sinks.len() == MOST_SINKS {
                reader.report(Problem::error(format!("more than {MOST_SINKS} sinks of notices")).at(at));
                return;
            }
            let section = reader.section(&title, &format!("in [[{title}]]"), table);
            let way = way(reader, key, &section, &at);
            let name = section.get("name");
            let named = name.is_some();
            let name = reader.sink_name(name);
            let sink = (
                reader.kinds(section.get("on")),
                reader.template(section.get("subject"), true),
                reader.template(section.get("body"), false),
            );
            // One whose name is wrong is not one without a name.
            if let Some(way) = way.filter(|_| name.is_some() == named) {
                let (on, subject, body) = sink;
                self.sinks.push(SinkDraft { name, on, subject, body, way, at });
            }
        }
    }
}

impl JournaldDraft {
    fn read<'t>(&mut self, reader: &mut Reader<'_>, entry: &Entry<'t>) {
        let Some(table): Option<&'t DeTable<'t>> = reader.table(entry, "notify.journald") else { return };
        self.at = Some(reader.place(entry.name.clone()));
        let section = reader.section("notify.journald", "in [notify.journald]", table);
        set(&mut self.enabled, value(reader.boolean(section.get("enabled"))));
        set(&mut self.on, reader.kinds(section.get("on")));
        set(&mut self.subject, reader.template(section.get("subject"), true));
        set(&mut self.socket, reader.path(section.get("socket")));
    }
}

/// How a sink is told; `None` where that is wrong or missing, which is said.
fn way(reader: &mut Reader<'_>, key: &str, section: &Section<'_>, at: &Place) -> Option<Way> {
    let needed = match key {
        "mail" => ("to", "to = [\"root\"]"),
        "command" => ("argv", "argv = [\"/path/of/program\"]"),
        _ => ("url", "url = \"https://…\""),
    };
    if section.get(needed.0).is_none() {
        // An unknown key may be the one that is missing.
        if !section.has_unknown {
            let problem = Problem::error(format!("this [[notify.{key}]] has no `{}`", needed.0));
            reader.report(problem.at(at.clone()).hint(format!("add {}", needed.1)));
        }
        return None;
    }
    Some(match key {
        "mail" => {
            let to = reader.mail_addresses(section.get("to"));
            let from = written(section.get("from"), |entry| reader.address(entry));
            let sendmail = written(section.get("sendmail"), |entry| reader.path(entry));
            Way::Mail { to: to?, from: from?, sendmail: sendmail?.unwrap_or_else(|| SENDMAIL.into()) }
        }
        "webhook" => {
            let url = reader.url(section.get("url"));
            let secret_file = written(section.get("secret_file"), |entry| reader.path(entry));
            Way::Webhook { url: url?.value, secret_file: secret_file? }
        }
        "alertmanager" => Way::Alertmanager { url: reader.url(section.get("url"))?.value },
        _ => {
            let argv = reader.argv(section.get("argv"));
            let timeout = written(section.get("timeout"), |entry| reader.length(entry, SECOND..=60 * SECOND));
            Way::Command { argv: argv?, timeout: timeout?.unwrap_or(COMMAND_TIMEOUT) }
        }
    })
}

/// `Some(None)` for what is not written, `None` for what is written and wrong: that must not become a default.
fn written<'t, T>(entry: Option<Entry<'t>>, read: impl FnOnce(Option<Entry<'t>>) -> Option<T>) -> Option<Option<T>> {
    let is_written = entry.is_some();
    let value = read(entry);
    (value.is_some() || !is_written).then_some(value)
}

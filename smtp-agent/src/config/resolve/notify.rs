//! Who is told of what: names of sinks, and kinds where a sink names none of its own.

use std::collections::HashMap;

use super::super::{
    draft::NotifyDraft,
    notify::{JOURNAL, Kinds, Notify, SinkEntry, Way},
    place::Place,
    problem::{Problem, Problems},
};

pub(super) fn notify(draft: NotifyDraft, problems: &mut Problems) -> Notify {
    let defaults = Notify::default();
    let on = draft.on.unwrap_or_else(Kinds::all);
    let mut sinks = Vec::new();
    for sink in draft.sinks {
        let (name, named_at) = sink.name.map(|spot| (spot.value, spot.at)).unzip();
        let name = name.unwrap_or_else(|| free_name(&sinks, sink.way.name()));
        let entry = SinkEntry {
            name,
            on: sink.on.unwrap_or(on),
            subject: sink.subject,
            body: sink.body,
            way: sink.way,
            at: named_at.unwrap_or(sink.at),
        };
        sinks.push(entry);
    }
    let journald = draft.journald;
    if let (Some(true), Some(at)) = (journald.enabled, journald.at) {
        let way = Way::Journald { socket: journald.socket.unwrap_or_else(|| JOURNAL.into()) };
        let name = free_name(&sinks, way.name());
        let on = journald.on.unwrap_or(on);
        sinks.push(SinkEntry { name, on, subject: journald.subject, body: None, way, at });
    }
    check_names(&sinks, problems);
    for sink in sinks.iter().filter(|sink| sink.on == Kinds::NONE) {
        let problem = Problem::warning(format!("the sink `{}` is told of nothing: `on` is empty", sink.name));
        problems.push(problem.at(sink.at.clone()).hint("name kinds in `on`, or remove it"));
    }
    Notify {
        repeat: draft.repeat.unwrap_or(defaults.repeat),
        group_wait: draft.group_wait.unwrap_or(defaults.group_wait),
        max_per_hour: draft.max_per_hour.unwrap_or(defaults.max_per_hour),
        unusual_factor: draft.unusual_factor.unwrap_or(defaults.unusual_factor),
        unusual_min: draft.unusual_min.unwrap_or(defaults.unusual_min),
        learn: draft.learn.unwrap_or(defaults.learn),
        sinks,
    }
}

/// "mail", "mail-2" and so on.
fn free_name(sinks: &[SinkEntry], base: &str) -> String {
    let is_free = |name: &String| sinks.iter().all(|sink| sink.name != *name);
    let numbered = (2..=sinks.len() + 2).map(|n| format!("{base}-{n}"));
    std::iter::once(base.to_owned()).chain(numbered).find(is_free).unwrap_or_else(|| base.to_owned())
}

fn check_names(sinks: &[SinkEntry], problems: &mut Problems) {
    let mut seen: HashMap<&str, &Place> = HashMap::new();
    for sink in sinks {
        if let Some(first) = seen.insert(&sink.name, &sink.at) {
            let message = format!("the name `{}` already is that of a sink {}", sink.name, first.seen_from(&sink.at));
            problems.push(Problem::error(message).at(sink.at.clone()).hint("add another name = \"…\""));
        }
    }
}

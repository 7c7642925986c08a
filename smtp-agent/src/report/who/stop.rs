//! What to type to stop a culprit: safe to paste, and never against a process that only has its number.

use serde::Serialize;
use smtp_common::connection::kind;

use super::Running;
use crate::{attribution::Culprit, store::read::Account};

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stop {
    pub command: String,
    /// What it does, in a few words.
    pub what: String,
}

fn stop(command: String, what: impl Into<String>) -> Stop {
    Stop { command, what: what.into() }
}

/// A word as a shell takes it for itself.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub(super) fn commands(account: &Account, culprit: &Culprit, processes: &[Running]) -> Vec<Stop> {
    let mut all = Vec::new();
    let name = quoted(&account.name);
    match account.kind {
        kind::USER => {
            let what = "refuses all of this user's mail for two hours; `smtp-agent release` takes it back";
            all.push(stop(format!("smtp-agent block {name} --for 2h --reason 'mail flood'"), what));
        }
        kind::CGROUP | kind::NETNS | kind::ROOTLESS => {
            let what = "refuses all of this container's mail for two hours";
            all.push(stop(format!("smtp-agent block {name} --for 2h --reason 'mail flood'"), what));
        }
        // Kernel threads and those without room of their own are nobody.
        _ => {}
    }
    let alive: Vec<String> =
        processes.iter().filter(|process| process.alive == Some(true)).map(|process| process.pid.to_string()).collect();
    if !alive.is_empty() {
        let what = "ends what runs of it now; their start times were compared a moment ago";
        all.push(stop(format!("kill {}", alive.join(" ")), what));
    }
    let unsure = processes.iter().find(|process| process.alive.is_none());
    if let Some(process) = unsure.filter(|_| alive.is_empty()) {
        let what = format!("shows whether process {} still runs; it was seen at {}", process.pid, process.seen);
        all.push(stop(format!("ps -o lstart=,user=,args= -p {}", process.pid), what));
    }
    all.extend(at_the_source(account, culprit));
    all
}

/// What keeps it from being started again.
fn at_the_source(account: &Account, culprit: &Culprit) -> Vec<Stop> {
    let mut all = Vec::new();
    let origin = |of: &str| culprit.origin.as_ref().filter(|origin| origin.kind == of);
    if let Some(origin) = origin("cron") {
        let user = if origin.name.is_empty() || origin.name.contains('/') { &account.name } else { &origin.name };
        all.push(stop(format!("crontab -u {} -e", quoted(user)), "the cron job is in this table, or in /etc/cron.d"));
    }
    if origin("at").is_some() {
        all.push(stop("atq".to_owned(), "shows the jobs of at(1); `atrm NUMBER` removes one"));
    }
    if let Some(pod) = &culprit.pod {
        let namespace = pod.namespace.as_deref().map(|name| format!(" -n {}", quoted(name))).unwrap_or_default();
        all.push(stop(
            format!("kubectl{namespace} delete pod {}", quoted(&pod.name)),
            "ends the pod, which may be made again",
        ));
    } else if let Some(container) = &culprit.container {
        let id = quoted(container.name.as_deref().unwrap_or(&container.id));
        let unit = culprit.unit.as_deref().unwrap_or_default();
        let runtime = if unit.starts_with("libpod-") { "podman" } else { "docker" };
        if unit.starts_with("libpod-") || unit.starts_with("docker-") {
            all.push(stop(format!("{runtime} stop {id}"), "ends the container"));
        }
    }
    match culprit.unit.as_deref() {
        Some(unit) if unit.starts_with("session-") && unit.ends_with(".scope") => {
            let session = unit.trim_start_matches("session-").trim_end_matches(".scope");
            all.push(stop(format!("loginctl terminate-session {}", quoted(session)), "ends the login it came from"));
        }
        Some(unit) if unit.ends_with(".service") && unit != "cron.service" && unit != "crond.service" => {
            all.push(stop(format!("systemctl stop {}", quoted(unit)), "ends the service, with all that it serves"));
        }
        _ => {}
    }
    all
}

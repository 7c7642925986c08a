//! What to type to stop a culprit: safe to paste, and never against a process that only has its number.

use serde::Serialize;
use smtp_common::connection::kind;

use super::Running;
use crate::{
    attribution::Culprit,
    store::{actor::PROCESSES, read::Account},
};

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
        let what = if processes.len() >= PROCESSES {
            format!(
                "ends what runs of its last {PROCESSES} processes; there may be more. Start times were compared a moment ago"
            )
        } else {
            "ends what runs of it now; their start times were compared a moment ago".to_owned()
        };
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
        let namespace =
            pod.namespace.as_deref().map(|name| format!(" --namespace={}", quoted(name))).unwrap_or_default();
        all.push(stop(
            format!("kubectl delete pod{namespace} -- {}", quoted(&pod.name)),
            "ends the pod, which may be made again",
        ));
    } else if let Some(container) = &culprit.container {
        let id = quoted(container.name.as_deref().unwrap_or(&container.id));
        let unit = culprit.unit.as_deref().unwrap_or_default();
        let runtime = if unit.starts_with("libpod-") { "podman" } else { "docker" };
        if unit.starts_with("libpod-") || unit.starts_with("docker-") {
            all.push(stop(format!("{runtime} stop -- {id}"), "ends the container"));
        }
    }
    all.extend(culprit.unit.as_deref().and_then(|unit| unit_stop(account, unit)));
    all
}

/// What ends the unit. Its name may be of its owner's choice, so it is never taken for an option.
fn unit_stop(account: &Account, unit: &str) -> Option<Stop> {
    if let Some((manager, path)) = unit.split_once('/') {
        // A unit of the user's own manager, whatever it calls itself.
        let own = path.rsplit('/').next().filter(|own| own.ends_with(".service"))?;
        let is_his = manager.strip_prefix("user@")?.strip_suffix(".service")? == account.uid.to_string();
        if account.kind != kind::USER || !is_his {
            return None;
        }
        let (user, own) = (quoted(&format!("{}@", account.name)), quoted(own));
        return Some(stop(format!("systemctl --user -M {user} stop -- {own}"), "ends the user's own service"));
    }
    if let Some(session) = unit.strip_prefix("session-").and_then(|rest| rest.strip_suffix(".scope")) {
        return Some(stop(format!("loginctl terminate-session -- {}", quoted(session)), "ends the login it came from"));
    }
    let service = unit.strip_suffix(".service")?;
    // Without these nobody gets in any more, or much else ends with them.
    let vital = [
        "cron",
        "crond",
        "ssh",
        "sshd",
        "dbus",
        "dbus-broker",
        "docker",
        "containerd",
        "crio",
        "kubelet",
        "smtp-agent",
    ];
    let is_vital = |name: &str| vital.contains(&name) || name.starts_with("systemd-") || name.starts_with("user@");
    let template = service.split('@').next().unwrap_or_default();
    if is_vital(template) || service.starts_with("user@") {
        return None;
    }
    Some(stop(format!("systemctl stop -- {}", quoted(unit)), "ends the service, with all that it serves"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, uid: u32) -> Account {
        Account { id: 1, name: name.into(), kind: kind::USER, uid, first: 0, last: 0 }
    }

    fn of_unit(unit: &str) -> Option<String> {
        unit_stop(&account("shop", 1001), unit).map(|stop| stop.command)
    }

    #[test]
    fn names_that_an_attacker_chose_stop_nobody_else_and_are_no_options() {
        for (unit, wanted) in [
            ("php8.2-fpm.service", Some("systemctl stop -- php8.2-fpm.service")),
            ("-Hroot@evil.example.service", Some("systemctl stop -- -Hroot@evil.example.service")),
            ("ssh.service", None),
            ("ssh@3-10.0.0.1:22.service", None),
            ("systemd-networkd.service", None),
            ("user@1001.service", None),
            ("user@1001.service/app.slice/ssh.service", Some("systemctl --user -M shop@ stop -- ssh.service")),
            ("user@1001.service/app.slice/-x.service", Some("systemctl --user -M shop@ stop -- -x.service")),
            ("user@1002.service/app.slice/bot.service", None),
            ("user@1001.service/init.scope", None),
            ("session-c2.scope", Some("loginctl terminate-session -- c2")),
            ("app.slice", None),
        ] {
            assert_eq!(of_unit(unit).as_deref(), wanted, "{unit}");
        }
    }
}

//! `smtp-agent who`: the short answer at three in the morning.

use std::path::Path;

use super::{
    Who as Arguments,
    history::{Past, period},
    output,
    report::sums,
};
use crate::{
    attribution::culprit::Ancestor,
    exit::{Code, Failure, Result},
    report::{
        numbers::grouped,
        who::{Actor, Answer, Asked, Named, Running},
    },
};

const UNKNOWN: &str = "unknown";
/// Parents that are shown; a hostile chain may be long.
const PARENTS: usize = 6;
/// Characters of a line about one, and of another line; the JSON has them whole.
const LINE: usize = 120;
const LONG_LINE: usize = 400;

pub(super) fn who(path: &Path, args: &Arguments) -> Result<Code> {
    let period = period(&args.period, "1h")?;
    let past = Past::open(path)?;
    let user = past.account_if(args.user.as_deref())?;
    let asked = Asked { period, top: args.top as usize, user };
    let answer = Answer::find(&past.reader, &asked, past.now)
        .map_err(|trouble| Failure::unavailable(format!("the history cannot be read: {trouble}")))?;
    // Whoever reads what is printed may take his time, and an open reader holds the journal.
    drop(past);
    if args.json.json {
        output::json(&answer)?;
    } else {
        output::line(&show(&answer))?;
    }
    Ok(if answer.culprits.is_empty() { Code::No } else { Code::Fine })
}

fn show(answer: &Answer) -> String {
    let mut lines = Vec::new();
    if answer.culprits.is_empty() {
        lines.push(format!("nobody: no attempts that count from {} to {}", answer.since, answer.until));
    }
    for (n, named) in answer.culprits.iter().enumerate() {
        if n > 0 {
            lines.push(String::new());
        }
        account(&mut lines, n + 1, named, answer);
    }
    if !answer.exempt.is_empty() {
        let exempt = answer.exempt.iter().map(|exempt| format!("{} ({})", exempt.user, grouped(exempt.attempts)));
        let all = exempt.collect::<Vec<_>>().join(", ");
        lines.push(format!("\nexempt, so not named: {all}. What they sent others may have handed to them."));
    }
    lines.extend(answer.notes.iter().map(|note| format!("\n{note}")));
    lines.join("\n")
}

fn account(lines: &mut Vec<String>, rank: usize, named: &Named, answer: &Answer) {
    let kind = match (named.kind, named.uid) {
        ("user", Some(uid)) => format!("user {} (uid {uid})", named.user),
        ("user", None) => format!("user {}", named.user),
        _ => named.user.clone(),
    };
    lines.push(format!("{rank}. {kind}, {} to {}", answer.since, answer.until));
    lines.extend(sums(&named.numbers).into_iter().map(|line| format!("   {line}")));
    let reached =
        named.limit_reached.as_ref().map(|time| format!("; a limit was reached at {time}")).unwrap_or_default();
    lines.push(format!("   first seen ever {}{reached}", named.first_ever));
    if named.actors.is_empty() {
        lines.push(format!("   what was behind it is {UNKNOWN}: no events of it are kept"));
    }
    for actor in &named.actors {
        lines.push(String::new());
        behind(lines, actor);
    }
}

fn behind(lines: &mut Vec<String>, actor: &Actor) {
    let culprit = &actor.culprit;
    let mut say = |label: &str, value: &str| lines.push(format!("   {label:<10} {}", cut(value.to_owned(), LONG_LINE)));
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    let words =
        |command: &Option<Vec<String>>| command.as_ref().map_or_else(|| UNKNOWN.to_owned(), |words| words.join(" "));
    let deleted = if culprit.exe_deleted { " (deleted)" } else { "" };
    say("process", &format!("{}{deleted}", actor.process));
    let how = |script: &crate::attribution::culprit::Script| format!("{} ({})", script.path, script.how);
    say("script", &culprit.script.as_ref().map_or_else(|| UNKNOWN.to_owned(), how));
    say("service", &or_unknown(&actor.service));
    say("command", &words(&culprit.command));
    if culprit.started_as.is_some() {
        say("started as", &words(&culprit.started_as));
    }
    say("directory", &or_unknown(&culprit.cwd));
    if culprit.lineage.is_empty() {
        say("parents", UNKNOWN);
    }
    for (depth, ancestor) in culprit.lineage.iter().take(PARENTS).enumerate() {
        let label = if depth == 0 { "parents" } else { "" };
        say(label, &format!("{}{}", "  ".repeat(depth), parent(ancestor)));
    }
    let origin = culprit.origin.as_ref().map(|origin| format!("{} {}", origin.kind, origin.name));
    say("set off by", &or_unknown(&origin));
    if let Some(login) = &culprit.login_user {
        say("login", login);
    }
    if let Some(plan) = &actor.limited_by {
        say("plan", plan);
    }
    if !culprit.domains.is_empty() {
        say("domains", &culprit.domains.join(", "));
    }
    say("since", &format!("{} until {}", actor.since, actor.last));
    if actor.first_seen < actor.since {
        say("first seen", &actor.first_seen);
    }
    let n = &actor.numbers;
    say(
        "did",
        &format!("{} attempts, {} stopped; messages: {}", grouped(n.attempts), grouped(n.stopped), n.messages.listed()),
    );
    for running in actor.processes.iter().take(3) {
        say("pid", &process(running));
    }
    for sample in &actor.samples {
        let to = match sample.destination.parse() {
            Ok(address) => std::net::SocketAddr::new(address, sample.port).to_string(),
            Err(_) => sample.destination.clone(),
        };
        let to = sample.destination_name.as_ref().map_or(to.clone(), |name| format!("{to} ({name})"));
        say("seen", &format!("{} pid {} to {to}: {} ({})", sample.time, sample.pid, sample.verdict, sample.reason));
    }
    for sentence in &actor.evidence {
        say("known by", sentence);
    }
    for stop in &actor.stop {
        lines.push(format!("   to stop it: {}", stop.command));
        lines.push(format!("               # {}", stop.what));
    }
}

fn parent(ancestor: &Ancestor) -> String {
    let what = ancestor.exe.clone().unwrap_or_else(|| format!("[{}]", ancestor.comm));
    let user = ancestor.user.as_deref().unwrap_or("unknown user");
    let command = ancestor.command.as_ref().map(|words| format!(": {}", words.join(" "))).unwrap_or_default();
    cut(format!("{what} (pid {}, {user}){command}", ancestor.tgid), LINE)
}

/// The beginning of what is too long for a screen.
fn cut(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn process(running: &Running) -> String {
    let started = running.started.as_deref().map(|time| format!(", began {time}")).unwrap_or_default();
    let alive = match running.alive {
        Some(true) => "; it runs",
        Some(false) => "; it has ended",
        None => "; whether it runs is unknown",
    };
    format!("{}{started}, seen {}{alive}", running.pid, running.seen)
}

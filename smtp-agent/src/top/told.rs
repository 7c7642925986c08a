//! Attempts, ends of sessions and stopped messages as the view tells them: in a line, and in all that is known.

use std::net::SocketAddr;

use super::columns::{columns, end_of, fit};
use crate::{
    attribution::Culprit,
    stream::{
        Line,
        session::{Outcomes, Session},
        story::Story,
    },
};

pub(super) const PARENTS: &str = "parents";
/// Those above the first.
pub(super) const PARENT: &str = "";

/// A line that is looked at closely, and the attempt it goes back to, where that is still known.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    line: Line,
    attempt: Option<Story>,
}

pub(super) fn line(line: &Line, width: usize) -> String {
    let (time, what, to, tgid, more) = match line {
        Line::Connect(story) => {
            let script = story.culprit.script_path();
            let behind = script.or(story.exe.as_deref()).unwrap_or(&story.comm).to_owned();
            (&story.time, &story.verdict, endpoint(story), story.tgid, behind)
        }
        Line::Session(end) => {
            let session = &end.session;
            let messages = if session.messages == Outcomes::default() {
                "no message".to_owned()
            } else {
                session.messages.to_string()
            };
            let more = format!("{messages}, {:.1} s", end.duration_seconds);
            (&session.time, &end.outcome, to(session), session.tgid, more)
        }
        Line::Stop(stop) => {
            let session = &stop.session;
            (&session.time, &stop.verdict, to(session), session.tgid, format!("a {}: {}", stop.unit, stop.reason))
        }
    };
    // RFC 3339: the time of day stands behind the T.
    let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time);
    let begin = [fit(time, 8), fit(what, 12), fit(&to, 20), fit(&tgid.to_string(), 7)].join(" ") + " ";
    let room = width.saturating_sub(columns(&begin));
    // Of a path the end says most.
    begin + &if matches!(line, Line::Connect(_)) { end_of(&more, room) } else { more }
}

fn endpoint(story: &Story) -> String {
    SocketAddr::new(story.destination, story.port).to_string()
}

fn to(session: &Session) -> String {
    SocketAddr::new(session.destination, session.port).to_string()
}

impl Told {
    pub(super) fn new(line: &Line, attempt: Option<&Story>) -> Self {
        Self { line: line.clone(), attempt: attempt.cloned() }
    }

    /// What happened.
    pub(super) fn head(&self) -> String {
        match &self.line {
            Line::Connect(story) => format!("{}  {} ({})", story.time, story.verdict, story.reason),
            Line::Session(end) => format!("{}  session {}", end.session.time, end.outcome),
            Line::Stop(stop) => {
                format!("{}  a {} was {} ({})", stop.session.time, stop.unit, stop.verdict, stop.reason)
            }
        }
    }

    /// All that is known of it, and of who was behind it.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let session = match &self.line {
            Line::Connect(story) => {
                let to = format!("{} port {}, {}", story.destination, story.port, story.route);
                return [("to", to)].into_iter().chain(behind(story, &story.culprit)).collect();
            }
            Line::Session(end) => &end.session,
            Line::Stop(stop) => &stop.session,
        };
        let mut facts = vec![
            ("to", format!("{} port {}, {}", session.destination, session.port, session.route)),
            ("since", session.since.clone()),
            ("messages", session.messages.to_string()),
            ("recipients", session.recipients.to_string()),
            (
                "octets",
                format!(
                    "{} out, {} in, {} sent again",
                    session.bytes_sent, session.bytes_received, session.retransmits
                ),
            ),
        ];
        if let Line::Session(end) = &self.line {
            facts.insert(2, ("lasted", format!("{:.1} s", end.duration_seconds)));
        }
        if !session.notes.is_empty() {
            facts.push(("notes", session.notes.join(", ")));
        }
        match &self.attempt {
            Some(story) => facts.extend(behind(story, &story.culprit)),
            None => {
                facts.push(("process", format!("pid {}, uid {}, {}", session.tgid, session.uid, session.comm)));
                if let Line::Stop(stop) = &self.line {
                    let words = stop.command.as_ref().map(|words| words.join(" "));
                    facts.extend(
                        [("program", &stop.exe), ("command", &words)]
                            .map(|(what, known)| (what, known.clone().unwrap_or_else(|| "unknown".to_owned()))),
                    );
                }
            }
        }
        facts
    }
}

/// What is known of who was behind an attempt, and that the rest is not.
fn behind(story: &Story, culprit: &Culprit) -> Vec<(&'static str, String)> {
    let unknown = || "unknown".to_owned();
    let or_unknown = |value: Option<String>| value.unwrap_or_else(unknown);
    let line = |words: &Vec<String>| words.join(" ");
    let mut facts = vec![
        ("process", format!("pid {}, uid {}, {}", story.tgid, story.uid, story.comm)),
        ("program", or_unknown(story.exe.clone())),
        ("script", or_unknown(culprit.script.as_ref().map(|script| format!("{} ({})", script.path, script.how)))),
        ("command", or_unknown(story.command.as_ref().map(line))),
    ];
    if let Some(started_as) = &culprit.started_as {
        facts.push(("began as", line(started_as)));
    }
    facts.push(("directory", or_unknown(culprit.cwd.clone())));
    facts.push(("since", or_unknown(culprit.started.clone())));
    facts.push(("service", or_unknown(culprit.service().map(str::to_owned))));
    if let Some(origin) = &culprit.origin {
        facts.push(("set going", format!("{} {}", origin.kind, origin.name)));
    }
    if let Some(user) = &culprit.login_user {
        facts.push(("login", user.clone()));
    }
    if !culprit.domains.is_empty() {
        facts.push(("domains", culprit.domains.join(" ")));
    }
    for (n, ancestor) in culprit.lineage.iter().enumerate() {
        let what = ancestor.command.as_ref().map(line).or_else(|| ancestor.exe.clone());
        let user = ancestor.user.as_deref().unwrap_or("unknown");
        let label = if n == 0 { PARENTS } else { PARENT };
        facts.push((
            label,
            format!("{} {user} {}", ancestor.tgid, what.unwrap_or_else(|| format!("[{}]", ancestor.comm))),
        ));
    }
    facts
}

//! How each kind of sink is told, and what would keep it from that.

mod alertmanager;
mod journald;
mod mail;
mod program;
mod trust;
mod web;

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{HOST, Kind, Message, Notice, now, text};
use crate::config::{Notify, Problem, Problems, SinkEntry, Way};

/// Version of the JSON that webhooks and commands are given.
const VERSION: u32 = 1;
/// For a program that hands a mail in. What it does after that is its own business.
const SENDMAIL_TIMEOUT: Duration = Duration::from_secs(30);

/// What webhooks and commands are given.
#[derive(Serialize)]
struct Payload<'a> {
    version: u32,
    subject: &'a str,
    text: &'a str,
    #[serde(flatten)]
    message: &'a Message,
}

/// Delivers a message. `hold` is for how long an alert stands that nobody repeats. Waits for the sink, up to its time limit.
pub(super) fn deliver(sink: &SinkEntry, message: &Message, hold: Duration) -> Result<(), String> {
    let filled = text::fill(message, sink.subject.as_ref(), sink.body.as_ref());
    let json = || {
        let payload = Payload { version: VERSION, subject: &filled.subject, text: &filled.body, message };
        serde_json::to_vec(&payload).map_err(|e| format!("no JSON: {e}"))
    };
    match &sink.way {
        Way::Mail { to, from, sendmail } => {
            let mail = mail::compose(message, &filled, to, from.as_deref())?;
            let argv = mail::argv(sendmail, from.as_deref());
            run(&argv, &mail, SENDMAIL_TIMEOUT)
        }
        Way::Webhook { url, secret_file } => web::hook(url, secret_file.as_deref(), &message.id, &json()?),
        Way::Alertmanager { url } => {
            let alerts = alertmanager::alerts(sink, message, now(), hold);
            let body = serde_json::to_vec(&alerts).map_err(|e| format!("no JSON: {e}"))?;
            web::post(&alertmanager::endpoint(url), &[], &body)
        }
        Way::Command { argv, timeout } => run(argv, &json()?, *timeout),
        Way::Journald { socket } => journald::send(socket, sink.subject.as_ref(), message),
    }
}

/// Runs a program as root, if nobody else can say what it is.
fn run(argv: &[String], input: &[u8], timeout: Duration) -> Result<(), String> {
    match argv.first().and_then(|program| trust::fault(Path::new(program))) {
        Some(fault) => Err(format!("it is not run: {fault}")),
        None => program::run(argv, input, timeout),
    }
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub sink: String,
    pub way: &'static str,
    /// What went wrong.
    pub error: Option<String>,
    pub seconds: f64,
}

/// Tells each sink at once, or those that have this name or are of this kind, that this is a test.
pub fn test(config: &Notify, host: &str, only: Option<&str>) -> Vec<Outcome> {
    let time = now();
    let notices = vec![Notice::new(Kind::Test, HOST, time)];
    let id = format!("test-{time}-{}", std::process::id());
    let message = Message { id, host: host.to_owned(), time, notices, repeated: 0, over_rate: 0, left_out: 0 };
    let is_meant = |sink: &&SinkEntry| only.is_none_or(|only| sink.name == only || sink.way.name() == only);
    let try_one = |sink: &SinkEntry| {
        let began = Instant::now();
        // The alert of a test ends by itself soon.
        let error = deliver(sink, &message, Duration::from_secs(300)).err();
        let seconds = began.elapsed().as_secs_f64();
        Outcome { sink: sink.name.clone(), way: sink.way.name(), error, seconds }
    };
    let try_one = &try_one;
    thread::scope(|scope| {
        let each = |sink| (sink, scope.spawn(move || try_one(sink)));
        let running: Vec<_> = config.sinks.iter().filter(is_meant).map(each).collect();
        let outcome = |(sink, thread): (&SinkEntry, thread::ScopedJoinHandle<'_, Outcome>)| {
            thread.join().unwrap_or_else(|_| Outcome {
                sink: sink.name.clone(),
                way: sink.way.name(),
                error: Some("it failed in a way it should not: please report it".to_owned()),
                seconds: 0.0,
            })
        };
        running.into_iter().map(outcome).collect()
    })
}

/// What of this host would keep sinks from being told.
pub fn problems(config: &Notify) -> Problems {
    let mut problems = Problems::default();
    for sink in &config.sinks {
        let (fault, hint) = match &sink.way {
            Way::Mail { sendmail, .. } => (trust::fault(sendmail), "name the MTA's own in `sendmail`".to_owned()),
            Way::Command { argv, .. } => {
                (argv.first().and_then(|program| trust::fault(Path::new(program))), "mend `argv`".to_owned())
            }
            Way::Webhook { secret_file: Some(file), .. } => (web::secret(file).err(), web::SECRET_HINT.to_owned()),
            _ => (None, String::new()),
        };
        if let Some(fault) = fault {
            let message = format!("the sink `{}` cannot be told: {fault}", sink.name);
            problems.push(Problem::warning(message).at(sink.at.clone()).hint(hint));
        }
    }
    problems
}

#[cfg(test)]
mod tests;

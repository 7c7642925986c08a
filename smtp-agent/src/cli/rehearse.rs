//! `smtp-agent rehearse`: what the configuration would have done with what is recorded, before anybody enforces it.

mod destinations;

use std::{collections::HashMap, path::Path};

use chrono::{Datelike, Local, TimeZone, Timelike};
use serde_json::json;
use smtp_common::{
    connection::{Account, Route, kind},
    tally::MessageOutcome,
};

use super::{
    Rehearse as Arguments,
    history::{Past, period, unreadable},
    load,
    output::{self, Align, Table},
};
use crate::{
    accounts::database::Database,
    config::Config,
    daemon::reload,
    exit::{Code, Result},
    policy::{self, Circumstances, exceptions::Exception, limits::Moment},
    rehearse::{DAY, Flow, Left, Policies, Rehearsal, Told, left_out, rehearse},
    report::{date, numbers::grouped},
    store::{
        Level, Millis,
        counts::is_passed,
        read::{self, Counted, Period},
        record::what,
    },
};

use destinations::{Destinations, asks};

/// Said where exceptions name destinations.
const ESTIMATED: &str =
    "how much of each account's mail went to which destination, which exceptions ask for: as the events tell";

/// Accounts of the table; all are in the JSON.
const ROWS: usize = 20;

pub(super) fn command(path: &Path, args: &Arguments) -> Result<Code> {
    // The policy to rehearse: unlike other commands about the past, this one needs it whole.
    let config = load(path)?.config;
    let users = reload::users()?;
    let subuid = reload::subuid()?;
    let compiled = |moment| policy::compile(&config, &users, &subuid, &Circumstances { moment, said: Vec::new() });
    let policy = compiled(Moment::now());
    let Recorded { period, now, accounts, flows, filled_from } = recorded(path, args, &users, &policy.exceptions)?;
    let mut not_rehearsed = left_out(&config, &policy);
    if args.user.is_some() {
        not_rehearsed.push("everybody but this account: what it shares with others, it has for itself");
    }
    let estimated: Vec<_> = if asks(&policy.exceptions) { vec![ESTIMATED] } else { Vec::new() };
    let told = rehearse(flows, period.from, &accounts, &mut Policies::new(&config, compiled), moment);
    if args.json.json {
        output::json(&json!({
            "since": date(period.from),
            "until": date(period.to.min(now)),
            "windows_since": filled_from.map(date),
            "estimated": estimated,
            "not_rehearsed": not_rehearsed,
            "rehearsal": told,
        }))?;
    } else {
        let mut notes = vec![windows(filled_from, period.from)];
        notes.extend(estimated.iter().map(|what| format!("estimated: {what}")));
        notes.extend(not_rehearsed.iter().map(|what| format!("not rehearsed: {what}")));
        output::line(&show(&told, &config, path, period, now, notes))?;
    }
    Ok(Code::Fine)
}

/// The time of the week, by the host's time zone.
fn moment(time: i64) -> Moment {
    match Local.timestamp_millis_opt(time).earliest() {
        Some(then) => Moment {
            weekday: then.weekday().num_days_from_monday() as u8,
            minute: (then.hour() * 60 + then.minute()) as u16,
        },
        None => Moment::MONDAY,
    }
}

/// Whom the policy knows an account of the history as.
fn account(of: &read::Account, users: &Database) -> Account {
    match of.kind {
        kind::USER => {
            let uid = users.uid(&of.name).or_else(|| of.name.parse().ok()).unwrap_or(of.uid);
            Account::user(uid)
        }
        // Containers have no rules of their own, but windows: the history's number tells them apart.
        kind => Account::new(kind, of.id as u64),
    }
}

/// What is recorded of a period, and of the day before it.
struct Recorded {
    period: Period,
    now: Millis,
    accounts: Vec<(Account, String)>,
    flows: Vec<Flow>,
    /// How far back the windows can be filled; `None` where the history does not reach beyond the period.
    filled_from: Option<Millis>,
}

/// Reads it and lets go of the history: while it is open, the agent's journal grows.
fn recorded(path: &Path, args: &Arguments, users: &Database, exceptions: &[Exception]) -> Result<Recorded> {
    let wanted = period(&args.period, "24h")?;
    let past = Past::open(path)?;
    let only = past.account_if(args.user.as_deref())?.map(|account| account.id);
    let (reader, now) = (&past.reader, past.now);
    let period = reader.widened(wanted, now);
    let before = reader.widened(Period::new(period.from - DAY, period.from), now);
    let known = reader.accounts().map_err(unreadable)?;
    let first = known.values().map(|account| account.first).min();
    let filled_from = first.map(|first| first.max(before.from)).filter(|first| *first < period.from);
    let destinations = Destinations::new(reader, only, exceptions).map_err(unreadable)?;
    let mut tally = Tally::new(known, users, destinations);
    // Where only the sum of a longer stretch is kept, it reaches into the period, which tells of that itself.
    for (part, end) in [(before, period.from), (period, Millis::MAX)] {
        let finest = Period { finest: Level::Minute, ..part };
        reader.counted(finest, only, |counted| tally.add(&counted, end)).map_err(unreadable)?;
    }
    Ok(Recorded { period, now, accounts: tally.accounts, flows: tally.flows, filled_from })
}

/// Sums by account, stretch, route and what exceptions say, by the minute where that is kept.
struct Tally<'a> {
    known: HashMap<i64, read::Account>,
    users: &'a Database,
    destinations: Destinations<'a>,
    accounts: Vec<(Account, String)>,
    places: HashMap<i64, usize>,
    flows: Vec<Flow>,
    /// Where in `flows` those of the stretch and the account begin that were added last.
    latest: usize,
}

impl<'a> Tally<'a> {
    fn new(known: HashMap<i64, read::Account>, users: &'a Database, destinations: Destinations<'a>) -> Self {
        Self { known, users, destinations, accounts: Vec::new(), places: HashMap::new(), flows: Vec::new(), latest: 0 }
    }

    /// What was counted before `end`. All of one stretch and account comes in a row.
    fn add(&mut self, counted: &Counted, end: Millis) -> rusqlite::Result<()> {
        let Some(route) = Route::from_u8(counted.route) else { return Ok(()) };
        let Some(place) = self.place(counted.account) else { return Ok(()) };
        for (exception, n) in self.destinations.shares(counted, self.accounts[place].0)? {
            let (from, length) = (counted.from, counted.level.millis());
            let empty = Flow { from, length, account: place, route: Some(route), exception, ..Flow::default() };
            if let Some(part) = with(empty, counted, n).and_then(|flow| flow.until(end)) {
                self.join(part);
            }
        }
        Ok(())
    }

    /// Adds to the flow of the same kind.
    fn join(&mut self, part: Flow) {
        if self.flows.get(self.latest).is_none_or(|flow| (flow.from, flow.account) != (part.from, part.account)) {
            self.latest = self.flows.len();
        }
        match self.flows[self.latest..]
            .iter_mut()
            .find(|flow| (flow.route, flow.exception) == (part.route, part.exception))
        {
            Some(flow) => {
                flow.attempts += part.attempts;
                flow.admitted += part.admitted;
                flow.messages += part.messages;
                flow.failed += part.failed;
                flow.recipients += part.recipients;
            }
            None => self.flows.push(part),
        }
    }

    /// Place of an account in the list; `None` of one that the history has no name for.
    fn place(&mut self, id: i64) -> Option<usize> {
        if let Some(place) = self.places.get(&id) {
            return Some(*place);
        }
        let known = self.known.get(&id)?;
        self.accounts.push((account(known, self.users), known.name.clone()));
        self.places.insert(id, self.accounts.len() - 1);
        Some(self.accounts.len() - 1)
    }
}

/// A flow of what one counter says; `None` of counters that are about something else.
fn with(empty: Flow, counted: &Counted, n: u64) -> Option<Flow> {
    let if_so = |so: bool| if so { n } else { 0 };
    match counted.what {
        what::CONNECTIONS => Some(Flow { attempts: n, admitted: if_so(is_passed(counted.which)), ..empty }),
        what::MESSAGES => {
            let is = |outcome: MessageOutcome| counted.which == outcome as u8;
            let failed = is(MessageOutcome::Deferred) || is(MessageOutcome::Rejected);
            Some(Flow { messages: n, failed: if_so(failed), ..empty })
        }
        what::RECIPIENTS => Some(Flow { recipients: n, ..empty }),
        _ => None,
    }
}

/// How far back the windows are filled with what came before the period.
fn windows(filled_from: Option<Millis>, begin: Millis) -> String {
    let late = "the history reaches no further back, so limits of a day may be met too late";
    match filled_from {
        Some(from) if from <= begin - DAY => format!("windows: filled from {} on", date(from)),
        Some(from) => format!("windows: filled from {} on; {late}", date(from)),
        None => format!("windows: empty at the beginning; {late}"),
    }
}

fn show(told: &Rehearsal, config: &Config, path: &Path, period: Period, now: Millis, notes: Vec<String>) -> String {
    let attempts: u64 = told.accounts.iter().map(|account| account.attempts).sum();
    let mut out = vec![format!(
        "{} under {}: {} attempts of {} accounts from {} to {}",
        config.mode.name(),
        path.display(),
        number(attempts),
        told.accounts.len(),
        date(period.from),
        date(period.to.min(now)),
    )];
    let stopped: Vec<_> = told.accounts.iter().filter(|account| account.is_stopped()).collect();
    out.push(String::new());
    if stopped.is_empty() {
        out.push("nobody would have been stopped".to_owned());
    } else {
        out.push(table(&stopped));
        if stopped.len() > ROWS {
            out.push(format!("  and {} more; --json lists all", stopped.len() - ROWS));
        }
    }
    out.push(String::new());
    out.push(leaves("connections to other servers", told.connections));
    if told.messages.then > 0 {
        out.push(leaves("messages on them", told.messages));
    }
    let budget =
        config.host.connections.per_day.map_or_else(String::new, |limit| format!(" of {}", number(limit.into())));
    out.push(format!(
        "busiest day (UTC): {} connections then, {}{budget} under this policy",
        number(told.busiest_day.then),
        number(told.busiest_day.would)
    ));
    out.extend(notes);
    if !stopped.is_empty() {
        out.push(
            "what is stopped is stopped as with mode = \"enforce\"; who tries again less often is stopped less".into(),
        );
    }
    out.join("\n")
}

fn number(n: u64) -> String {
    grouped(i64::try_from(n).unwrap_or(i64::MAX))
}

fn leaves(what: &str, left: Left) -> String {
    let spared = left.spared();
    let percent = (spared * 100).checked_div(left.then).unwrap_or(0);
    format!(
        "{what}: {} then, {} under this policy: {} spared ({percent} %)",
        number(left.then),
        number(left.would),
        number(spared)
    )
}

fn table(stopped: &[&Told]) -> String {
    let has_messages = stopped.iter().any(|account| account.messages_refused + account.recipients_refused > 0);
    let mut heads = vec![
        ("ACCOUNT", Align::Left),
        ("ATTEMPTS", Align::Right),
        ("STOPPED THEN", Align::Right),
        ("PASSED", Align::Right),
        ("DEFERRED", Align::Right),
        ("REDIRECTED", Align::Right),
        ("REFUSED", Align::Right),
    ];
    if has_messages {
        heads.extend([("MSGS REFUSED", Align::Right), ("RCPTS REFUSED", Align::Right)]);
    }
    heads.extend([("FIRST STOP", Align::Left), ("BY", Align::Left)]);
    let mut table = Table::new(&heads);
    for account in stopped.iter().take(ROWS) {
        let mut cells = vec![account.account.clone()];
        let connections = [
            account.attempts,
            account.stopped_then,
            account.passed,
            account.deferred,
            account.redirected,
            account.refused,
        ];
        cells.extend(connections.map(number));
        if has_messages {
            cells.extend([account.messages_refused, account.recipients_refused].map(number));
        }
        cells.push(account.first_stop.map(date).unwrap_or_default());
        cells.push(account.reason.unwrap_or_default().to_owned());
        table.row(cells);
    }
    table.render()
}

#[cfg(test)]
mod tests;

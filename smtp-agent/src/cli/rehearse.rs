//! `smtp-agent rehearse`: what the configuration would have done with what is recorded, before anybody enforces it.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use chrono::{Datelike, Local, TimeZone, Timelike};
use serde_json::json;
use smtp_common::{
    connection::{Account, Route, kind},
    counter::Verdict,
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
    policy::{self, Circumstances, limits::Moment},
    rehearse::{Flow, Left, Policies, Rehearsal, Told, left_out, rehearse},
    report::{date, numbers::grouped},
    store::{
        Level, Reader,
        read::{self, Period},
        record::what,
    },
};

/// Accounts of the table; all are in the JSON.
const ROWS: usize = 20;

pub(super) fn command(path: &Path, args: &Arguments) -> Result<Code> {
    let wanted = period(&args.period, "24h")?;
    // The policy to rehearse: unlike other commands about the past, this one needs it whole.
    let config = load(path)?.config;
    let past = Past::open(path)?;
    let only = past.account_if(args.user.as_deref())?.map(|account| account.id);
    let period = past.reader.widened(wanted, past.now);
    let users = reload::users()?;
    let (accounts, flows) = recorded(&past.reader, period, only, &users).map_err(unreadable)?;
    let subuid = reload::subuid()?;
    let compiled = |moment| policy::compile(&config, &users, &subuid, &Circumstances { moment, said: Vec::new() });
    let not_rehearsed = left_out(&config, &compiled(Moment::now()));
    let told = rehearse(flows, &accounts, &mut Policies::new(&config, compiled), moment);
    if args.json.json {
        let (since, until) = (date(period.from), date(period.to.min(past.now)));
        output::json(&json!({ "since": since, "until": until, "not_rehearsed": not_rehearsed, "rehearsal": told }))?;
    } else {
        output::line(&show(&told, &config, path, period, past.now, &not_rehearsed))?;
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

type Recorded = (Vec<(Account, String)>, Vec<Flow>);

/// What is recorded of a period, by the minute where that is kept.
fn recorded(reader: &Reader, period: Period, only: Option<i64>, users: &Database) -> rusqlite::Result<Recorded> {
    let known = reader.accounts()?;
    let mut accounts: Vec<(Account, String)> = Vec::new();
    let mut places: HashMap<i64, usize> = HashMap::new();
    let mut flows: BTreeMap<(i64, usize, u8), Flow> = BTreeMap::new();
    let finest = Period { finest: Level::Minute, ..period };
    reader.counted(finest, only, |counted| {
        let (Some(of), Some(route)) = (known.get(&counted.account), Route::from_u8(counted.route)) else { return };
        let place = *places.entry(counted.account).or_insert_with(|| {
            accounts.push((account(of, users), of.name.clone()));
            accounts.len() - 1
        });
        let flow = flows.entry((counted.from, place, counted.route)).or_insert_with(|| Flow {
            from: counted.from,
            length: counted.length,
            account: place,
            route: Some(route),
            ..Flow::default()
        });
        let n = counted.n.max(0) as u64;
        match counted.what {
            what::CONNECTIONS => {
                flow.attempts += n;
                let passed = Verdict::from_u8(counted.which).is_some_and(|verdict| !verdict.is_applied());
                flow.admitted += if passed { n } else { 0 };
            }
            what::MESSAGES => {
                flow.messages += n;
                let is = |outcome: MessageOutcome| counted.which == outcome as u8;
                let failed = is(MessageOutcome::Deferred) || is(MessageOutcome::Rejected);
                flow.failed += if failed { n } else { 0 };
            }
            what::RECIPIENTS => flow.recipients += n,
            _ => {}
        }
    })?;
    Ok((accounts, flows.into_values().collect()))
}

fn show(told: &Rehearsal, config: &Config, path: &Path, period: Period, now: i64, not_rehearsed: &[&str]) -> String {
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
    out.extend(not_rehearsed.iter().map(|what| format!("not rehearsed: {what}")));
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

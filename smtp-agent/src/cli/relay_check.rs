//! `smtp-agent relay-check`: whether a mail server relays for strangers.

use std::{fmt::Write, str::FromStr, time::Duration};

use clap::Args;

use super::{
    Json,
    output::{self, Align, Table},
};
use crate::{
    daemon::logging::colour,
    exit::{Code, Result},
    relay::{self, HelloName, Mailbox, Options, Outcome, Report, Target, Tried, Verdict, Visit},
};

/// What an answer may take: a server may need some seconds to look at us, and RFC 5321 knows no more than five minutes.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);

/// Most of an answer that the table shows.
const WIDEST: usize = 60;

#[derive(Args)]
pub(super) struct RelayCheck {
    /// The server: HOST, HOST:PORT or [IPv6 address]:PORT; port 25 unless another is named
    #[arg(value_name = "HOST[:PORT]")]
    target: Target,
    /// The server is yours, though it is not this host
    #[arg(long)]
    i_operate_this_host: bool,
    /// Somebody outside in whose name mail is offered; none is sent
    #[arg(long, value_name = "ADDR", default_value = "relay-check@example.org")]
    from: Mailbox,
    /// Somebody outside for whom it is offered
    #[arg(long, value_name = "ADDR", default_value = "relay-check@example.net")]
    to: Mailbox,
    /// What to be called in EHLO; without it, this host's name or address
    #[arg(long, value_name = "NAME")]
    helo: Option<HelloName>,
    /// How long one answer may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,
    #[command(flatten)]
    json: Json,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = humantime::Duration::from_str(text).map_err(|e| format!("{e}; write it as 10s or 1m"))?;
    if TIMEOUTS.contains(&time) { Ok(*time) } else { Err("write a time from 100ms to 5m".to_owned()) }
}

pub(super) fn relay_check(args: &RelayCheck) -> Result<Code> {
    let report = relay::check(&Options {
        target: args.target.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        hello: args.helo.clone(),
        timeout: args.timeout,
        operated: args.i_operate_this_host,
    })?;
    if args.json.json {
        output::json(&report)?;
    } else {
        output::text(&shown(&report, colour(std::io::stdout())))?;
    }
    Ok(match report.verdict {
        Verdict::Closed => Code::Fine,
        Verdict::Open => Code::No,
        Verdict::Unclear => Code::Unavailable,
    })
}

fn shown(report: &Report, colour: bool) -> String {
    let mut text: String = report.visits.iter().map(|visit| visited(visit, colour)).collect();
    if !report.left_out.is_empty() {
        let left_out: Vec<_> = report.left_out.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "not looked at, so not known to be closed: {}", left_out.join(", "));
    }
    if report.visits.len() > 1 {
        let _ = writeln!(text, "{}:{} is {}", report.host, report.port, tinted(report.verdict, colour));
    }
    text
}

/// One address: a line for each probe, the conversation that decided, and the verdict.
fn visited(visit: &Visit, colour: bool) -> String {
    let mut text = match visit.from {
        Some(from) => format!("{}, asked from {from}\n", visit.address),
        None => format!("{}\n", visit.address),
    };
    if !visit.probes.is_empty() {
        let mut table = Table::new(&["PROBE", "FROM", "TO", "", "ANSWER"].map(|head| (head, Align::Left)));
        for Tried { name, from, to, outcome, answer, .. } in &visit.probes {
            let cells = [(*name).to_owned(), format!("<{from}>"), format!("<{to}>"), word(*outcome).to_owned()];
            table.row(cells.into_iter().chain([cut(answer)]).collect());
        }
        text.push_str(&table.render());
        text.push('\n');
    }
    let shown = match visit.shown_by.and_then(|by| visit.probes.get(by)) {
        Some(one) => &one.dialogue,
        None => &visit.opening,
    };
    if !shown.is_empty() {
        text.push_str("evidence\n");
        for line in shown {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "verdict  {}: {}", tinted(visit.verdict, colour), visit.because);
    if let Some(worth) = visit.worth {
        let _ = writeln!(text, "         {worth}");
    }
    text.push('\n');
    text
}

/// The whole line is in the evidence and in the JSON.
fn cut(answer: &str) -> String {
    match answer.char_indices().nth(WIDEST) {
        Some((at, _)) => format!("{}…", &answer[..at]),
        None => answer.to_owned(),
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Accepted => "TAKEN",
        Outcome::Refused => "refused",
        Outcome::Deferred => "put off",
        Outcome::Unanswered => "no answer",
    }
}

fn tinted(verdict: Verdict, colour: bool) -> String {
    let name = verdict.name();
    let tint = match verdict {
        Verdict::Open => "1;31",
        Verdict::Unclear => "1;33",
        Verdict::Closed => "1;32",
    };
    if colour { format!("\x1b[{tint}m{name}\x1b[0m") } else { name.to_owned() }
}

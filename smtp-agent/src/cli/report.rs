//! `smtp-agent report`: who and what sent how much, as a table, JSON, CSV or HTML.

use std::path::Path;

use super::{
    Report as Arguments,
    history::{Past, period, unreadable},
    output::{self, Align, Table},
};
use crate::{
    daemon::quotas,
    exit::{Code, Result},
    report::{
        Asked, Numbers, Quotas, Report, csv, html, nearest_end,
        numbers::{Outcomes, grouped},
        summary::Row,
    },
    store::Dimension,
};

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    User,
    /// Container, pod, systemd unit, PHP-FPM pool, or what set it going
    Service,
    Script,
    /// The program
    Process,
    /// The address
    Destination,
    /// The plan an account is held to
    Plan,
}

impl From<By> for Dimension {
    fn from(by: By) -> Self {
        match by {
            By::User => Self::User,
            By::Service => Self::Service,
            By::Script => Self::Script,
            By::Process => Self::Process,
            By::Destination => Self::Destination,
            By::Plan => Self::Plan,
        }
    }
}

pub(super) fn report(path: &Path, args: &Arguments) -> Result<Code> {
    let period = period(&args.period, "24h")?;
    let past = Past::open(path)?;
    let user = past.account_if(args.user.as_deref())?;
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let asked = Asked { period, by: args.by.into(), top: args.top as usize, user, host };
    // Without a gate nothing is left of limits, and nothing is used.
    let quotas = if args.by == By::User { quotas(&past).unwrap_or_default() } else { Quotas::default() };
    let report = Report::make(&past.reader, &asked, &quotas, past.now).map_err(unreadable)?;
    // Whoever reads what is printed may take his time, and an open reader holds the journal.
    drop(past);
    if args.json {
        output::json(&report)?;
    } else if args.csv {
        output::text(&csv::write(&report))?;
    } else if args.html {
        output::text(&html::write(&report))?;
    } else {
        output::line(&show(&report))?;
    }
    Ok(Code::Fine)
}

/// What is left of each account's limits, as the gate has it now.
fn quotas(past: &Past) -> Result<Quotas> {
    let (_, maps, naming) = past.lenient.gate()?;
    quotas::left(&maps, &naming)
}

fn show(report: &Report) -> String {
    let whose = report.user.as_deref().map(|user| format!(" of {user}")).unwrap_or_default();
    let mut lines = vec![format!("{} to {}{whose}", report.since, report.until)];
    lines.extend(sums(&report.totals));
    lines.push(String::new());
    if report.rows.is_empty() {
        lines.push("nothing was attempted in this period".to_owned());
    } else {
        lines.push(table(report));
    }
    lines.extend(report.notes.iter().map(|note| format!("\n{note}")));
    lines.join("\n")
}

/// Lines that say what the numbers are.
pub(super) fn sums(n: &Numbers) -> Vec<String> {
    let mut lines = vec![format!(
        "attempts {}: {} allowed, {} exempt, {} stopped{}",
        grouped(n.attempts),
        grouped(n.allowed),
        grouped(n.exempt),
        grouped(n.stopped),
        if n.stopped > 0 { format!(" ({})", n.how_stopped()) } else { String::new() }
    )];
    if n.over_limit > 0 {
        lines.push(format!("over a limit {}", grouped(n.over_limit)));
    }
    if n.submitted > 0 {
        lines.push(format!("handed to the local MTA {}", grouped(n.submitted)));
    }
    if n.sessions.all() == 0 && n.messages == Outcomes::default() && n.recipients == Outcomes::default() {
        return lines;
    }
    lines.push(format!(
        "sessions {}: {} ended in order, {} failed, {} ended by the gate",
        grouped(n.sessions.all()),
        grouped(n.sessions.closed),
        grouped(n.sessions.failed),
        grouped(n.sessions.ended)
    ));
    lines.push(format!("messages: {}; recipients: {}", n.messages.listed(), n.recipients.listed()));
    lines
}

fn table(report: &Report) -> String {
    let has_left = report.rows.iter().any(|row| !row.left.is_empty());
    let head = match report.by {
        "user" => "USER",
        "service" => "SERVICE",
        "script" => "SCRIPT",
        "process" => "PROCESS",
        "destination" => "DESTINATION",
        _ => "PLAN",
    };
    let numbers =
        ["ATTEMPTS", "ALLOWED", "EXEMPT", "STOPPED", "OVER", "FAILED", "ACCEPTED", "DEFERRED", "REJECTED", "RCPTS"];
    let mut heads = vec![(head, Align::Left)];
    heads.extend(numbers.map(|name| (name, Align::Right)));
    if has_left {
        heads.push(("LEFT", Align::Left));
    }
    let mut table = Table::new(&heads);
    for Row { name, numbers: n, left: quota } in report.rows.iter().chain(&report.rest) {
        let mut cells = vec![name.clone()];
        cells.extend(n.columns().map(grouped));
        if has_left {
            cells.push(nearest_end(quota));
        }
        table.row(cells);
    }
    table.render()
}

//! `status` for people: some lines on the gate and the host, then a table for each thing that is counted. A column is
//! shown where somebody has something in it, so that a line fits a terminal.

use smtp_common::{
    counter::Verdict,
    tally::{MessageOutcome, RecipientOutcome, SessionOutcome, Unit, Unseen},
    window::Span,
};

use super::{
    super::output::{Align, Table},
    Status,
};
use crate::{
    accounts::label::printable,
    metrics::budget::CONNECTION,
    overview::{AccountStatus, Conversations, Counts, LimitUsage, Overview, SharedStatus, Usage},
};

pub(super) fn show(Status { overview, by_hand }: &Status) -> String {
    let mut out = head(overview);
    out.push(String::new());
    if let Some(table) = shared(&overview.shared) {
        out.extend([table, String::new()]);
    }
    if let Some(table) = by_hand.table() {
        out.push(format!("by hand\n{table}\n"));
    }
    if overview.accounts.is_empty() {
        out.push("no SMTP connection has been seen yet".into());
        return out.join("\n");
    }
    let tables = [connections, messages, brakes, recipients, sessions, unseen].map(|table| table(&overview.accounts));
    out.push(tables.into_iter().flatten().collect::<Vec<_>>().join("\n\n"));
    out.join("\n")
}

fn head(status: &Overview) -> Vec<String> {
    let stands = status.stands();
    let mut out = vec![
        format!("gate     {}", if stands { "in force" } else { "NOT ATTACHED: nothing is limited or counted" }),
        format!(
            "agent    {}",
            if status.agent_running {
                "running"
            } else {
                "not running; the gate stands without it, events and metrics do not"
            }
        ),
        format!(
            "policy   generation {}, mode {}, ports {}",
            status.policy_generation,
            status.mode,
            status.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
        ),
    ];
    if !status.messages_wanted {
        out.push("messages are not followed ([smtp] messages = false)".into());
    } else if stands && !status.messages_followed {
        out.push(
            "messages NOT FOLLOWED: the programs that read sessions are not attached, so messages and recipients are \
             neither counted nor limited; `systemctl restart smtp-agent` attaches them"
                .into(),
        );
    }
    let host = &status.host;
    out.push(format!("host     {}, {}", of_budget(host.hour, Span::Hour), of_budget(host.day, Span::Day)));
    for unit in Unit::ALL {
        let of = |span| usage(&host.limits, unit.name(), span);
        let (Some(hour), Some(day)) = (of(Span::Hour), of(Span::Day)) else { continue };
        let worth_telling = [hour, day].iter().any(|usage| usage.limit.is_some() || usage.used > 0);
        if status.messages_wanted && worth_telling {
            let (hour, day) = (of_budget(hour, Span::Hour), of_budget(day, Span::Day));
            out.push(format!("         {}s: {hour}, {day}", unit.name()));
        }
    }
    let lost: Vec<_> = status.lost.iter().filter(|(_, n)| **n > 0).map(|(what, n)| format!("{what} {n}")).collect();
    if !lost.is_empty() {
        out.push(format!("lost     {} (events or entries, never counts)", lost.join(", ")));
    }
    out
}

/// What plans, groups and cgroups have used of the limits they share, where they have used any.
fn shared(all: &[SharedStatus]) -> Option<String> {
    let is_used = |held: &&SharedStatus| held.limits.iter().any(|limit| limit.usage.used > 0);
    let used: Vec<&SharedStatus> = all.iter().filter(is_used).collect();
    let columns: Vec<_> = SHARED_COLUMNS
        .into_iter()
        .filter(|(_, unit, span)| used.iter().any(|held| usage(&held.limits, unit, *span).is_some()))
        .collect();
    let heads = columns.iter().map(|(head, ..)| (*head, Align::Right));
    let heads: Vec<_> = [("SHARED BY", Align::Left), ("", Align::Left)].into_iter().chain(heads).collect();
    let mut table = Table::new(&heads);
    for held in &used {
        let cells = columns.iter().map(|(_, unit, span)| match usage(&held.limits, unit, *span) {
            Some(Usage { used, limit: Some(limit) }) => format!("{used}/{limit}"),
            _ => NOTHING.into(),
        });
        let name = printable(held.name.as_bytes());
        table.row([held.level.to_owned(), name].into_iter().chain(cells).collect());
    }
    (!used.is_empty()).then(|| table.render())
}

const SHARED_COLUMNS: [(&str, &str, Span); 6] = [
    ("CONN/HOUR", CONNECTION, Span::Hour),
    ("CONN/DAY", CONNECTION, Span::Day),
    ("MSGS/HOUR", Unit::Message.name(), Span::Hour),
    ("MSGS/DAY", Unit::Message.name(), Span::Day),
    ("RCPT/HOUR", Unit::Recipient.name(), Span::Hour),
    ("RCPT/DAY", Unit::Recipient.name(), Span::Day),
];

fn of_budget(usage: Usage, span: Span) -> String {
    let limit = usage.limit.map_or("no limit".into(), |n| format!("of {n}"));
    format!("{} {limit} this {}", usage.used, span.name())
}

fn usage(limits: &[LimitUsage], unit: &str, span: Span) -> Option<Usage> {
    limits.iter().find(|held_to| held_to.unit == unit && held_to.window == span.name()).map(|held_to| held_to.usage)
}

const NOTHING: &str = "-";

/// One column: its heading, and what an account has in it.
struct Column<'a> {
    head: &'static str,
    align: Align,
    /// Shown even where nobody has anything.
    always: bool,
    cell: Box<dyn Fn(&AccountStatus) -> String + 'a>,
}

impl<'a> Column<'a> {
    fn new(head: &'static str, cell: impl Fn(&AccountStatus) -> String + 'a) -> Self {
        Self { head, align: Align::Right, always: false, cell: Box::new(cell) }
    }

    fn always(self) -> Self {
        Self { always: true, ..self }
    }

    fn left(self) -> Self {
        Self { align: Align::Left, ..self }
    }

    fn number(head: &'static str, n: impl Fn(&AccountStatus) -> u64 + 'a) -> Self {
        Self::new(head, move |account| n(account).to_string())
    }

    fn limit(head: &'static str, unit: &'static str, span: Span) -> Self {
        Self::new(head, move |account| match usage(&account.limits, unit, span) {
            Some(Usage { used, limit: Some(limit) }) => format!("{used}/{limit}"),
            _ => NOTHING.into(),
        })
    }
}

fn is_empty(cell: &str) -> bool {
    // Nothing used of a limit is nothing, too.
    matches!(cell, NOTHING | "0" | "") || cell.starts_with("0/")
}

/// The accounts that have something in a column of the table, in the columns that anybody has something in.
fn table(accounts: &[AccountStatus], columns: Vec<Column<'_>>) -> Option<String> {
    let mut rows: Vec<(&AccountStatus, Vec<String>)> =
        accounts.iter().map(|account| (account, columns.iter().map(|c| (c.cell)(account)).collect())).collect();
    rows.retain(|(_, cells)| columns.iter().zip(cells).any(|(column, cell)| column.always || !is_empty(cell)));
    if rows.is_empty() {
        return None;
    }
    let shown: Vec<usize> = (0..columns.len())
        .filter(|&i| columns[i].always || rows.iter().any(|(_, cells)| !is_empty(&cells[i])))
        .collect();
    let heads = shown.iter().map(|&i| (columns[i].head, columns[i].align));
    let heads: Vec<_> = [("ACCOUNT", Align::Left)].into_iter().chain(heads).collect();
    let mut table = Table::new(&heads);
    for (account, mut cells) in rows {
        let cells = shown.iter().map(|&i| std::mem::take(&mut cells[i]));
        table.row([account.account.clone()].into_iter().chain(cells).collect());
    }
    Some(table.render())
}

fn connections(accounts: &[AccountStatus]) -> Option<String> {
    let sum = |counts: &Counts, verdicts: &[Verdict]| verdicts.iter().filter_map(|v| counts.get(v.name())).sum::<u64>();
    let remote = |head, verdicts: &'static [Verdict]| Column::number(head, move |a| sum(&a.remote, verdicts)).always();
    let columns = vec![
        Column::limit("HOUR", CONNECTION, Span::Hour).always(),
        Column::limit("DAY", CONNECTION, Span::Day).always(),
        remote(
            "PASSED",
            &[Verdict::Allowed, Verdict::Exempt, Verdict::WouldDefer, Verdict::WouldRedirect, Verdict::WouldRefuse],
        ),
        Column::number("WOULD STOP", move |a| {
            sum(&a.remote, &[Verdict::WouldDefer, Verdict::WouldRedirect, Verdict::WouldRefuse])
        }),
        remote("DEFERRED", &[Verdict::Deferred]),
        Column::number("REDIRECTED", move |a| sum(&a.remote, &[Verdict::Redirected])),
        remote("REFUSED", &[Verdict::Refused]),
        Column::number("LOCAL", |a| a.local.values().sum()).always(),
        Column::number("PIPE", |a| a.pipe.values().sum()),
        Column::new("RULE", |a| a.rule.to_owned()).left().always(),
    ];
    titled("connections", table(accounts, columns))
}

/// A column for each entry of a list.
fn list<'a, const N: usize>(
    names: [&'static str; N],
    heads: [&'static str; N],
    of: impl Fn(&Conversations) -> &Counts + Copy + 'a,
) -> impl Iterator<Item = Column<'a>> {
    let column = move |(name, head)| Column::number(head, move |a| of(&a.conversations)[name]);
    names.into_iter().zip(heads).map(column)
}

fn titled(title: &str, table: Option<String>) -> Option<String> {
    table.map(|table| format!("{title}\n{table}"))
}

fn messages(accounts: &[AccountStatus]) -> Option<String> {
    let unit = Unit::Message;
    let mut columns =
        vec![Column::limit("HOUR", unit.name(), Span::Hour), Column::limit("DAY", unit.name(), Span::Day)];
    let heads = ["ACCEPTED", "DEFERRED", "REJECTED", "UNKNOWN"];
    columns.extend(list(MessageOutcome::ALL.map(MessageOutcome::name), heads, |c| &c.messages));
    columns.push(Column::number("STOPPED", move |a| a.conversations.stopped(unit)));
    titled("messages", table(accounts, columns))
}

fn brakes(accounts: &[AccountStatus]) -> Option<String> {
    let failed = |a: &AccountStatus| a.brake.and_then(|brake| brake.failed_percent);
    let holds = |a: &AccountStatus| a.brake.is_some_and(|brake| brake.holds);
    let columns = vec![
        Column::new("FAILED", move |a| failed(a).map_or(NOTHING.into(), |percent| format!("{percent:.0} %"))),
        Column::new("BRAKE", move |a| if holds(a) { "HOLDS" } else { NOTHING }.into()),
    ];
    titled("messages of the last hour that failed", table(accounts, columns))
}

fn recipients(accounts: &[AccountStatus]) -> Option<String> {
    let unit = Unit::Recipient;
    let mut columns =
        vec![Column::limit("HOUR", unit.name(), Span::Hour), Column::limit("DAY", unit.name(), Span::Day)];
    let heads = ["ACCEPTED", "DEFERRED", "REJECTED"];
    columns.extend(list(RecipientOutcome::ALL.map(RecipientOutcome::name), heads, |c| &c.recipients));
    columns.push(Column::number("STOPPED", move |a| a.conversations.stopped(unit)));
    titled("recipients", table(accounts, columns))
}

fn sessions(accounts: &[AccountStatus]) -> Option<String> {
    let heads = ["ESTABLISHED", "CLOSED", "RESET", "REFUSED", "TIMED OUT", "UNREACHABLE", "ABORTED", "ENDED"];
    let columns = list(SessionOutcome::ALL.map(SessionOutcome::name), heads, |c| &c.sessions);
    titled("sessions", table(accounts, columns.collect()))
}

fn unseen(accounts: &[AccountStatus]) -> Option<String> {
    let heads = ["ENCRYPTED", "JOINED LATE", "UNCLEAR", "NO MEMORY"];
    let columns = list(Unseen::ALL.map(Unseen::name), heads, |c| &c.unseen);
    titled("sessions whose messages are not all counted", table(accounts, columns.collect()))
}

#[cfg(test)]
mod tests;

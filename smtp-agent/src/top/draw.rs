//! The view on a screen of any size, made for 80 by 24. Colours say nothing that is not said without them.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Clear, Paragraph},
};
use smtp_common::tally::Unit;

use super::{
    app::{App, Prompt, TIMES, View},
    columns::{fit, right, rows},
    told::{PARENT, PARENTS, Told, line},
};
use crate::{
    accounts::label::printable,
    metrics::budget::CONNECTION,
    overview::{AccountStatus, Overview, Usage},
};

/// What the terminal can do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub colour: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
}

const RATE: usize = 7;
/// Rows of one fact about an attempt.
const ROWS: usize = 3;
const BAR: usize = 6;
const USED: usize = 10;
const STOPPED: usize = 7;
const SPARK: usize = 8;
/// All columns but that of names, with a blank between each.
const OTHERS: usize = 1 + RATE + 2 * (1 + BAR + 1 + USED) + 1 + STOPPED + 1 + SPARK;

pub fn draw(frame: &mut Frame<'_>, app: &App, look: Look) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    let pen = Pen { look, width: frame.area().width as usize };
    frame.render_widget(Paragraph::new(pen.head(app)), head);
    let lines = match &app.view {
        View::Accounts => pen.accounts(app, body.height as usize),
        View::Account(name) => pen.account(app, name, body.height as usize),
        View::Told(name, told) => pen.told(name, told),
    };
    frame.render_widget(Paragraph::new(lines), body);
    frame.render_widget(Paragraph::new(pen.foot(app)), foot);
    if app.help {
        help(frame, body);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let text = "\
 Up Down  j k     choose                 Enter  look closer    Esc  back
 PgUp PgDn Home End                      s      sort by rate, used, stopped, name
 /                names that contain     p      pause
 b                block, after a yes     r      release, after a yes
 q                quit                   ?      this

 PER MIN    attempts in the last minute, on all routes, whatever became of them
 HOUR DAY   the limit that is used most: connections, m messages, r recipients; ! at it
 STOPPED    since the gate was first put in force (observe: would have been)
 The graph  attempts at each look, the last on the right";
    let lines: Vec<_> = text.lines().map(Line::from).collect();
    let height = (lines.len() as u16).min(area.height);
    let area = Rect { height, ..area };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines), area);
}

struct Pen {
    look: Look,
    width: usize,
}

/// 1234567 as 1.2M: what a column of numbers has room for.
fn short(n: u64) -> String {
    match n {
        0..=99_999 => n.to_string(),
        100_000..=9_999_999 => format!("{}k", n / 1000),
        _ => format!("{}M", n / 1_000_000),
    }
}

impl Pen {
    fn style(&self, colour: Color, plain: Modifier) -> Style {
        if self.look.colour { Style::new().fg(colour) } else { Style::new().add_modifier(plain) }
    }

    fn alarm(&self) -> Style {
        self.style(Color::Red, Modifier::BOLD)
    }

    fn of_percent(&self, percent: u64) -> Style {
        match percent {
            0..80 => Style::new(),
            80..100 => self.style(Color::Yellow, Modifier::empty()),
            _ => self.alarm(),
        }
    }

    fn head(&self, app: &App) -> Vec<Line<'static>> {
        let Some(overview) = &app.overview else { return vec![Line::from("smtp-agent top: reading the gate")] };
        let mut state = vec![Span::raw(format!("smtp-agent  mode {}  ", overview.mode))];
        if !overview.stands() {
            state.push(Span::styled("gate NOT ATTACHED  ", self.alarm()));
        }
        state.push(Span::raw(if overview.agent_running { "agent running  " } else { "agent NOT running  " }));
        state.push(Span::raw(format!("{} accounts  by {}", overview.accounts.len(), app.sort.name())));
        if !app.filter.is_empty() {
            state.push(Span::raw(format!("  /{}", printable(app.filter.as_bytes()))));
        }
        if app.paused {
            state.push(Span::styled("  PAUSED", Style::new().add_modifier(Modifier::REVERSED)));
        }
        vec![Line::from(state), self.host(overview, app.missed), Line::default()]
    }

    fn host(&self, overview: &Overview, missed: u64) -> Line<'static> {
        let mut line = vec![Span::raw("host ")];
        for (name, usage) in [("hour", overview.host.hour), ("day", overview.host.day)] {
            line.push(Span::raw(format!(" {name} ")));
            line.extend(self.usage(Some(usage), ""));
        }
        let lost: u64 = overview.lost.values().sum();
        if lost > 0 {
            line.push(Span::raw(format!("  {} events lost", short(lost))));
        }
        if missed > 0 {
            line.push(Span::raw(format!("  {} attempts not shown", short(missed))));
        }
        Line::from(line)
    }

    /// A bar and numbers, in `BAR + 1 + USED` columns.
    /// `unit` stands behind the limit: nothing where it is known or of connections.
    fn usage(&self, usage: Option<Usage>, unit: &str) -> Vec<Span<'static>> {
        let Some(usage) = usage else { return vec![Span::raw(fit("", BAR + 1 + USED))] };
        let Some(percent) = usage.percent() else {
            return vec![Span::raw(format!("{} {}", fit("", BAR), fit(&short(usage.used), USED)))];
        };
        let full = ((percent.min(100) as usize * BAR).div_ceil(100)).min(BAR);
        let (on, off) = if self.look.unicode { ("█", "░") } else { ("#", ".") };
        let bar = on.repeat(full) + &off.repeat(BAR - full);
        let mark = if percent >= 100 { "!" } else { "" };
        let numbers = format!("{}/{}{unit}{mark}", short(usage.used), short(u64::from(usage.limit.unwrap_or(0))));
        let style = self.of_percent(percent);
        vec![Span::styled(bar, style), Span::styled(format!(" {}", fit(&numbers, USED)), style)]
    }

    fn spark(&self, steps: &[u64]) -> String {
        let signs: Vec<char> = if self.look.unicode {
            " ▁▂▃▄▅▆▇█".chars().collect()
        } else {
            " .:-=+*#@".chars().collect()
        };
        let last = &steps[steps.len().saturating_sub(SPARK)..];
        let most = last.iter().copied().max().unwrap_or(0).max(1);
        let graph: String = last.iter().map(|step| signs[(step * 8).div_ceil(most) as usize]).collect();
        right(&graph, SPARK)
    }

    fn accounts(&self, app: &App, height: usize) -> Vec<Line<'static>> {
        let names = self.width.saturating_sub(OTHERS).max(8);
        let window = BAR + 1 + USED;
        let heads = format!(
            "{} {} {} {} {} {}",
            fit("ACCOUNT", names),
            right("PER MIN", RATE),
            fit("HOUR", window),
            fit("DAY", window),
            right("STOPPED", STOPPED),
            right("ATTEMPTS", SPARK),
        );
        let mut lines = vec![Line::styled(fit(&heads, self.width), Style::new().add_modifier(Modifier::BOLD))];
        let shown = app.shown();
        if shown.is_empty() {
            let why = if app.filter.is_empty() { "no SMTP connection has been seen yet" } else { "no such account" };
            lines.push(Line::from(why));
        }
        let at = shown.iter().position(|account| Some(&account.account) == app.selected.as_ref()).unwrap_or(0);
        let rows = height.saturating_sub(1).max(1);
        for account in shown.iter().skip(page(at, rows)).take(rows) {
            let is_selected = Some(&account.account) == app.selected.as_ref();
            lines.push(self.row(app, account, names, is_selected));
        }
        lines
    }

    fn row(&self, app: &App, account: &AccountStatus, names: usize, is_selected: bool) -> Line<'static> {
        let rate = app.rates.per_minute(&account.account);
        let stopped = account.stopped();
        let mut spans =
            vec![Span::raw(format!("{} {} ", fit(&account.account, names), right(&format!("{rate:.1}"), RATE)))];
        for window in ["hour", "day"] {
            let fullest = account.fullest(window);
            // Of messages or recipients; of connections where nothing stands there.
            let unit = fullest.map_or("", |held| if held.unit == CONNECTION { "" } else { &held.unit[..1] });
            spans.extend(self.usage(fullest.map(|held| held.usage), unit));
            spans.push(Span::raw(" "));
        }
        let style = if stopped > 0 { self.style(Color::Yellow, Modifier::empty()) } else { Style::new() };
        spans.push(Span::styled(right(&short(stopped), STOPPED), style));
        spans.push(Span::raw(format!(" {}", self.spark(&app.rates.steps(&account.account)))));
        if is_selected {
            // Colours turned round would be hard to read.
            let plain = spans.into_iter().map(|span| Span::raw(span.content)).collect::<Vec<_>>();
            return Line::from(plain).style(Style::new().add_modifier(Modifier::REVERSED));
        }
        Line::from(spans)
    }

    fn account(&self, app: &App, name: &str, height: usize) -> Vec<Line<'static>> {
        let mut lines = vec![Line::styled(printable_line(name), Style::new().add_modifier(Modifier::BOLD))];
        if let Some(account) = app.account(name) {
            lines.extend(self.standing(account));
        }
        let recent = app.recent.of(name);
        let heading = match &app.deaf {
            Some(why) => format!("no attempts are told: {why}"),
            None if recent.len() == 0 => "nothing was told since this view was opened".to_owned(),
            None => fit("TIME     VERDICT      DESTINATION          PID     SCRIPT, PROGRAM OR MESSAGES", self.width),
        };
        lines.push(Line::default());
        lines.push(Line::styled(heading, Style::new().add_modifier(Modifier::BOLD)));
        let rows = height.saturating_sub(lines.len()).max(1);
        for (n, told) in recent.enumerate().skip(page(app.attempt, rows)).take(rows) {
            let line = Line::from(fit(&line(told, self.width), self.width));
            let is_selected = n == app.attempt;
            lines.push(if is_selected { line.style(Style::new().add_modifier(Modifier::REVERSED)) } else { line });
        }
        lines
    }

    /// Limits, verdicts, sessions and messages of an account.
    fn standing(&self, account: &AccountStatus) -> Vec<Line<'static>> {
        let mut lines = vec![Line::from(format!("rule {}", account.rule))];
        for pair in account.limits.chunks(2) {
            let mut spans = Vec::new();
            for held in pair {
                spans.push(Span::raw(fit(&format!("{}s/{}", held.unit, held.window), 17)));
                spans.extend(self.usage(Some(held.usage), ""));
                spans.push(Span::raw("  "));
            }
            lines.push(Line::from(spans));
        }
        let counts = |name: &str, counts: &crate::overview::Counts| {
            let told: Vec<_> =
                counts.iter().filter(|(_, n)| **n > 0).map(|(what, n)| format!("{} {what}", short(*n))).collect();
            (!told.is_empty()).then(|| Line::from(format!("{} {}", fit(name, 10), told.join("  "))))
        };
        lines.extend(counts("remote", &account.remote));
        lines.extend(counts("local", &account.local));
        lines.extend(counts("sendmail", &account.pipe));
        lines.extend(counts("sessions", &account.conversations.sessions));
        lines.extend(counts("messages", &account.conversations.messages));
        lines.extend(counts("recipients", &account.conversations.recipients));
        for unit in Unit::ALL {
            lines.extend(counts(&format!("{}s", unit.name()), &account.conversations.stops(unit)));
        }
        if account.brake.is_some_and(|brake| brake.holds) {
            lines.push(Line::styled("the failure brake holds it", self.alarm()));
        }
        lines
    }

    fn told(&self, name: &str, told: &Told) -> Vec<Line<'static>> {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut lines = vec![Line::styled(printable_line(name), bold), Line::from(told.head())];
        for (what, value) in told.facts() {
            let indent = 11;
            let room = self.width.saturating_sub(indent).max(10);
            // Long ones go on below, where what matters may stand at their end; those of parents do not, and none fills the
            // screen: the JSON of `smtp-agent who` has it whole.
            let most = if what == PARENT || what == PARENTS { 1 } else { ROWS };
            for (n, part) in rows(&value, room, most).into_iter().enumerate() {
                let label = if n == 0 { fit(what, indent) } else { fit("", indent) };
                lines.push(Line::from(label + &part));
            }
        }
        lines
    }

    fn foot(&self, app: &App) -> Line<'static> {
        let ask = Style::new().add_modifier(Modifier::REVERSED);
        match (&app.prompt, &app.message) {
            (Some(Prompt::Block { account, time }), _) => {
                let text = format!(
                    "block {account} for {}?  y yes   <- -> time ({})   other keys: no",
                    TIMES[*time].0,
                    TIMES.map(|(name, _)| name).join(" ")
                );
                Line::styled(fit(&text, self.width), ask)
            }
            (Some(Prompt::Release { account }), _) => {
                let text = format!(
                    "release {account}: lift what was said by hand, empty its windows?  y yes   other keys: no"
                );
                Line::styled(fit(&text, self.width), ask)
            }
            (Some(Prompt::Filter), _) => Line::styled(
                fit(
                    &format!("names that contain: {}_   Enter done   Esc all", printable(app.filter.as_bytes())),
                    self.width,
                ),
                ask,
            ),
            (None, Some(message)) => Line::styled(fit(message, self.width), Style::new().add_modifier(Modifier::BOLD)),
            (None, None) => {
                let keys = match app.view {
                    View::Accounts => {
                        "Enter look closer  b block  r release  s sort  / filter  p pause  ? help  q quit"
                    }
                    _ => "Esc back  Enter look closer  b block  r release  p pause  ? help  q quit",
                };
                Line::from(fit(keys, self.width))
            }
        }
    }
}

fn printable_line(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The first row of the page that row `at` is on.
fn page(at: usize, rows: usize) -> usize {
    at / rows * rows
}

#[cfg(test)]
mod tests;

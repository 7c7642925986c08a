//! What the view shows and what keys do.

use std::{cmp::Reverse, time::Instant};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{rates::Rates, recent::Recent, told::Told};
use crate::{
    by_hand::Says,
    overview::{AccountStatus, Overview},
    stream::Line,
};

/// How long a block can be said for; `None` is for ever.
pub(super) const TIMES: [(&str, Option<u64>); 5] =
    [("15m", Some(900)), ("2h", Some(7200)), ("8h", Some(28_800)), ("24h", Some(86_400)), ("ever", None)];

/// What a key asks for, besides what the view does by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Nothing,
    Quit,
    Say { says: Says, account: String, seconds: Option<u64> },
    Release { account: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Rate,
    Used,
    Stopped,
    Name,
}

impl Sort {
    const ALL: [Self; 4] = [Self::Rate, Self::Used, Self::Stopped, Self::Name];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Used => "used",
            Self::Stopped => "stopped",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum View {
    Accounts,
    /// The last attempts and sessions of one.
    Account(String),
    /// All that is known of one of them, and who was behind it.
    Told(String, Box<Told>),
}

/// A question that is asked before anything is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    Block {
        account: String,
        time: usize,
    },
    Release {
        account: String,
    },
    /// The names that are shown contain what is typed, in letters of either case.
    Filter,
}

pub struct App {
    pub(super) overview: Option<Overview>,
    pub(super) rates: Rates,
    pub(super) recent: Recent,
    pub(super) view: View,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) prompt: Option<Prompt>,
    /// What was done last, or why not.
    pub(super) message: Option<String>,
    pub(super) help: bool,
    pub(super) paused: bool,
    /// Name of the account under the bar, so that it stays there when the order changes.
    pub(super) selected: Option<String>,
    /// Number of the attempt under the bar.
    pub(super) attempt: usize,
    /// Why no attempts are told.
    pub(super) deaf: Option<String>,
    /// Attempts that were told faster than the terminal took them.
    pub(super) missed: u64,
}

impl Default for App {
    fn default() -> Self {
        Self {
            overview: None,
            rates: Rates::default(),
            recent: Recent::default(),
            view: View::Accounts,
            sort: Sort::Rate,
            filter: String::new(),
            prompt: None,
            message: None,
            help: false,
            paused: false,
            selected: None,
            attempt: 0,
            deaf: None,
            missed: 0,
        }
    }
}

impl App {
    /// Takes the state of a moment, unless the view is paused.
    pub fn update(&mut self, overview: Overview, now: Instant) {
        if self.paused {
            return;
        }
        let counts = overview.accounts.iter().map(|account| (account.account.clone(), account.attempts()));
        self.rates.sample(now, counts);
        self.overview = Some(overview);
        let shown = self.shown();
        if !self.selected.as_ref().is_some_and(|name| shown.iter().any(|account| account.account == *name)) {
            self.selected = shown.first().map(|account| account.account.clone());
        }
    }

    pub fn hear(&mut self, line: Line) {
        if self.paused {
            return;
        }
        // The bar stays on the attempt that it is on, as long as that is kept.
        let here = match &self.view {
            View::Account(name) if line.account() == name => Some(name.clone()),
            _ => None,
        };
        self.recent.add(line);
        if let Some(name) = here.filter(|_| self.attempt > 0) {
            self.attempt = (self.attempt + 1).min(self.recent.of(&name).len().saturating_sub(1));
        }
    }

    /// Nothing is heard, and why; `None` when that is over.
    pub fn set_deaf(&mut self, why: Option<String>) {
        self.deaf = why;
    }

    pub fn set_missed(&mut self, missed: u64) {
        self.missed = missed;
    }

    /// How closely the view looks: changes with every other view.
    pub fn level(&self) -> u8 {
        match self.view {
            View::Accounts => 0,
            View::Account(_) => 1,
            View::Told(..) => 2,
        }
    }

    pub fn say(&mut self, message: impl Into<String>) {
        self.message = Some(message.into());
    }

    /// The accounts of the table, in their order.
    pub(super) fn shown(&self) -> Vec<&AccountStatus> {
        let all = self.overview.iter().flat_map(|overview| &overview.accounts);
        let wanted = self.filter.to_lowercase();
        let mut shown: Vec<_> = all.filter(|account| account.account.to_lowercase().contains(&wanted)).collect();
        match self.sort {
            Sort::Rate => shown.sort_by_key(|a| {
                (Reverse((self.rates.per_minute(&a.account) * 10.0) as u64), Reverse(a.attempts()), &a.account)
            }),
            Sort::Used => shown.sort_by_key(|a| (Reverse(a.most_used()), &a.account)),
            Sort::Stopped => shown.sort_by_key(|a| (Reverse(a.stopped()), &a.account)),
            Sort::Name => shown.sort_by_key(|a| &a.account),
        }
        shown
    }

    pub(super) fn account(&self, name: &str) -> Option<&AccountStatus> {
        self.overview.as_ref()?.accounts.iter().find(|account| account.account == name)
    }

    /// Whom a key is about.
    fn subject(&self) -> Option<String> {
        match &self.view {
            View::Accounts => self.selected.clone(),
            View::Account(name) | View::Told(name, _) => Some(name.clone()),
        }
    }

    pub fn key(&mut self, key: KeyEvent) -> Action {
        if key.kind == KeyEventKind::Release {
            return Action::Nothing;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        self.message = None;
        match self.prompt.take() {
            Some(prompt) => self.answer(prompt, key.code),
            None => self.command(key.code),
        }
    }

    fn answer(&mut self, prompt: Prompt, key: KeyCode) -> Action {
        match (prompt, key) {
            (Prompt::Filter, KeyCode::Char(c)) if !c.is_control() && self.filter.chars().count() < 64 => {
                self.filter.push(c);
                self.prompt = Some(Prompt::Filter);
            }
            (Prompt::Filter, KeyCode::Backspace) => {
                self.filter.pop();
                self.prompt = Some(Prompt::Filter);
            }
            (Prompt::Filter, KeyCode::Esc) => self.filter.clear(),
            (Prompt::Filter, _) => {}
            (Prompt::Block { account, time }, KeyCode::Char('y' | 'Y')) => {
                return Action::Say { says: Says::Blocked, account, seconds: TIMES[time].1 };
            }
            (Prompt::Block { account, time }, KeyCode::Right | KeyCode::Char('l' | '+') | KeyCode::Tab) => {
                self.prompt = Some(Prompt::Block { account, time: (time + 1) % TIMES.len() });
            }
            (Prompt::Block { account, time }, KeyCode::Left | KeyCode::Char('h' | '-')) => {
                self.prompt = Some(Prompt::Block { account, time: (time + TIMES.len() - 1) % TIMES.len() });
            }
            (Prompt::Release { account }, KeyCode::Char('y' | 'Y')) => return Action::Release { account },
            _ => self.say("nothing was done"),
        }
        Action::Nothing
    }

    fn command(&mut self, key: KeyCode) -> Action {
        if std::mem::take(&mut self.help) {
            return Action::Nothing;
        }
        match key {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') if self.view == View::Accounts => self.prompt = Some(Prompt::Filter),
            KeyCode::Char('b') => {
                self.prompt = self.subject().map(|account| Prompt::Block { account, time: 1 });
            }
            KeyCode::Char('r') => self.prompt = self.subject().map(|account| Prompt::Release { account }),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(1),
            KeyCode::Up | KeyCode::Char('k') => self.move_by(-1),
            KeyCode::PageDown => self.move_by(10),
            KeyCode::PageUp => self.move_by(-10),
            KeyCode::Home | KeyCode::Char('g') => self.move_by(isize::MIN / 2),
            KeyCode::End | KeyCode::Char('G') => self.move_by(isize::MAX / 2),
            KeyCode::Enter | KeyCode::Right => self.descend(),
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => self.ascend(),
            _ => {}
        }
        Action::Nothing
    }

    fn move_by(&mut self, rows: isize) {
        let moved = |at: usize, count: usize| at.saturating_add_signed(rows).min(count.saturating_sub(1));
        match &self.view {
            View::Accounts => {
                let names: Vec<_> = self.shown().iter().map(|account| account.account.clone()).collect();
                let at = self.selected.as_ref().and_then(|name| names.iter().position(|other| other == name));
                self.selected = names.get(moved(at.unwrap_or(0), names.len())).cloned();
            }
            View::Account(name) => self.attempt = moved(self.attempt, self.recent.of(name).len()),
            View::Told(..) => {}
        }
    }

    fn descend(&mut self) {
        match &self.view {
            View::Accounts => {
                if let Some(name) = self.selected.clone() {
                    self.attempt = 0;
                    self.view = View::Account(name);
                }
            }
            View::Account(name) => {
                if let Some(line) = self.recent.of(name).nth(self.attempt) {
                    let told = Told::new(line, self.recent.attempt_of(line));
                    self.view = View::Told(name.clone(), Box::new(told));
                }
            }
            View::Told(..) => {}
        }
    }

    fn ascend(&mut self) {
        self.view = match std::mem::replace(&mut self.view, View::Accounts) {
            View::Told(name, _) => View::Account(name),
            _ => View::Accounts,
        };
    }
}

//! What an import read, and what of it is not in the result.

use std::{collections::HashMap, fmt};

use serde::Serialize;

use super::lines::{Origin, shown};

/// A setting that was not taken over, and why. The same finding in many places is one note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub setting: String,
    pub why: String,
    /// The first places as FILE:LINE.
    pub places: Vec<String>,
    /// In how many places in all.
    pub count: usize,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.setting)?;
        if !self.places.is_empty() {
            write!(f, " ({}", self.places.join(", "))?;
            match self.count - self.places.len() {
                0 => f.write_str(")")?,
                n => write!(f, " and {n} more)")?,
            }
        }
        write!(f, ": {}", self.why)
    }
}

/// Notes of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    list: Vec<Note>,
    index: HashMap<(String, String), usize>,
    left_out: usize,
}

impl Notes {
    /// A tree made to be hostile has a new finding in every line.
    const KEPT: usize = 200;
    /// Places named in one note.
    const PLACES: usize = 3;

    fn add(&mut self, setting: &str, why: &str, place: Option<String>) {
        let key = (shown(setting), why.to_owned());
        let number = match self.index.get(&key) {
            Some(number) => *number,
            None if self.list.len() == Self::KEPT => {
                self.left_out += 1;
                return;
            }
            None => {
                let (setting, why) = key.clone();
                self.list.push(Note { setting, why, places: Vec::new(), count: 0 });
                self.index.insert(key, self.list.len() - 1);
                self.list.len() - 1
            }
        };
        let note = &mut self.list[number];
        note.count += 1;
        if let Some(place) = place
            && note.places.len() < Self::PLACES
        {
            note.places.push(place);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Findings that were counted and not kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }
}

/// The account of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files and directories that were read.
    pub read: Vec<String>,
    /// Files and directories that were looked for and are not there.
    pub missing: Vec<String>,
    /// Understood, and nothing here does the same.
    pub no_equivalent: Notes,
    /// Left out, because it is not what the panel would write.
    pub not_understood: Notes,
}

impl Report {
    pub(super) fn no_equivalent(&mut self, setting: &str, why: &str, at: &Origin) {
        self.no_equivalent.add(setting, why, Some(at.to_string()));
    }

    /// About the panel as a whole rather than about a line.
    pub(super) fn differs(&mut self, subject: &str, how: &str) {
        self.no_equivalent.add(subject, how, None);
    }

    /// What no limit of a panel's users can reach.
    pub(super) fn smtp_auth(&mut self, mta: &str, panel: &str) {
        let how = format!(
            "{mta} takes it over the network and sends it as its own user, whom no limit holds here; {panel} goes on \
             limiting it"
        );
        self.differs("mail that clients hand in with a password (SMTP AUTH)", &how);
    }

    pub(super) fn not_understood(&mut self, what: &str, why: &str, at: &Origin) {
        self.not_understood.add(what, why, Some(at.to_string()));
    }

    /// The same about a whole file.
    pub(super) fn not_read(&mut self, path: &str, why: &str) {
        self.not_understood.add(path, why, None);
    }

    /// The report in lines for people.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let parts = [
            ("has no equivalent here, or is different", &self.no_equivalent),
            ("was not understood and is left out", &self.not_understood),
        ];
        for (head, notes) in parts {
            if notes.is_empty() {
                continue;
            }
            lines.push(format!("What {head}:"));
            lines.extend(notes.iter().map(|note| format!("- {note}")));
            if notes.left_out() > 0 {
                lines.push(format!("- and {} more findings", notes.left_out()));
            }
        }
        for (head, paths) in [("Read", &self.read), ("Looked for and not there", &self.missing)] {
            if !paths.is_empty() {
                lines.push(format!("{head}: {}", paths.join(", ")));
            }
        }
        lines
    }
}

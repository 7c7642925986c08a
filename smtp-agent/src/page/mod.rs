//! The web page at `/`: the live table for people without Grafana. It only shows; nothing in it can change anything.
//!
//! Files are as they are served, without a build step: `page.html` (filled in by `render`), `page.css`, `page.js`.
//! What a browser may do with them is said in `guard`; what is shown to whom, in `[page]`.
#![forbid(unsafe_code)]

mod guard;
mod look;
mod recent;
mod render;
mod report;
mod routes;

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

pub use report::Reporter;
pub use routes::routes;

use crate::{
    config::{self, Show},
    stream::Line,
};
use look::Looks;
use recent::Recent;
use report::Reports;

/// What the page knows between two requests.
pub struct Page {
    settings: RwLock<config::Page>,
    recent: Mutex<Recent>,
    looks: Looks,
    reports: Reports,
}

impl Page {
    pub fn new(settings: config::Page) -> Self {
        Self {
            settings: RwLock::new(settings),
            recent: Mutex::default(),
            looks: Looks::default(),
            reports: Reports::default(),
        }
    }

    /// Offers reports from now on: without this there is no `/report`, and no link to it.
    pub fn offer_reports(&self, reporter: Reporter) {
        self.reports.offer(reporter);
    }

    /// What holds from now on. What may not be shown any more is forgotten.
    pub fn change(&self, settings: &config::Page) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        if settings.show != Show::All {
            *self.recent() = Recent::default();
        }
    }

    fn settings(&self) -> config::Page {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self) -> Show {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).show
    }

    /// Whether it wants to be told of attempts and stopped messages.
    pub fn listens(&self) -> bool {
        self.show() == Show::All
    }

    pub fn keep(&self, line: &Line) {
        if self.listens() {
            self.recent().add(line.clone());
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

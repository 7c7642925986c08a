//! The report as a page. What is in it is the daemon's business, which hands in who makes it.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::body::Bytes;
use tokio::sync::Mutex;

use crate::{
    config::Show,
    exit::{Failure, Result},
};

/// How long a report is shown: making one reads a month of history.
const FRESH: Duration = Duration::from_secs(30);

/// Makes the report as one HTML file, with no more in it than may be shown.
pub type Reporter = Box<dyn Fn(Show) -> Result<String> + Send + Sync>;

#[derive(Default)]
pub(super) struct Reports {
    reporter: Arc<OnceLock<Reporter>>,
    last: Arc<Mutex<Option<(Instant, Show, Bytes)>>>,
}

impl Reports {
    pub(super) fn offer(&self, reporter: Reporter) {
        // Who came first stays.
        drop(self.reporter.set(reporter));
    }

    pub(super) fn are_offered(&self) -> bool {
        self.reporter.get().is_some()
    }

    /// The last report, or a new one where that is too old; `None` where nobody makes any. One is made at a time,
    /// however many ask.
    pub(super) async fn report(&self, show: Show) -> Option<Result<Bytes>> {
        self.reporter.get()?;
        let mut last = self.last.clone().lock_owned().await;
        if let Some((at, shown, html)) = &*last
            && at.elapsed() < FRESH
            && *shown == show
        {
            return Some(Ok(html.clone()));
        }
        let reporter = self.reporter.clone();
        let made = tokio::task::spawn_blocking(move || {
            let Some(report) = reporter.get() else { return Err(Failure::unavailable("nobody makes reports")) };
            let html = Bytes::from(report(show)?);
            *last = Some((Instant::now(), show, html.clone()));
            Ok(html)
        });
        Some(made.await.unwrap_or_else(|e| Err(Failure::unavailable(format!("the report cannot be made: {e}")))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_report_is_made_once_for_many_and_anew_when_something_else_may_be_shown() {
        let reports = Reports::default();
        assert!(!reports.are_offered() && reports.report(Show::All).await.is_none());
        let made = Arc::new(AtomicU32::new(0));
        let counter = made.clone();
        reports.offer(Box::new(move |show| Ok(format!("{} {}", show.name(), counter.fetch_add(1, Ordering::Relaxed)))));
        assert!(reports.are_offered());
        for (show, wanted) in [(Show::Accounts, "accounts 0"), (Show::Accounts, "accounts 0"), (Show::All, "all 1")] {
            assert_eq!(reports.report(show).await.unwrap().unwrap(), wanted);
        }
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_report_that_fails_says_why_and_is_tried_again() {
        let reports = Reports::default();
        let tried = Arc::new(AtomicU32::new(0));
        let counter = tried.clone();
        reports.offer(Box::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Err(Failure::unavailable("the history is off"))
        }));
        for n in 1..3 {
            let failure = reports.report(Show::All).await.unwrap().unwrap_err();
            assert_eq!((failure.to_string().as_str(), tried.load(Ordering::Relaxed)), ("the history is off", n));
        }
    }
}

//! One look at the maps for as many viewers as there are.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::Mutex;

use super::render;
use crate::{
    config::Show,
    daemon::shared::Shared,
    exit::{Failure, Result},
    kernel::sys::boot_nanos,
    overview::{self, AccountStatus, Overview},
};

/// How long a look is shown.
const FRESH: Duration = Duration::from_secs(1);
/// Accounts that are shown.
pub(super) const ACCOUNTS: usize = 1000;

/// The state of the gate at a moment.
pub(super) struct Look {
    at: Instant,
    told: Told,
    /// The same as JSON.
    pub(super) json: Bytes,
    html: OnceLock<Bytes>,
}

impl Look {
    /// The same as a page, written once.
    pub(super) fn html(&self) -> Bytes {
        self.html.get_or_init(|| render::page(&self.told).into()).clone()
    }
}

/// What `/api/overview` tells.
#[derive(Serialize)]
pub(super) struct Told {
    pub(super) version: &'static str,
    /// When the maps were read: RFC 3339, UTC.
    pub(super) time: String,
    /// The same on a clock that is never set, for rates.
    millis: u64,
    /// `[page] show`.
    pub(super) show: &'static str,
    /// Whether there is a report to ask for.
    pub(super) report: bool,
    /// How many accounts there are, those included that are not shown.
    pub(super) accounts_in_all: usize,
    #[serde(flatten)]
    pub(super) overview: Overview,
}

impl Told {
    pub(super) fn new(show: Show, report: bool, accounts_in_all: usize, overview: Overview) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            millis: boot_nanos() / 1_000_000,
            show: show.name(),
            report,
            accounts_in_all,
            overview,
        }
    }
}

#[derive(Default)]
pub(super) struct Looks(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    last: Option<Arc<Look>>,
    activity: Activity,
}

impl Looks {
    /// The last look, or a new one where that is too old. Who comes while it is taken waits for it.
    pub(super) async fn of(&self, shared: &Arc<Shared>) -> Result<Arc<Look>> {
        let mut state = self.0.clone().lock_owned().await;
        let show = shared.page.show();
        let fresh = |look: &&Arc<Look>| look.at.elapsed() < FRESH && look.told.show == show.name();
        if let Some(look) = state.last.as_ref().filter(fresh) {
            return Ok(look.clone());
        }
        let shared = shared.clone();
        // The lock goes with the work: a viewer that goes away sets nobody else to it before it is done.
        let looked = tokio::task::spawn_blocking(move || {
            let look = Arc::new(take(&shared, show, &mut state.activity)?);
            state.last = Some(look.clone());
            Ok(look)
        });
        looked.await.unwrap_or_else(|e| Err(Failure::unavailable(format!("a look at the maps failed: {e}"))))
    }
}

fn take(shared: &Shared, show: Show, activity: &mut Activity) -> Result<Look> {
    let at = Instant::now();
    let mut overview = overview::collect(&shared.pins, &shared.maps(), &shared.naming)?;
    let accounts_in_all = overview.accounts.len();
    activity.keep_the_most_active(&mut overview.accounts, at);
    let told = Told::new(show, shared.page.reports.are_offered(), accounts_in_all, overview);
    let json = serde_json::to_vec(&told)
        .map_err(|e| Failure::unavailable(format!("the overview cannot be written as JSON: {e}")))?;
    Ok(Look { at, told, json: json.into(), html: OnceLock::new() })
}

/// When the count of each account was last seen to grow.
#[derive(Default)]
struct Activity(HashMap<String, (u64, Instant)>);

impl Activity {
    /// Where there are too many, those stay that attempted something last, and of these those that attempted most.
    fn keep_the_most_active(&mut self, accounts: &mut Vec<AccountStatus>, now: Instant) {
        let mut seen = HashMap::with_capacity(accounts.len());
        for account in &*accounts {
            let attempts = account.attempts();
            let before = self.0.get(&account.account).filter(|(count, _)| *count == attempts);
            seen.insert(account.account.clone(), before.copied().unwrap_or((attempts, now)));
        }
        self.0 = seen;
        if accounts.len() > ACCOUNTS {
            accounts.sort_by_cached_key(|account| {
                let (attempts, at) = self.0.get(&account.account).copied().unwrap_or((0, now));
                (Reverse(at), Reverse(attempts), account.account.clone())
            });
            accounts.truncate(ACCOUNTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::tests::account;

    #[test]
    fn of_too_many_accounts_those_stay_that_were_active_last() {
        let mut activity = Activity::default();
        let all = |grown: usize| -> Vec<_> {
            let name = |n: usize| account(&format!("u{n:04}"), 2000 - n as u64 + u64::from(n == grown) * 5);
            (0..ACCOUNTS + 100).map(name).collect()
        };
        let start = Instant::now();
        let mut first = all(usize::MAX);
        activity.keep_the_most_active(&mut first, start);
        assert_eq!((first.len(), first[0].account.as_str()), (ACCOUNTS, "u0000"), "the busiest");
        assert!(!first.iter().any(|account| account.account == "u1050"));
        let mut second = all(1050);
        activity.keep_the_most_active(&mut second, start + FRESH);
        assert_eq!((second.len(), second[0].account.as_str()), (ACCOUNTS, "u1050"), "it has moved");
    }

    #[test]
    fn as_many_accounts_as_fit_stay_in_their_order() {
        let mut accounts = vec![account("b", 1), account("a", 9)];
        Activity::default().keep_the_most_active(&mut accounts, Instant::now());
        assert_eq!(accounts.iter().map(|one| one.account.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    }
}

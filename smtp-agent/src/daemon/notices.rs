//! What the agent sees that somebody should know of: from attempts as they are stopped, and each minute from the counters,
//! windows and brakes, which tell what no event did.

mod minute;
mod spent;

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use smtp_common::{
    connection::Account,
    counter::{Reason, Verdict},
    event::ConnectEvent,
    level::Level,
    rule::Policy,
    session::SessionEvent,
};

pub use minute::watch;

use crate::{
    attribution::Culprit,
    config::Config,
    exit::{Failure, Result},
    kernel::maps::Maps,
    metrics::budget,
    notify::{self, Desk, HOST, Kind, Notice, Totals, baseline::Baseline},
    stream::{session::Stop, story::Story},
};

/// How long nothing more is said of an account's attempts: what comes after the first is told by the counters.
const QUIET: Duration = Duration::from_secs(60);
/// Accounts of which this is known.
const MOST_RECENT: usize = 10_000;

/// What is told, and what is known for that.
pub struct Notices {
    desk: Desk,
    recent: Mutex<HashMap<(Kind, Account), Instant>>,
    baseline: Mutex<Baseline>,
}

/// Whoever panicked has left nothing half-done in here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notices {
    pub fn open(config: &Config) -> Result<Self> {
        let state = &config.paths.state;
        let (baseline, said) = Baseline::open(state, notify::now());
        said.iter().for_each(|line| tracing::warn!("{line}"));
        let desk = Desk::open(&config.notify, state, host())
            .map_err(|e| Failure::from_io(&e, "the thread that tells notices cannot be started"))?;
        Ok(Self { desk, recent: Mutex::default(), baseline: Mutex::new(baseline) })
    }

    /// Goes on as the configuration says that has come in force.
    pub fn change(&self, config: &Config) {
        self.desk.change(&config.notify);
    }

    pub fn totals(&self) -> &Totals {
        self.desk.totals()
    }

    /// Puts what is known and what waits on the disk.
    pub fn stop(&self, state: &Path) {
        if self.desk.stop() {
            self.save(state);
        }
    }

    /// Keeps what is known, once the notices of what is new in it are on the disk: were it the other way round, an agent that
    /// is killed in between would never tell of a first time.
    fn keep(&self, state: &Path) {
        if self.desk.settle() {
            self.save(state);
        }
    }

    fn save(&self, state: &Path) {
        if let Err(e) = lock(&self.baseline).save(state) {
            tracing::warn!("what is usual for each account cannot be kept in {state:?}: {e}");
        }
    }

    /// What an attempt is to be told as, if anybody wants to hear of it and has not just now.
    pub fn of_connect(&self, event: &ConnectEvent) -> Option<Kind> {
        self.news(kind_of(event.verdict, event.reason)?, event.account)
    }

    /// The same for a message or recipient that could not pass.
    pub fn of_stop(&self, event: &SessionEvent) -> Option<Kind> {
        self.news(kind_of(event.verdict, event.reason)?, event.account)
    }

    fn news(&self, kind: Kind, account: Account) -> Option<Kind> {
        if !self.desk.wants(kind) {
            return None;
        }
        let whose = if kind.is_of_host() { Account::HOST } else { account };
        let mut recent = lock(&self.recent);
        if recent.len() >= MOST_RECENT {
            recent.retain(|_, at| at.elapsed() < QUIET);
        }
        if recent.len() >= MOST_RECENT {
            recent.clear();
        }
        let known = recent.get(&(kind, whose)).is_some_and(|at| at.elapsed() < QUIET);
        if known {
            return None;
        }
        recent.insert((kind, whose), Instant::now());
        Some(kind)
    }

    /// Whether an attempt told of it in the last two minutes, so that the counters need not.
    fn was_told(&self, kind: Kind, account: Account) -> bool {
        lock(&self.recent).get(&(kind, account)).is_some_and(|at| at.elapsed() < 2 * QUIET)
    }

    /// Tells of an attempt, with what is known of whoever made it.
    pub fn connect(&self, kind: Kind, event: &ConnectEvent, story: &Story, culprit: Culprit, maps: &Maps) {
        let destination = SocketAddr::new(story.destination, story.port);
        let notice = of_attempt(kind, &story.account, event.account, event.verdict, event.reason, maps);
        self.desk.tell(by(notice, destination, culprit));
    }

    /// Tells of a message or recipient that could not pass.
    pub fn stop_of(&self, kind: Kind, event: &SessionEvent, stop: &Stop, culprit: Culprit, maps: &Maps) {
        let session = &stop.session;
        let destination = SocketAddr::new(session.destination, session.port);
        let notice = of_attempt(kind, &session.account, event.account, event.verdict, event.reason, maps);
        self.desk.tell(by(notice, destination, culprit));
    }
}

/// With whoever made the attempt. Whoever meets a spent budget of the host need not be who has spent it.
fn by(notice: Notice, destination: SocketAddr, culprit: Culprit) -> Notice {
    if notice.kind.is_of_host() {
        return notice;
    }
    // Executions of sendmail go nowhere.
    let destination = Some(destination.to_string()).filter(|_| !destination.ip().is_unspecified());
    Notice { destination, culprit: Some(culprit), ..notice }
}

/// The name of this host, as it is known to others.
pub fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    crate::accounts::label::printable(name.as_encoded_bytes())
}

/// Who is behind a message or recipient that was stopped: what `/proc` still knows.
pub fn culprit_of_stop(stop: &Stop) -> Culprit {
    Culprit {
        exe: stop.exe.clone(),
        command: stop.command.clone(),
        unit: stop.unit_of_process.clone(),
        ..Culprit::default()
    }
}

fn kind_of(verdict: u8, reason: u8) -> Option<Kind> {
    let reason = Reason::from_u8(reason)?;
    match Verdict::from_u8(verdict)? {
        Verdict::Deferred | Verdict::Redirected | Verdict::WouldDefer | Verdict::WouldRedirect => Some(Kind::SoftLimit),
        Verdict::Refused | Verdict::WouldRefuse => match reason {
            Reason::DenyUser => Some(Kind::Nobody),
            Reason::FailedShare => Some(Kind::Brake),
            reason => match reason.level()? {
                Level::Host => Some(Kind::HostQuota100),
                Level::Cgroup | Level::User | Level::Group | Level::Plan => Some(Kind::HardLimit),
            },
        },
        Verdict::Allowed | Verdict::Exempt => None,
    }
}

/// A notice of something that was stopped, with the limit it met.
fn of_attempt(kind: Kind, label: &str, account: Account, verdict: u8, reason: u8, maps: &Maps) -> Notice {
    let whose = if kind.is_of_host() { HOST } else { label };
    let observed = Verdict::from_u8(verdict).is_some_and(|verdict| !verdict.is_applied());
    let mut notice = Notice { observed, ..Notice::new(kind, whose, notify::now()) };
    let Some(reason) = Reason::from_u8(reason) else { return notice };
    notice.reason = Some(reason.name().to_owned());
    let (Some(level), Some(unit), Some(span)) = (reason.level(), reason.unit(), reason.span()) else { return notice };
    let unit = unit.map_or(budget::CONNECTION, |unit| unit.name());
    (notice.unit, notice.window) = (Some(unit.to_owned()), Some(span.name().to_owned()));
    // A policy that cannot be read says nothing of limits, and the notice goes out all the same.
    let Ok(policy) = maps.policy() else { return notice };
    let (budgets, scope) = match level {
        Level::Host => (budget::of_host(&policy), Account::HOST),
        Level::User => (budgets_of(maps, &policy, account), account),
        Level::Cgroup | Level::Group | Level::Plan => return notice,
    };
    if let Some(budget) = budgets.into_iter().find(|budget| budget.unit == unit) {
        notice.limit = budget.limit(span).map(u64::from);
        notice.used = maps.used(scope, budget.lane).ok().map(|windows| windows.of(span).total);
    }
    notice
}

fn budgets_of(maps: &Maps, policy: &Policy, account: Account) -> [budget::Budget; 3] {
    let rule = maps.rule_for(policy, account);
    budget::of_rule(&rule, &budget::plan(maps, &rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopped_is_told_as_what_it_is_and_what_passes_is_not() {
        let of = |verdict: Verdict, reason: Reason| kind_of(verdict as u8, reason as u8);
        for (verdict, reason, kind) in [
            (Verdict::Deferred, Reason::AccountHour, Some(Kind::SoftLimit)),
            (Verdict::Redirected, Reason::AccountDay, Some(Kind::SoftLimit)),
            (Verdict::WouldDefer, Reason::CgroupHour, Some(Kind::SoftLimit)),
            (Verdict::Refused, Reason::AccountHour, Some(Kind::HardLimit)),
            (Verdict::WouldRefuse, Reason::MessagesDay, Some(Kind::HardLimit)),
            (Verdict::Refused, Reason::GroupRecipientsDay, Some(Kind::HardLimit)),
            (Verdict::Refused, Reason::HostMessagesDay, Some(Kind::HostQuota100)),
            (Verdict::Refused, Reason::DenyUser, Some(Kind::Nobody)),
            (Verdict::Refused, Reason::FailedShare, Some(Kind::Brake)),
            // Somebody has said so, and knows it.
            (Verdict::Refused, Reason::ByHand, None),
            (Verdict::Refused, Reason::DenyPlan, None),
            (Verdict::Refused, Reason::Exception, None),
            (Verdict::Allowed, Reason::WithinLimits, None),
            (Verdict::Exempt, Reason::Exempt, None),
        ] {
            assert_eq!(of(verdict, reason), kind, "{verdict:?} {reason:?}");
        }
        assert_eq!(kind_of(250, 16), None);
        assert_eq!(kind_of(Verdict::Refused as u8, 250), None);
    }

    #[test]
    fn attempts_of_an_account_are_told_once_in_a_while_and_only_to_who_wants_it() {
        let state = tempfile::tempdir().unwrap();
        let config = |on: &str| {
            let text = format!(
                "[paths]\nstate = '{}'\n[[notify.command]]\nargv = ['/bin/true']\non = [{on}]\n",
                state.path().display()
            );
            crate::config::parse_str("test", &text).unwrap_or_else(|p| panic!("{p}")).config
        };
        let notices = Notices::open(&config("'hard_limit', 'host_quota_100'")).unwrap();
        let [shop, blog] = [1001, 1002].map(Account::user);
        let news = |kind, account| notices.news(kind, account).is_some();
        assert!(news(Kind::HardLimit, shop) && news(Kind::HardLimit, blog));
        assert!(!news(Kind::HardLimit, shop) && notices.was_told(Kind::HardLimit, shop));
        assert!(!news(Kind::SoftLimit, shop) && !notices.was_told(Kind::SoftLimit, shop), "nobody wants it");
        assert!(news(Kind::HostQuota100, shop) && !news(Kind::HostQuota100, blog), "it is the host's");
        notices.change(&config("'soft_limit'"));
        assert!(news(Kind::SoftLimit, shop) && !news(Kind::HardLimit, Account::user(7)));
        for uid in 0..2 * MOST_RECENT as u32 {
            news(Kind::SoftLimit, Account::user(10_000 + uid));
        }
        assert!(lock(&notices.recent).len() <= MOST_RECENT);
        notices.stop(state.path());
        assert!(state.path().join("baseline.json").exists());
    }

    #[test]
    fn what_is_usual_is_kept_only_with_the_notices_of_what_is_new_in_it() {
        let state = tempfile::tempdir().unwrap();
        let text = format!(
            "[paths]\nstate = '{}'\n[notify]\ngroup_wait = '1h'\n[[notify.command]]\nargv = ['/bin/true']\n",
            state.path().display()
        );
        let config = crate::config::parse_str("test", &text).unwrap_or_else(|p| panic!("{p}")).config;
        let notices = Notices::open(&config).unwrap();
        for n in 0..50 {
            notices.desk.tell(Notice::new(Kind::FirstTime, n.to_string(), notify::now()));
        }
        notices.keep(state.path());
        assert!(state.path().join("baseline.json").exists());
        let files: Vec<_> = std::fs::read_dir(state.path().join("notify")).unwrap().collect();
        let [Ok(file)] = &files[..] else { panic!("{files:?}") };
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        assert_eq!(kept["message"]["notices"].as_array().unwrap().len(), 50);
    }
}

//! From events and counters to the history: what the store is told, and when.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use smtp_common::{
    connection::{Account, Route},
    counter::{Reason, Verdict},
    event::ConnectEvent,
    rule::Action,
    session::SessionEvent,
    tally::{MessageOutcome, RecipientOutcome, SessionOutcome, Unit, family},
};

use super::{reboot, shared::Shared};
use crate::{
    accounts::label::printable_until_nul,
    attribution::Culprit,
    config::{self, Config},
    exit::Result,
    kernel::sys::boot_nanos,
    store::{
        Attempt, Cause, Counter, CounterId, Gate, History, Host, Limits, Millis, Record, SessionEnd, Target, Who, now,
        record::what,
    },
    stream::{process::Process, story::Story},
};

/// How often the kernel's counters are looked at, and how many times as long as a look the pause after it is at least: large
/// maps take their time.
const LOOK: Duration = Duration::from_secs(2);
const REST: u32 = 50;
/// How often its windows are saved.
const SAVE: Duration = Duration::from_secs(60);
/// Culprits that are remembered for the end of their sessions, twice over.
const REMEMBERED: usize = 4_096;
/// Nanoseconds between an event and another connection of the same process number for which both are of one process.
const SAME_PROCESS: u64 = 60_000_000_000;
/// How long the name of an account's plan is believed.
const PLAN_HOLDS: Duration = Duration::from_secs(10);

fn of_process(exe: Option<String>, command: Option<Vec<String>>, unit: Option<String>) -> Culprit {
    Culprit { exe, command, unit, ..Culprit::default() }
}

type Connection = (Account, u32, IpAddr, u16);

/// What is remembered from one event to the next.
#[derive(Default)]
struct Memory {
    /// By the connection: those of late, and those of before. When the first has no room it takes the place of the second.
    culprits: [HashMap<Connection, (u64, Arc<Culprit>)>; 2],
    plans: HashMap<Account, (Instant, Option<String>)>,
    plan_names: Vec<String>,
}

impl Memory {
    /// Who was behind a connection at `time` (boot clock).
    fn remember(&mut self, connection: Connection, time: u64, culprit: Arc<Culprit>) {
        if self.culprits[0].len() >= REMEMBERED {
            self.culprits[1] = std::mem::take(&mut self.culprits[0]);
        }
        self.culprits[0].insert(connection, (time, culprit));
    }

    /// Who was behind the connection that was asked for at `since`: of the events only some are told, but a process that
    /// connects so often that its own is not is told of again and again, and its number is not used again so soon.
    fn culprit(&self, connection: &Connection, since: u64) -> Option<Arc<Culprit>> {
        let (time, culprit) = self.culprits.iter().find_map(|some| some.get(connection))?;
        (since.abs_diff(*time) <= SAME_PROCESS).then(|| culprit.clone())
    }
}

/// The history, if one is kept.
pub struct Keeper {
    history: Option<History>,
    memory: Mutex<Memory>,
}

fn limits(config: &config::History) -> Limits {
    Limits { keep: config.keep, max_size: config.max_size }
}

fn plan_names(config: &Config) -> Vec<String> {
    config.plans.iter().map(|plan| plan.name.clone()).collect()
}

impl Keeper {
    /// Begins to write, where the configuration says so. What is wrong with the file is said in the log.
    pub fn start(config: &Config, gate: Gate) -> Self {
        let started =
            config.history.enabled.then(|| History::start(&config.paths.state, limits(&config.history), gate));
        let history = started.transpose().unwrap_or_else(|e| {
            tracing::error!("no history is written, its thread cannot be started: {e}");
            None
        });
        let memory = Memory { plan_names: plan_names(config), ..Memory::default() };
        Self { history, memory: Mutex::new(memory) }
    }

    pub fn is_on(&self) -> bool {
        self.history.is_some()
    }

    pub fn lost(&self, cause: Cause) -> u64 {
        self.history.as_ref().map_or(0, |history| history.lost(cause))
    }

    /// A policy has taken the place of another.
    pub fn reloaded(&self, config: &Config) {
        if let Some(history) = &self.history {
            history.set_limits(limits(&config.history));
        }
        let mut memory = self.memory();
        memory.plans.clear();
        memory.plan_names = plan_names(config);
    }

    /// Has what was told written. May take some seconds.
    pub fn stop(&self) {
        if self.history.as_ref().is_some_and(|history| !history.stop()) {
            tracing::warn!("the end of the history was not written in time");
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time of the wall clock at a moment of the boot clock.
fn wall(time: u64) -> Millis {
    let ago = boot_nanos().saturating_sub(time) / 1_000_000;
    now() - i64::try_from(ago).unwrap_or(0)
}

/// The plan that an account is held to, by name.
fn plan_of(shared: &Shared, account: Account) -> Option<String> {
    if let Some((since, plan)) = shared.history.memory().plans.get(&account)
        && since.elapsed() < PLAN_HOLDS
    {
        return plan.clone();
    }
    let rule = {
        let maps = shared.maps();
        maps.policy().map(|policy| maps.rule_for(&policy, account))
    };
    let mut memory = shared.history.memory();
    let named = |rule: smtp_common::rule::Rule| match rule.action {
        action if action == Action::Limited as u8 => memory.plan_names.get(rule.plan as usize).cloned(),
        action if action == Action::Closed as u8 => Some("deny".to_owned()),
        // Held to none.
        _ => None,
    };
    let plan = rule.ok().and_then(named);
    if memory.plans.len() >= REMEMBERED {
        memory.plans.clear();
    }
    memory.plans.insert(account, (Instant::now(), plan.clone()));
    plan
}

/// A connection was decided upon.
pub fn connect(shared: &Shared, event: &ConnectEvent, story: &Story) {
    let Some(history) = &shared.history.history else { return };
    let (Some(verdict), Some(reason), Some(route)) =
        (Verdict::from_u8(event.verdict), Reason::from_u8(event.reason), Route::from_u8(event.route))
    else {
        return;
    };
    // Of one that nobody portrayed there is what /proc knows.
    let culprit = match &*story.culprit {
        told if *told == Culprit::default() => of_process(story.exe.clone(), story.command.clone(), story.unit.clone()),
        told => told.clone(),
    };
    let culprit = Arc::new(culprit);
    let plan = culprit.plan.clone().or_else(|| plan_of(shared, event.account));
    let connection = (event.account, event.tgid, story.destination, event.port);
    shared.history.memory().remember(connection, event.time, culprit.clone());
    let who = Who {
        account: story.account.clone(),
        kind: event.account.kind,
        uid: event.uid,
        tgid: event.tgid,
        comm: story.comm.clone(),
        plan,
        culprit,
    };
    let target = Target { address: story.destination, port: event.port, route };
    let time = wall(event.time);
    history.tell(Record::Attempt(Box::new(Attempt { time, who, target, unit: None, verdict, reason })));
}

/// Who was behind the connection of a session, if that is remembered.
pub fn culprit(shared: &Shared, event: &SessionEvent) -> Option<Arc<Culprit>> {
    let connection = (event.account, event.tgid, IpAddr::from(event.destination), event.port);
    shared.history.memory().culprit(&connection, event.since)
}

/// Whose session it is, and where it leads.
fn party(shared: &Shared, event: &SessionEvent, account: &str, process: Option<&Process>) -> Option<(Who, Target)> {
    let address = IpAddr::from(event.destination);
    let known = culprit(shared, event);
    let found = || process.map(|process| of_process(process.exe.clone(), process.command.clone(), None));
    let culprit = known.unwrap_or_else(|| found().unwrap_or_default().into());
    let who = Who {
        account: account.to_owned(),
        kind: event.account.kind,
        uid: event.uid,
        tgid: event.tgid,
        comm: printable_until_nul(&event.comm),
        plan: culprit.plan.clone().or_else(|| plan_of(shared, event.account)),
        culprit,
    };
    Some((who, Target { address, port: event.port, route: Route::from_u8(event.route)? }))
}

/// A session has ended.
pub fn session(shared: &Shared, event: &SessionEvent, account: &str) {
    let Some(history) = &shared.history.history else { return };
    let Some(((who, target), outcome)) =
        party(shared, event, account, None).zip(SessionOutcome::from_u8(event.outcome))
    else {
        return;
    };
    history.tell(Record::Session(Box::new(SessionEnd {
        time: wall(event.time),
        who,
        target,
        outcome,
        messages: MessageOutcome::ALL.map(|outcome| event.messages[outcome as usize]),
        recipients: RecipientOutcome::ALL.map(|outcome| event.recipients[outcome as usize]),
        milliseconds: event.time.saturating_sub(event.since) / 1_000_000,
        bytes: event.bytes_sent,
    })));
}

/// A message or a recipient could not pass.
pub fn stop(shared: &Shared, event: &SessionEvent, account: &str, process: &Process) {
    let Some(history) = &shared.history.history else { return };
    let decided = Verdict::from_u8(event.verdict).zip(Reason::from_u8(event.reason));
    let Some(((who, target), (verdict, reason))) = party(shared, event, account, Some(process)).zip(decided) else {
        return;
    };
    let unit = Unit::ALL.into_iter().find(|unit| *unit as u8 == event.unit);
    let time = wall(event.time);
    history.tell(Record::Attempt(Box::new(Attempt { time, who, target, unit, verdict, reason })));
}

/// How high the kernel's counters stand.
pub fn counters(shared: &Shared) -> Result<Vec<Counter>> {
    let maps = shared.maps();
    let mut labels: HashMap<Account, Arc<str>> = HashMap::new();
    let mut label =
        |account| labels.entry(account).or_insert_with(|| Arc::from(shared.naming.label(account, &maps))).clone();
    let mut all = Vec::new();
    for (key, count) in maps.counters()?.into_iter().filter(|(_, count)| *count > 0) {
        let (kind, id) = (key.account.kind, key.account.id);
        let (route, port, which) = (key.route, key.port, key.verdict);
        let id = CounterId { kind, id, what: what::CONNECTIONS, route, port, which };
        all.push(Counter { id, account: label(key.account), count });
    }
    for (key, count) in maps.tallies()?.into_iter().filter(|(_, count)| *count > 0) {
        let what = match key.family {
            family::SESSIONS => what::SESSIONS,
            family::MESSAGES => what::MESSAGES,
            family::RECIPIENTS => what::RECIPIENTS,
            other => what::KEPT + other,
        };
        let (kind, id) = (key.account.kind, key.account.id);
        let id = CounterId { kind, id, what, route: key.route, port: 0, which: key.which };
        all.push(Counter { id, account: label(key.account), count });
    }
    Ok(all)
}

/// Looks at the counters now.
pub fn look(shared: &Shared) {
    let Some(history) = &shared.history.history else { return };
    match counters(shared) {
        Ok(counters) => history.tell(Record::Counters(counters, now())),
        Err(e) => tracing::warn!("the gate's counters cannot be read for the history: {e}"),
    }
}

/// Saves windows and brakes, for after a reboot.
pub fn save(shared: &Shared) {
    let Some(history) = &shared.history.history else { return };
    match reboot::windows(&shared.maps(), &shared.naming) {
        Ok(Some(windows)) => history.tell(Record::Windows(Box::new(windows))),
        Ok(None) => {}
        Err(e) => tracing::warn!("the gate's windows cannot be read for the time after a reboot: {e}"),
    }
}

/// The DNS was asked.
pub fn hosts(shared: &Shared, hosts: Vec<Host>) {
    if let Some(history) = shared.history.history.as_ref().filter(|_| !hosts.is_empty()) {
        history.tell(Record::Hosts(hosts));
    }
}

/// Looks at the counters, and more seldom at the windows, again and again.
pub async fn keep(shared: Arc<Shared>) {
    let (mut look_at, mut saves) = (Instant::now(), tokio::time::interval(SAVE));
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(look_at.into()) => {
                let begin = Instant::now();
                tokio::task::block_in_place(|| look(&shared));
                look_at = Instant::now() + LOOK.max(begin.elapsed() * REST);
            }
            _ = saves.tick() => tokio::task::block_in_place(|| save(&shared)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn culprits_are_remembered_for_their_sessions_and_never_too_many() {
        let mut memory = Memory::default();
        let connection = |tgid| (Account::user(7), tgid, IpAddr::from([192, 0, 2, 1]), 25);
        for tgid in 0..20_000 {
            memory.remember(
                connection(tgid),
                0,
                Arc::new(Culprit { exe: Some(tgid.to_string()), ..Culprit::default() }),
            );
        }
        assert!(memory.culprits.iter().map(HashMap::len).sum::<usize>() <= 2 * REMEMBERED);
        assert_eq!(memory.culprit(&connection(19_999), 0).unwrap().exe.as_deref(), Some("19999"));
        assert_eq!(memory.culprit(&connection(20_000 - REMEMBERED as u32), 0).unwrap().exe.as_deref(), Some("15904"));
        assert!(memory.culprit(&connection(0), 0).is_none());
        let other = (Account::user(8), 19_999, IpAddr::from([192, 0, 2, 1]), 25);
        assert!(memory.culprit(&other, 0).is_none(), "somebody else's");
        let later = SAME_PROCESS + 1;
        assert!(memory.culprit(&connection(19_999), later).is_none(), "the number may be another's by then");
    }
}

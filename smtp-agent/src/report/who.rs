//! `who`: the culprits of a period, what they did, how that is known, and what to type to stop them.

mod stop;

use serde::Serialize;
use smtp_common::{connection::kind, counter::Verdict};

pub use stop::Stop;

use super::{Numbers, Span, alive, date, rank, seconds, sum};
use crate::{
    attribution::{Culprit, culprit::how},
    store::{
        Counts, Dimension, Millis, Reader, Trouble,
        read::{Account, Behind, Period},
    },
};

/// Actors of one account that are told of.
const ACTORS: usize = 3;
/// Exempt accounts that are named.
const EXEMPT: usize = 3;

#[derive(Debug, Clone)]
pub struct Asked {
    pub period: Period,
    pub top: usize,
    pub user: Option<Account>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    pub since: String,
    pub until: String,
    /// Who spent most first.
    pub culprits: Vec<Named>,
    /// Accounts that are not limited, such as an MTA: what they sent others may have handed to them.
    pub exempt: Vec<Exempt>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exempt {
    pub user: String,
    pub attempts: i64,
}

/// An account that spent, and who was behind it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Named {
    pub user: String,
    /// `user`, `container`, `kernel` or `other`.
    pub kind: &'static str,
    pub uid: Option<u32>,
    /// What the kernel has counted in the period.
    pub numbers: Numbers,
    /// The first attempt that the history knows of.
    pub first_ever: String,
    /// The first in the period for which a limit was used up; before the period where it still was when that began.
    pub limit_reached: Option<String>,
    pub actors: Vec<Actor>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Actor {
    pub service: Option<String>,
    /// The program, else the thread in brackets.
    pub process: String,
    pub uid: Option<u32>,
    /// The plan it is held to.
    pub limited_by: Option<String>,
    pub culprit: Culprit,
    /// The first that the history knows of it, whatever the period.
    pub first_seen: String,
    /// Its first and its last in the period.
    pub since: String,
    pub last: String,
    /// Of the events that tell of it.
    pub numbers: Numbers,
    pub processes: Vec<Running>,
    pub evidence: Vec<String>,
    pub samples: Vec<Sample>,
    pub stop: Vec<Stop>,
}

/// A process of an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Running {
    pub pid: u32,
    pub started: Option<String>,
    pub seen: String,
    /// Null where nobody knows when it began, so that the number alone says nothing.
    pub alive: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    pub time: String,
    pub pid: u32,
    pub destination: String,
    /// Where the DNS was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_name: Option<String>,
    pub port: u16,
    pub verdict: &'static str,
    pub reason: &'static str,
}

fn kind_name(of: u32) -> &'static str {
    match of {
        kind::USER => "user",
        kind::KERNEL => "kernel",
        kind::CGROUP | kind::NETNS | kind::ROOTLESS => "container",
        _ => "other",
    }
}

impl Answer {
    pub fn find(reader: &Reader, asked: &Asked, now: Millis) -> Result<Self, Trouble> {
        let Span { period, since, until, note } = Span::of(reader, asked.period, now);
        let of = asked.user.as_ref().map(|account| account.id);
        let mut counts = reader.totals(period, of)?;
        // The kernel's counters are looked at each few seconds, events come at once.
        for (account, events) in reader.events(Dimension::User, period, of)? {
            let total = counts.entry(account).or_default();
            *total = total.or_more(&events);
        }
        let accounts = reader.accounts()?;
        let all = sum(counts.values());
        let mut spent: Vec<(String, (&Account, Counts))> = counts
            .into_iter()
            .filter_map(|(id, counts)| accounts.get(&id).map(|account| (account.name.clone(), (account, counts))))
            .collect();
        rank(&mut spent, |(_, counts)| counts.verdict(Verdict::Exempt));
        let exempt = spent.iter().filter(|(_, (_, counts))| counts.verdict(Verdict::Exempt) > 0).take(EXEMPT);
        let exempt = exempt
            .map(|(user, (_, counts))| Exempt { user: user.clone(), attempts: counts.verdict(Verdict::Exempt) })
            .collect();
        rank(&mut spent, |(_, counts)| of_it(counts, asked));
        let guilty = spent.into_iter().filter(|(_, (_, counts))| of_it(counts, asked) > 0).take(asked.top);
        let mut notes: Vec<String> = note.into_iter().collect();
        let mut culprits = Vec::new();
        let mut cut = Vec::new();
        let guilty: Vec<_> = guilty.collect();
        let ids: Vec<i64> = guilty.iter().map(|(_, (account, _))| account.id).collect();
        let behind = reader.behind(&ids, period, ACTORS)?;
        for ((name, (account, counts)), found) in guilty.into_iter().zip(behind) {
            if found.is_cut {
                cut.push(name);
            }
            culprits.push(Named::of(reader, account, counts, period, found.behind)?);
        }
        if !cut.is_empty() {
            notes.push(format!(
                "there are too many events to look at each: of {} the latest were, and those of the busiest time of each of the \
                 first. Which come first is from sums, which are whole; what a single one did may be more than is told",
                cut.join(", ")
            ));
        }
        if culprits.is_empty() && all.verdict(Verdict::Exempt) > 0 {
            notes.push("only accounts in [allow] have sent; name one with --user to see what was behind it".to_owned());
        }
        Ok(Self { since, until, culprits, exempt, notes })
    }
}

/// What ranks an account: what it spent; of one that was asked for, everything.
fn of_it(counts: &Counts, asked: &Asked) -> i64 {
    if asked.user.is_some() { counts.attempts() + counts.over_limit() } else { counts.spent() + counts.over_limit() }
}

impl Named {
    fn of(
        reader: &Reader,
        account: &Account,
        counts: Counts,
        period: Period,
        behind: Vec<Behind>,
    ) -> Result<Self, Trouble> {
        let is_over = |time: &Millis| counts.over_limit() > 0 || *time >= period.from;
        let reached = reader.limit_reached(account.id, period)?.filter(is_over);
        Ok(Self {
            user: account.name.clone(),
            kind: kind_name(account.kind),
            uid: (account.kind == kind::USER).then_some(account.uid),
            numbers: counts.into(),
            first_ever: seconds(account.first),
            limit_reached: reached.map(seconds),
            actors: behind.into_iter().map(|behind| Actor::of(account, behind)).collect(),
        })
    }
}

impl Actor {
    fn of(account: &Account, behind: Behind) -> Self {
        let culprit = behind.culprit;
        let processes: Vec<Running> = behind
            .processes
            .iter()
            .map(|process| Running {
                pid: process.tgid,
                started: process.started.clone(),
                seen: date(process.seen),
                alive: alive::is_alive(process.tgid, process.started.as_deref()),
            })
            .collect();
        let samples = behind.samples.into_iter().map(|sample| Sample {
            time: date(sample.time),
            pid: sample.tgid,
            destination: sample.address,
            destination_name: sample.name,
            port: sample.port,
            verdict: sample.verdict.map_or("unknown", Verdict::name),
            reason: sample.reason.map_or("unknown", smtp_common::counter::Reason::name),
        });
        Self {
            service: culprit.service().map(str::to_owned),
            process: culprit.exe.clone().unwrap_or_else(|| format!("[{}]", behind.comm)),
            uid: (behind.uid != u32::MAX).then_some(behind.uid),
            limited_by: behind.plan,
            first_seen: date(behind.first_seen),
            since: date(behind.first),
            last: date(behind.last),
            numbers: behind.counts.into(),
            evidence: evidence(&culprit, &behind.comm),
            stop: stop::commands(account, &culprit, &processes),
            samples: samples.collect(),
            processes,
            culprit,
        }
    }
}

/// How what is said is known, in sentences.
fn evidence(culprit: &Culprit, comm: &str) -> Vec<String> {
    let mut all = vec!["the account is the uid that the kernel saw in connect() or execve()".to_owned()];
    match &culprit.exe {
        Some(exe) if culprit.exe_deleted && exe.starts_with("/memfd:") => {
            all.push("the program has no file: it was executed from memory (memfd)".to_owned())
        }
        Some(_) if culprit.exe_deleted => all.push("the program's file was deleted while it ran".to_owned()),
        Some(_) => {}
        None if comm.is_empty() => {
            all.push("the program is unknown: too many of this account were different".to_owned())
        }
        None => all.push(format!("the program is unknown: its process had gone; its thread called itself {comm:?}")),
    }
    if let Some(script) = &culprit.script {
        let why = match script.how.as_str() {
            how::SHEBANG => "the kernel ran it by its #! line",
            how::FPM => "PHP-FPM names it for the request it served",
            how::PHP => "the PHP in the process named it for the request it served",
            how::ARGUMENT => "it stands in the command line",
            how::ENVIRONMENT => "SCRIPT_FILENAME of its environment says so, which its own code can change",
            how::TITLE => "the process says so in its title",
            how::DIRECTORY => "only the directory it worked in is known: the script's, unless that has changed it",
            other => other,
        };
        all.push(format!("the script: {why}"));
    }
    if culprit.started_as.is_some() {
        all.push("its command line is not the one it was started with".to_owned());
    }
    all
}

#[cfg(test)]
mod tests;

//! What the commands about the past have in common: the history, the period, the account.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{Since, lenient};
use crate::{
    exit::{Code, Failure, Result},
    report::period::parse,
    store::{
        Millis, NAME, Reader, Trouble, now,
        read::{Account, Period},
    },
};

/// The period that is asked for; `default` is where it begins where nobody says.
pub(super) fn period(since: &Since, default: &str) -> Result<Period> {
    let now = now();
    let moment =
        |text: &str, option: &str| parse(text, now).map_err(|why| Failure::config(format!("--{option}: {why}")));
    let from = moment(since.since.as_deref().unwrap_or(default), "since")?;
    let to = since.until.as_deref().map_or(Ok(now), |text| moment(text, "until"))?;
    if from < to {
        return Ok(Period::new(from, to));
    }
    let is = if since.until.is_some() { "before --until" } else { "in the past" };
    Err(Failure::config(format!("--since must be {is}")))
}

/// The history of a host, open to be asked.
pub(super) struct Past {
    pub(super) reader: Reader,
    pub(super) lenient: lenient::Lenient,
    pub(super) now: Millis,
}

impl Past {
    pub(super) fn open(config: &Path) -> Result<Self> {
        let lenient = lenient::load(config);
        let state = &lenient.paths.state;
        let enabled = lenient.config.as_ref().is_none_or(|config| config.history.enabled);
        let reader = Reader::open(state).map_err(|trouble| cannot(&state.join(NAME), &trouble, enabled))?;
        Ok(Self { reader, lenient, now: now() })
    }

    /// The account of this name.
    pub(super) fn account(&self, name: &str) -> Result<Account> {
        let account = self.reader.account(name).map_err(unreadable)?;
        account.ok_or_else(|| {
            Failure::new(
                Code::No,
                format!("the history knows nothing of {name:?}; `smtp-agent report` shows what accounts are called"),
            )
        })
    }

    pub(super) fn account_if(&self, name: Option<&str>) -> Result<Option<Account>> {
        name.map(|name| self.account(name)).transpose()
    }
}

pub(super) fn unreadable(error: rusqlite::Error) -> Failure {
    Failure::unavailable(format!("the history cannot be read: {error}"))
}

fn cannot(path: &PathBuf, trouble: &Trouble, enabled: bool) -> Failure {
    match trouble {
        Trouble::Absent if enabled => Failure::unavailable(format!(
            "there is no history yet at {path:?}: `smtp-agent run` begins it, and writes each second"
        )),
        Trouble::Absent => Failure::unavailable(
            "no history is kept: [history] enabled is false; set it to true and start smtp-agent again".to_owned(),
        ),
        Trouble::Io(e) if e.kind() == ErrorKind::PermissionDenied => {
            Failure::not_permitted(format!("the history {path:?} cannot be read: {e}; run as root"))
        }
        other => Failure::unavailable(format!("the history {path:?} cannot be used: {other}")),
    }
}

//! `smtp-agent notify test`: whether notices would arrive, asked before they must.

use std::path::Path;

use serde_json::json;

use super::{load, output};
use crate::{
    daemon::notices::host,
    exit::{Code, Failure, Result},
    notify,
};

pub(super) fn test(path: &Path, only: Option<&str>, as_json: bool) -> Result<Code> {
    match tell(path, only, as_json) {
        Err(e) if as_json => {
            output::json(&json!({ "ok": false, "error": e.message }))?;
            Ok(e.code)
        }
        done => done,
    }
}

fn tell(path: &Path, only: Option<&str>, as_json: bool) -> Result<Code> {
    let config = load(path)?.config.notify;
    if config.sinks.is_empty() {
        return Err(Failure::unavailable(format!(
            "nobody is to be told: {} has no sink. Add one, such as [[notify.mail]] with to = [\"root\"]",
            path.display()
        )));
    }
    let outcomes = notify::test(&config, &host(), only);
    if let (Some(only), true) = (only, outcomes.is_empty()) {
        let names: Vec<_> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        return Err(Failure::config(format!(
            "no sink is called {only:?} or is of that kind; there are: {}",
            names.join(", ")
        )));
    }
    let fine = outcomes.iter().all(|outcome| outcome.error.is_none());
    if as_json {
        output::json(&json!({ "ok": fine, "sinks": outcomes }))?;
        return Ok(if fine { Code::Fine } else { Code::No });
    }
    for outcome in &outcomes {
        let of = if outcome.sink == outcome.way { String::new() } else { format!(" ({})", outcome.way) };
        let said = match &outcome.error {
            None => format!("told, in {:.2} s", outcome.seconds),
            Some(error) => format!("FAILED: {error}"),
        };
        output::line(&format!("{}{of}: {said}", outcome.sink))?;
    }
    Ok(if fine { Code::Fine } else { Code::No })
}

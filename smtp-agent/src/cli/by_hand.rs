//! `smtp-agent allow`, `block` and `release`: what somebody says by hand, and what is said.

pub(super) mod list;

use std::path::Path;

use serde_json::json;

use self::list::List;
use super::{Release, Say, Whom, lenient, output};
use crate::{
    by_hand::{Entry, Says, Subject, Time, entry::duration_fault},
    control::{Answer, Deed, Order, Request, client},
    exit::{Code, Failure, Result},
};

/// `2h` and the like.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let advice = "write it as 30m, 2h or 7d";
    let duration = humantime::parse_duration(text).map_err(|e| format!("{e}; {advice}"))?;
    if duration.subsec_nanos() != 0 {
        return Err(format!("it is not in whole seconds; {advice}"));
    }
    duration_fault(duration.as_secs()).map_or(Ok(duration.as_secs()), Err)
}

fn subject(whom: &Whom) -> Result<Subject> {
    type Read = fn(&str) -> Result<Subject, String>;
    let given: [(&Option<String>, Read); 5] = [
        (&whom.name, Subject::shown),
        (&whom.user, Subject::user),
        (&whom.group, Subject::group),
        (&whom.container, Subject::container),
        (&whom.cgroup, Subject::cgroup),
    ];
    let Some((text, read)) = given.into_iter().find_map(|(text, read)| Some((text.as_ref()?, read))) else {
        return Err(Failure::config("say of whom: NAME, --user, --group, --container or --cgroup; see --help"));
    };
    read(text).map_err(Failure::config)
}

/// Asks the agent. An answer that says it failed is printed where JSON is wanted.
fn ask(path: &Path, request: &Request) -> Result<Answer> {
    client::ask(&lenient::load(path).paths.run, request)
}

/// Ends a command that failed, in JSON where that is wanted.
fn told(outcome: Result<Code>, as_json: bool) -> Result<Code> {
    match outcome {
        Err(e) if as_json => {
            output::json(&json!({ "ok": false, "error": e.message }))?;
            Ok(e.code)
        }
        outcome => outcome,
    }
}

pub(super) fn say(path: &Path, says: Says, args: &Say) -> Result<Code> {
    told(if args.list { show(path, args.json.json) } else { order(path, says, args) }, args.json.json)
}

fn show(path: &Path, as_json: bool) -> Result<Code> {
    let Answer::Said { said } = ask(path, &Request::Said {})? else { return client::unexpected() };
    let list = List::new(said, Time::now());
    if as_json {
        output::json(&list)?;
    } else {
        output::line(&list.table().unwrap_or_else(|| "nothing is said by hand".to_owned()))?;
    }
    Ok(Code::Fine)
}

fn order(path: &Path, says: Says, args: &Say) -> Result<Code> {
    let (reason, force) = (args.reason.clone(), args.force);
    let order = Order { whom: subject(&args.whom)?, for_seconds: args.seconds, reason, force };
    let answer = ask(path, &Request::order(says, order))?;
    let Answer::Taken { entry, notes } = answer else { return client::unexpected() };
    if args.json.json {
        output::json(&json!({ "ok": true, "said": list::listed(&entry, Time::now()), "notes": notes }))?;
    } else {
        let lines = [sentence(&entry, args.seconds)].into_iter().chain(notes);
        output::line(&lines.collect::<Vec<_>>().join("\n"))?;
    }
    Ok(Code::Fine)
}

/// What holds from now on.
fn sentence(entry: &Entry, seconds: Option<u64>) -> String {
    let (whom, says) = (&entry.whom, entry.says.name());
    match (seconds, entry.until) {
        (Some(seconds), Some(until)) => {
            format!("{whom} is {says} for {}, until {until}; then it lapses by itself", list::time(seconds))
        }
        _ => format!("{whom} is {says} for ever, until `smtp-agent release {}`", whom.argument()),
    }
}

pub(super) fn release(path: &Path, args: &Release) -> Result<Code> {
    told(take_back(path, args), args.json.json)
}

fn take_back(path: &Path, args: &Release) -> Result<Code> {
    let answer = ask(path, &Request::Release { whom: subject(&args.whom)? })?;
    let Answer::Released { deeds, notes } = answer else { return client::unexpected() };
    let code = if deeds.is_empty() { Code::No } else { Code::Fine };
    if args.json.json {
        let shown: Vec<_> = deeds.iter().map(deed_as_json).collect();
        output::json(&json!({ "ok": !deeds.is_empty(), "released": shown, "notes": notes }))?;
        return Ok(code);
    }
    let mut lines: Vec<_> = deeds.iter().map(deed).collect();
    if deeds.is_empty() {
        lines.push("there was nothing to release".to_owned());
    }
    lines.extend(notes);
    output::line(&lines.join("\n"))?;
    Ok(code)
}

fn deed(deed: &Deed) -> String {
    match deed {
        Deed::TookBack { entry } => {
            format!("{} is not {} by hand any more: said by {}", entry.whom, entry.says.name(), list::said_by(entry))
        }
        Deed::LetGo { brake_of } => format!("the failure brake of {brake_of} is let go"),
        Deed::Emptied { windows_of } => format!("the windows of {windows_of} are emptied"),
    }
}

fn deed_as_json(deed: &Deed) -> serde_json::Value {
    match deed {
        Deed::TookBack { entry } => json!({ "did": "took_back", "said": list::listed(entry, Time::now()) }),
        Deed::LetGo { brake_of } => json!({ "did": "let_go", "brake_of": brake_of }),
        Deed::Emptied { windows_of } => json!({ "did": "emptied", "windows_of": windows_of }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_people_write_it() {
        assert_eq!(seconds("2h"), Ok(7200));
        assert_eq!(seconds("1h 30m"), Ok(5400));
        assert_eq!(seconds("10y"), Ok(315_576_000));
        for wrong in ["", "2", "soon", "-2h", "0s", "500ms", "1500ms", "11y", "99999999999999999999y"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}

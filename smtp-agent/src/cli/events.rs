//! `smtp-agent events`: connections as they are decided, messages that may not pass, sessions as they end.

use std::path::Path;

use super::{EventKind, Events, lenient, output};
use crate::{
    control::{Request, client},
    exit::{Code, Failure, Result},
    stream::Line,
};

pub(super) fn events(path: &Path, args: &Events) -> Result<Code> {
    let mut agent = client::send(&lenient::load(path).paths.run, &Request::Events {})?;
    agent.answer()?;
    while let Some(line) = agent.line()? {
        let told: Line = serde_json::from_str(&line)
            .map_err(|e| Failure::unavailable(format!("the agent sent an event this smtp-agent cannot read: {e}")))?;
        if !args.only.is_empty() && !args.only.contains(&kind(&told)) {
            continue;
        }
        let shown = if args.json.json { line } else { told.to_string() };
        if !output::line(&shown)? {
            return Ok(Code::Fine);
        }
    }
    Err(Failure::unavailable("the agent has ended; the gate stays in force without it"))
}

fn kind(line: &Line) -> EventKind {
    match line {
        Line::Connect(_) => EventKind::Connect,
        Line::Session(_) => EventKind::Session,
        Line::Stop(_) => EventKind::Stop,
    }
}

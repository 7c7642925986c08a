//! `smtp-agent events`: connections as they are decided.

use std::path::Path;

use super::{lenient, output};
use crate::{
    control::{Request, client},
    exit::{Code, Failure, Result},
    stream::Line,
};

pub(super) fn events(path: &Path, as_json: bool) -> Result<Code> {
    let mut agent = client::send(&lenient::load(path).paths.run, Request::Events)?;
    agent.answer()?;
    while let Some(line) = agent.line()? {
        let shown = if as_json {
            line
        } else {
            let told: Line = serde_json::from_str(&line).map_err(|e| {
                Failure::unavailable(format!("the agent sent an event this smtp-agent cannot read: {e}"))
            })?;
            told.to_string()
        };
        if !output::line(&shown)? {
            return Ok(Code::Fine);
        }
    }
    Err(Failure::unavailable("the agent has ended; the gate stays in force without it"))
}

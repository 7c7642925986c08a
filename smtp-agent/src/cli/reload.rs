//! `smtp-agent reload`: like SIGHUP, with an answer.

use std::path::Path;

use serde_json::json;

use super::{lenient, output};
use crate::{
    control::{Answer, Request, client},
    exit::{Code, Failure, Result},
};

pub(super) fn reload(path: &Path, as_json: bool) -> Result<Code> {
    // The agent reads the configuration and judges it; here only the way to the agent is needed.
    let run = lenient::load(path).paths.run;
    match client::ask(&run, &Request::Reload {}) {
        Ok(Answer::Reloaded { generation }) => {
            if as_json {
                output::json(&json!({ "ok": true, "generation": generation }))?;
            } else {
                output::line(&format!("policy generation {generation} is in force"))?;
            }
            Ok(Code::Fine)
        }
        Ok(_) => client::unexpected(),
        Err(e) if as_json => {
            output::json(&json!({ "ok": false, "error": e.message }))?;
            Ok(e.code)
        }
        Err(e) if e.code == Code::Usage => {
            Err(Failure::config(format!("not reloaded, the policy before stays in force\n{}", e.message)))
        }
        Err(e) => Err(e),
    }
}

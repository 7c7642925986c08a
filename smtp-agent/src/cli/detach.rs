//! `smtp-agent detach`: the gate and its counts leave the kernel.

use std::path::Path;

use serde_json::json;

use super::{lenient, output};
use crate::{
    exit::{Code, Result},
    kernel::{
        cgroup,
        pins::{Pins, State},
    },
};

pub(super) fn detach(path: &Path, as_json: bool) -> Result<Code> {
    let paths = lenient::load(path).paths;
    let pins = Pins::new(paths.pins);
    let running = pins.agent_is_running();
    let there = pins.state()? != State::Absent;
    let (removed, left) = pins.remove()?;
    if !running {
        cgroup::unmount_private(&cgroup::private_mount(&paths.run));
    }
    if as_json {
        output::json(&json!({ "pins": pins.dir(), "removed": removed, "left": left, "agent_running": running }))?;
        return Ok(Code::Fine);
    }
    let dir = pins.dir().display();
    output::line(&if there {
        format!("the gate pinned in {dir} was removed: SMTP connections are no longer limited or counted")
    } else {
        format!("no gate is pinned in {dir}: nothing to remove")
    })?;
    if !left.is_empty() {
        output::line(&format!("left alone, because it is not smtp-agent's: {left:?}"))?;
    }
    if running {
        output::line("an agent still runs with these pins: stop it too, or start it again to put the gate back")?;
    }
    Ok(Code::Fine)
}

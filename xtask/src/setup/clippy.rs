//! clippy for the probe: the one that belongs to the probe's compiler, for only it reads what that compiler wrote.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use probe_toolchain::{Toolchain, find};

use super::attempts::Attempts;
use super::{Item, apt};
use crate::progress::Line;

/// The counterpart of Debian's rustc-web.
const PACKAGE: &str = "rust-web-clippy";
const COMPONENT: Duration = Duration::from_secs(20);

pub(super) struct ProbeClippy;

impl Item for ProbeClippy {
    fn name(&self) -> &'static str {
        "probe clippy"
    }

    fn look(&self) -> Result<String, String> {
        let toolchain = find().map_err(|_| "there is no probe toolchain".to_owned())?;
        let driver = toolchain.sysroot.join("bin/clippy-driver");
        if driver.is_file() { Ok(driver.display().to_string()) } else { Err(format!("{} is absent", driver.display())) }
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        let toolchain = find()?;
        let mut attempts = Attempts::default();
        if is_debians(&toolchain) {
            return apt::install(&[PACKAGE], line);
        }
        let mut command = Command::new("rustup");
        command.args(["component", "add", "clippy", "--toolchain", &toolchain.name]);
        if attempts.command(&mut command, COMPONENT, line) {
            return Ok(());
        }
        Err(attempts.exhausted(&format!("install clippy for the toolchain {}", toolchain.name)))
    }
}

fn is_debians(toolchain: &Toolchain) -> bool {
    toolchain.sysroot == std::path::Path::new("/usr")
}

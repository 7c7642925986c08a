//! `test-tools/prometheus/`: a real Prometheus and promtool, unpacked and not installed.

use anyhow::Result;

use super::placed::Placed;
use super::{Item, apt};
use crate::progress::Line;
use crate::workspace::Workspace;

pub(super) struct Prometheus(Placed);

impl Prometheus {
    pub(super) fn new(workspace: &Workspace) -> Self {
        let suite = apt::os_release("VERSION_CODENAME").unwrap_or_default();
        Self(Placed { path: workspace.test_tools().join("prometheus"), recipe: format!("prometheus 1 {suite}") })
    }
}

impl Item for Prometheus {
    fn name(&self) -> &'static str {
        "test prometheus"
    }

    fn look(&self) -> Result<String, String> {
        self.0.look()
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        self.0.replace(line, |directory, line| {
            apt::unpack("prometheus", directory, line)?;
            // Debian split it off in trixie.
            if !directory.join("usr/bin/promtool").is_file() {
                apt::unpack("promtool", directory, line)?;
            }
            Ok(())
        })
    }
}

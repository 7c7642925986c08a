//! `test-tools/alertmanager/`: a real Alertmanager, unpacked and not installed.

use anyhow::Result;

use super::placed::Placed;
use super::{Item, apt};
use crate::progress::Line;
use crate::workspace::Workspace;

pub(super) struct Alertmanager(Placed);

impl Alertmanager {
    pub(super) fn new(workspace: &Workspace) -> Self {
        let suite = apt::os_release("VERSION_CODENAME").unwrap_or_default();
        Self(Placed { path: workspace.test_tools().join("alertmanager"), recipe: format!("alertmanager 1 {suite}") })
    }
}

impl Item for Alertmanager {
    fn name(&self) -> &'static str {
        "alertmanager"
    }

    fn look(&self) -> Result<String, String> {
        self.0.look()
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        self.0.replace(line, |directory, line| apt::unpack("prometheus-alertmanager", directory, line))
    }
}

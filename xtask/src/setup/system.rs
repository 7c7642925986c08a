//! Programs that every distribution has a package for.

use anyhow::Result;

use super::{Item, apt};
use crate::progress::Line;

pub(super) struct Program {
    pub(super) name: &'static str,
    /// Debian's name for the package.
    pub(super) package: &'static str,
}

impl Item for Program {
    fn name(&self) -> &'static str {
        self.name
    }

    fn look(&self) -> Result<String, String> {
        apt::program(self.name)
            .map(|path| path.display().to_string())
            .ok_or_else(|| format!("no {} on the PATH", self.name))
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        apt::install(&[self.package], line)
    }
}

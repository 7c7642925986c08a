//! Debian's Chromium with its driver: what the tests of the web page look at it with.

use std::path::Path;

use anyhow::Result;

use super::{Item, apt};
use crate::progress::Line;

const PROGRAMS: [&str; 2] = ["/usr/bin/chromium", "/usr/bin/chromedriver"];
const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

pub(super) struct Browser;

impl Item for Browser {
    fn name(&self) -> &'static str {
        "browser"
    }

    fn look(&self) -> Result<String, String> {
        match PROGRAMS.iter().find(|program| !Path::new(program).is_file()) {
            None => Ok(PROGRAMS.join(" ")),
            Some(missing) => Err(format!("{missing} is absent")),
        }
    }

    fn install(&self, line: &mut Line) -> Result<()> {
        apt::install(&PACKAGES, line)
    }
}

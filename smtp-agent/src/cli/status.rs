//! `smtp-agent status`: who sends, the limits and the gate's health, read from the pinned maps alone.

mod show;

use std::path::Path;

use serde::Serialize;

use super::{by_hand::list::List, lenient, output};
use crate::{
    exit::{Code, Result},
    overview::{self, Overview},
};

#[derive(Serialize)]
struct Status {
    #[serde(flatten)]
    overview: Overview,
    /// What is said by hand and holds.
    by_hand: List,
}

pub(super) fn status(path: &Path, as_json: bool) -> Result<Code> {
    let lenient = lenient::load(path);
    let (pins, maps, naming) = lenient.gate()?;
    let overview = overview::collect(&pins, &maps, &naming)?;
    let status = Status { overview, by_hand: List::read(&lenient.paths.state) };
    if as_json {
        output::json(&status)?;
    } else {
        output::line(&show::show(&status))?;
    }
    Ok(if status.overview.is_whole() { Code::Fine } else { Code::No })
}

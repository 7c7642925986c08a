//! `smtp-agent check`: everything that is wrong with the configuration, at once, and who else decides about its ports.

use std::path::Path;

use serde_json::{Value, json};

use super::output;
use crate::{
    config::{self, Problem, Problems},
    control::rights,
    daemon::{logging::colour, reload::compile},
    exit::{Code, Result},
    neighbours, notify,
};

pub(super) fn check(path: &Path, as_json: bool) -> Result<Code> {
    let (problems, files, neighbours) = match config::load(path) {
        Ok(loaded) => {
            let mut problems = loaded.warnings;
            let compiled = compile(&loaded.config);
            problems.extend(neighbours::redirect_problems(&loaded.config, &compiled));
            problems.extend(notify::problems(&loaded.config.notify));
            problems.extend(rights::members(&loaded.config).err().map_or_else(Problems::default, Into::into));
            problems.extend(compiled.warnings);
            problems.extend(compiled.absent);
            problems.sort();
            (problems, loaded.sources.len(), neighbours::of_this_host(&loaded.config))
        }
        // Whose ports they share is not known.
        Err(problems) => (problems, 0, Vec::new()),
    };
    let failed = problems.has_errors();
    if as_json {
        output::json(&json!({
            "config": path, "ok": !failed, "errors": problems.errors(), "warnings": problems.warnings(),
            "problems": problems.iter().map(show).collect::<Vec<_>>(),
            "neighbours": neighbours,
        }))?;
    } else {
        if !problems.is_empty() {
            eprintln!("{}", problems.render(colour(std::io::stderr())));
        }
        if !neighbours.is_empty() {
            eprintln!("{}", neighbours::render(&neighbours, colour(std::io::stderr())));
        }
        if !failed {
            output::line(&verdict(path, files, &problems))?;
        }
    }
    Ok(if failed { Code::Usage } else { Code::Fine })
}

fn verdict(path: &Path, files: usize, problems: &Problems) -> String {
    let more = match files {
        0 | 1 => String::new(),
        n => format!(" and {} in conf.d", n - 1),
    };
    match problems.warnings() {
        0 => format!("{}{more}: fine", path.display()),
        1 => format!("{}{more}: fine, with 1 warning", path.display()),
        n => format!("{}{more}: fine, with {n} warnings", path.display()),
    }
}

fn show(problem: &Problem) -> Value {
    json!({
        "severity": problem.severity.name(),
        "message": problem.message,
        "hint": problem.hint,
        "file": problem.place.as_ref().map(|p| p.source().name()),
        "line": problem.place.as_ref().map(config::Place::line),
        "column": problem.place.as_ref().map(config::Place::column),
    })
}

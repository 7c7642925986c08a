//! From the mail limits of a panel to a configuration: `smtp-agent import`.
//!
//! `tree` reads the panel's files without ever leaving the directory that was named, `lines` takes them apart, one file
//! per panel says what its settings mean here, and `draft` writes the configuration. Files of a panel can hold anything
//! (its customers write into some of them): what is not understood is reported and never copied. Before it is handed
//! out, the result goes through the loader that `check` and `run` use.
#![forbid(unsafe_code)]

mod cpanel;
mod csf;
mod directadmin;
mod draft;
mod lines;
mod plans;
mod plesk;
mod report;
mod tree;

use std::path::Path;

pub use report::{Note, Notes, Report};

use crate::{
    config,
    exit::{Code, Failure, Result},
};
use tree::Tree;

/// Whose settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Panel {
    Cpanel,
    Csf,
    Plesk,
    Directadmin,
}

impl Panel {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpanel => "cpanel",
            Self::Csf => "csf",
            Self::Plesk => "plesk",
            Self::Directadmin => "directadmin",
        }
    }

    /// As its makers write it.
    const fn title(self) -> &'static str {
        match self {
            Self::Cpanel => "cPanel",
            Self::Csf => "CSF",
            Self::Plesk => "Plesk",
            Self::Directadmin => "DirectAdmin",
        }
    }
}

/// A configuration in one or more files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The main file.
    pub main: String,
    /// Rules that have no room in the main file: name in `conf.d` and text.
    pub drop_ins: Vec<(String, String)>,
    pub report: Report,
}

/// Reads the panel's settings below `root`. An error with [`Code::No`] says that there are none.
pub fn import(panel: Panel, root: &Path) -> Result<Imported> {
    let tree = Tree::open(root)?;
    let mut report = Report::default();
    let draft = match panel {
        Panel::Cpanel => cpanel::read(&tree, &mut report)?,
        Panel::Csf => csf::read(&tree, &mut report)?,
        Panel::Plesk => plesk::read(&tree, &mut report)?,
        Panel::Directadmin => directadmin::read(&tree, &mut report)?,
    };
    let Some(mut draft) = draft else {
        let mut message = format!(
            "nothing of {} was found below {}; looked for {}",
            panel.title(),
            tree.shown(),
            report.missing.join(", ")
        );
        if panel == Panel::Plesk {
            message = format!("{message}\n{}", plesk::HOW_TO_EXPORT);
        }
        return Err(Failure::new(Code::No, message));
    };
    draft.settle(&mut report);
    let imported = draft.write(panel, &tree.shown(), report)?;
    verify(&imported)?;
    Ok(imported)
}

/// What `import` writes, `check` accepts: with each of the drop-in files, since these hold nothing but rules.
fn verify(imported: &Imported) -> Result<()> {
    let alone = String::new();
    let parts = imported.drop_ins.iter().map(|(_, text)| text);
    for part in parts.chain(imported.drop_ins.is_empty().then_some(&alone)) {
        if let Err(problems) = config::parse_str("config.toml", &format!("{}{part}", imported.main)) {
            return Err(Failure::unavailable(format!(
                "the result would not be a valid configuration, a fault of smtp-agent; please report it\n{problems}"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

//! Hosts made of files and listings, and what is said of them.

mod files;
mod hostile;
mod mta;
mod rules;

use std::{collections::HashSet, fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use super::*;
use super::{live::Rules, rules::Ports};

/// The files of a host.
struct Host(TempDir);

impl Host {
    fn with(files: &[(&str, &str)]) -> Self {
        let host = Self(tempfile::tempdir().expect("a directory"));
        for (path, text) in files {
            host.write(path, text.as_bytes());
        }
        host
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let full = self.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(full.parent().expect("a parent")).expect("a directory");
        fs::write(full, bytes).expect("a file");
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn find(&self) -> Vec<Neighbour> {
        find(self.path(), &ours(), &Rules::default())
    }
}

fn ours() -> Ours {
    Ours { ports: vec![25, 465, 587], redirects: false, only_mta: false }
}

/// Those whose rules are listed so by iptables-save.
fn saved(text: &str) -> Vec<Neighbour> {
    let ours = ours();
    let set = iptables::parse(text, "ip", Ports(&ours.ports));
    live::neighbours(&Rules { listed: vec![("iptables", set)], failed: Vec::new() }, &ours, &[])
}

/// Those whose rules are listed so by nft; `elements` are those of every named set.
fn listed(text: &str, elements: Value) -> Vec<Neighbour> {
    let ours = ours();
    let listing = nft::parse(text, &HashSet::new(), Ports(&ours.ports), &mut |_, _, _| Some(elements.clone()));
    let rules = listing.expect("a listing").rules;
    live::neighbours(&Rules { listed: vec![("nftables", rules)], failed: Vec::new() }, &ours, &[])
}

/// The one neighbour that is found.
#[track_caller]
fn single(found: Vec<Neighbour>) -> Neighbour {
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().expect("one")
}

#[track_caller]
fn says(neighbour: &Neighbour, parts: &[&str]) {
    let text = format!("{} {}\n{}", neighbour.who, neighbour.together, neighbour.evidence.join("\n"));
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

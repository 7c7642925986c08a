//! Each panel's sample tree becomes a configuration that says the same, and no tree does any harm.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Imported, Panel, import};
use crate::{
    config::{self, Config, ExceptionEntry, PlanRef, Quota, Spot, Subject},
    exit::{Code, Failure},
};

mod cpanel;
mod csf;
mod directadmin;
mod hostile;
mod plesk;

pub(super) const PANELS: [Panel; 4] = [Panel::Cpanel, Panel::Csf, Panel::Plesk, Panel::Directadmin];

fn fixture(panel: Panel) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/fixtures").join(panel.name())
}

/// A copy of a sample tree that a test can change.
fn copy(panel: Panel) -> tempfile::TempDir {
    fn copy_all(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("an entry");
            let target = to.join(entry.file_name());
            if entry.file_type().expect("a type").is_dir() {
                fs::create_dir(&target).expect("a new directory");
                copy_all(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).expect("a copy");
            }
        }
    }
    let dir = tempfile::tempdir().expect("a directory for the test");
    copy_all(&fixture(panel), dir.path());
    dir
}

fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a new directory");
    fs::write(path, content).expect("a new file");
}

/// Replaces a text that is there in a file that is there.
fn edit(root: &Path, path: &str, old: &str, new: &str) {
    let text = fs::read_to_string(root.join(path)).expect("a file");
    assert!(text.contains(old), "{old:?} is not in {path}");
    put(root, path, text.replace(old, new));
}

fn read(panel: Panel, root: &Path) -> Imported {
    import(panel, root).unwrap_or_else(|failure| panic!("{failure}"))
}

fn failure(panel: Panel, root: &Path) -> Failure {
    import(panel, root).map(|imported| imported.main).expect_err("nothing to import")
}

/// The configuration of a result that is one file and draws no warning.
#[track_caller]
fn config(imported: &Imported) -> Config {
    assert!(imported.drop_ins.is_empty());
    let loaded = config::parse_str("config.toml", &imported.main).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}\n{}", loaded.warnings, imported.main);
    loaded.config
}

fn texts(names: &[Spot<config::Name>]) -> Vec<String> {
    names.iter().map(|name| name.value.to_string()).collect()
}

/// Who has which plan, in order.
fn rules(config: &Config) -> Vec<(String, &str)> {
    let named = config.rules.iter().map(|rule| match &rule.subject {
        Subject::User(name) => (name.value.to_string(), config.plan_name(rule.plan)),
        other => panic!("an import makes rules for users only: {other:?}"),
    });
    named.collect()
}

/// `user group to ports allow` of each exception.
fn exceptions(config: &Config) -> Vec<String> {
    let show = |it: &ExceptionEntry| {
        let name = |name: &Option<Spot<config::Name>>| name.as_ref().map_or("-".to_owned(), |it| it.value.to_string());
        let to: Vec<_> = it.to.iter().map(|net| format!("{}/{}", net.address, net.prefix)).collect();
        format!("{} {} {} {:?} {}", name(&it.user), name(&it.group), to.join(","), it.ports, it.allow)
    };
    config.exceptions.iter().map(show).collect()
}

/// A plan's limits by name: connections, messages, recipients.
#[track_caller]
fn limits(config: &Config, plan: &str) -> [Quota; 3] {
    let plan = config.plans.iter().find(|it| it.name == plan).unwrap_or_else(|| panic!("no plan {plan}"));
    [plan.connections, plan.messages, plan.recipients]
}

fn hourly(n: u32) -> Quota {
    Quota { per_hour: Some(n), per_day: None }
}

fn daily(n: u32) -> Quota {
    Quota { per_hour: None, per_day: Some(n) }
}

/// The whole line of the result that has `part` in it.
#[track_caller]
fn line<'i>(imported: &'i Imported, part: &str) -> &'i str {
    let found: Vec<_> = imported.main.lines().filter(|line| line.contains(part)).collect();
    assert_eq!(found.len(), 1, "{part:?} in {}", imported.main);
    found[0]
}

/// What has no equivalent, in the order it is told.
fn no_equivalent(imported: &Imported) -> Vec<String> {
    imported.report.no_equivalent.iter().map(|note| format!("{}*{}", note.setting, note.count)).collect()
}

fn not_understood(imported: &Imported) -> Vec<String> {
    imported.report.not_understood.iter().map(|note| format!("{}*{}: {}", note.setting, note.count, note.why)).collect()
}

#[test]
fn every_key_says_where_it_comes_from_and_the_report_is_in_the_file() {
    for panel in PANELS {
        let imported = read(panel, &fixture(panel));
        for line in imported.main.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
            let opens = line.ends_with(" = [");
            assert!(
                opens || line.split_once("  # ").is_some_and(|(_, from)| !from.trim().is_empty()),
                "{panel:?}: {line}"
            );
        }
        for line in imported.report.lines() {
            assert!(imported.main.contains(&format!("\n# {line}\n")), "{panel:?}: {line}");
        }
        assert_eq!(config(&imported).mode, config::Mode::Observe, "{panel:?}");
    }
}

#[test]
fn a_tree_without_the_panel_is_told_with_what_was_looked_for() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    for (panel, files) in [
        (Panel::Cpanel, &["/var/cpanel/cpanel.config", "/var/cpanel/users"][..]),
        (Panel::Csf, &["/etc/csf/csf.conf"]),
        (Panel::Plesk, &["/root/smtp-agent-import/server.tsv", "/etc/psa/psa.conf", "plesk db -Ne"]),
        (Panel::Directadmin, &["/etc/virtual/limit", "/etc/virtual", "/usr/local/directadmin/data/users"]),
    ] {
        let failure = failure(panel, dir.path());
        assert_eq!(failure.code, Code::No, "{failure}");
        for file in files {
            assert!(failure.message.contains(file), "{failure}");
        }
    }
}

#[test]
fn a_root_that_is_no_directory_is_a_wrong_argument() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), "file", "");
    for path in ["file", "absent"] {
        let failure = failure(Panel::Cpanel, &dir.path().join(path));
        assert_eq!(failure.code, Code::Usage, "{failure}");
        assert!(failure.message.contains("--root"), "{failure}");
    }
}

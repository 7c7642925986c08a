//! All rooms together.

use std::time::SystemTime;

use super::{
    super::{Options, examine},
    *,
};

fn options(tree: &Tree) -> Options {
    Options {
        root: tree.root().to_owned(),
        config: Some(config("mode = \"enforce\"\n")),
        zones: Vec::new(),
        resolver: None,
        addresses: Vec::new(),
        named: Vec::new(),
        threshold: 1000,
        now: SystemTime::now(),
    }
}

#[test]
fn a_host_with_nothing_to_do_is_told_so_room_by_room() {
    let found = examine(&options(&Tree::new()));
    assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:#?}");
    let subjects: Vec<_> = found.iter().map(|finding| finding.subject).collect();
    assert_eq!(subjects, ["nobody", "mta", "queue", "sendmail", "dnsbl", "others"]);
}

#[test]
fn the_gravest_comes_first_and_neighbours_are_among_them() {
    let tree = Tree::new();
    tree.write("/etc/csf/csf.conf", "SMTP_BLOCK = \"1\"\n");
    for n in 0..3 {
        tree.write(&format!("/var/spool/postfix/deferred/{n}/{n}ABCD"), "");
    }
    let found = examine(&Options { threshold: 2, ..options(&tree) });
    assert_one(&found, Level::Warning, &["CSF (SMTP_BLOCK) rejects", "csf.conf:1"]);
    assert_one(&found, Level::Warning, &["3 messages wait in the queue of postfix"]);
    assert!(found.is_sorted_by_key(|finding| finding.level), "{found:#?}");
}

#[test]
fn without_a_configuration_the_usual_ports_are_meant() {
    let tree = Tree::new();
    tree.write("/etc/csf/csf.conf", "SMTP_BLOCK = \"1\"\n");
    let found = examine(&Options { config: None, ..options(&tree) });
    assert_one(&found, Level::Warning, &["CSF", "ports 25, 465 and 587"]);
}

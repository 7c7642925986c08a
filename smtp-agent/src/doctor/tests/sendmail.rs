//! Who could replace sendmail, or get around it. Files of these tests belong to whoever runs them, so to root.

use std::os::unix::fs::chown;

use super::{super::sendmail::examine, *};

const ELF: &str = "\x7fELF";

/// A host with directories that only root may write.
fn tree() -> Tree {
    let tree = Tree::new();
    tree.mode("/", 0o755);
    tree
}

#[test]
fn a_program_that_root_alone_can_change_is_fine_and_its_links_are_told() {
    let tree = tree();
    tree.program("/usr/sbin/exim4", 0o4755, ELF);
    tree.link("/etc/alternatives/mta", "/usr/sbin/sendmail");
    tree.link("../../usr/sbin/exim4", "/etc/alternatives/mta");
    tree.link("/usr/sbin/sendmail", "/usr/lib/sendmail");
    let found = examine(&tree.host(), None);
    let way = "/usr/sbin/sendmail -> /etc/alternatives/mta -> /usr/sbin/exim4 -rwsr-xr-x root:root";
    assert_one(&found, Level::Ok, &["/usr/sbin/exim4 can be changed by root alone", way]);
    assert_eq!(found.len(), 1, "the same file twice: {found:#?}");
}

#[test]
fn whoever_else_can_replace_it_is_told() {
    let tree = tree();
    tree.program("/usr/sbin/sendmail", 0o757, ELF);
    assert_one(
        &examine(&tree.host(), None),
        Level::Warning,
        &["every user can replace /usr/sbin/sendmail", "chmod o-w"],
    );

    tree.mode("/usr/sbin/sendmail", 0o775);
    chown(tree.path("/usr/sbin/sendmail"), Some(0), Some(50)).expect("tests need root");
    assert_one(&examine(&tree.host(), None), Level::Warning, &["the group staff can replace", "-rwxrwxr-x root:staff"]);

    tree.mode("/usr/sbin/sendmail", 0o755);
    chown(tree.path("/usr/sbin/sendmail"), Some(33), Some(0)).expect("tests need root");
    assert_one(&examine(&tree.host(), None), Level::Warning, &["www-data can replace /usr/sbin/sendmail"]);

    chown(tree.path("/usr/sbin/sendmail"), Some(0), Some(0)).expect("tests need root");
    assert_eq!(of(&examine(&tree.host(), None), Level::Warning), [""; 0]);
    tree.mode("/usr/sbin", 0o777);
    assert_one(
        &examine(&tree.host(), None),
        Level::Warning,
        &["every user can put something else in the place of /usr/sbin/sendmail: /usr/sbin is open to all"],
    );
    tree.mode("/usr/sbin", 0o1777);
    assert_eq!(of(&examine(&tree.host(), None), Level::Warning), [""; 0], "the sticky bit keeps others' files");
}

#[test]
fn whoever_can_replace_a_directory_or_a_link_on_the_way_is_told() {
    let tree = tree();
    tree.program("/opt/mta/bin/sendmail", 0o755, ELF);
    tree.link("/opt/mta", "/opt/links/mta");
    tree.link("/opt/links/mta/bin/sendmail", "/usr/sbin/sendmail");
    let found = || examine(&tree.host(), None);
    let way = "/usr/sbin/sendmail -> /opt/links/mta/bin/sendmail -> /opt/mta/bin/sendmail";
    assert_one(&found(), Level::Ok, &["/opt/mta/bin/sendmail can be changed by root alone", way]);
    assert_eq!(found().len(), 1, "{:#?}", found());

    let owned = |path: &str, uid: u32, gid: u32, mode: u32| {
        chown(tree.path(path), Some(uid), Some(gid)).expect("tests need root");
        tree.mode(path, mode);
    };
    owned("/opt/mta/bin", 33, 33, 0o775);
    let told = ["www-data can put something else in the place of /opt/mta/bin/sendmail: /opt/mta/bin is his"];
    assert_one(&found(), Level::Warning, &told);
    assert_one(&found(), Level::Warning, &["the group 33 can put", "/opt/mta/bin is open to it", "chmod g-w"]);
    assert_eq!(of(&found(), Level::Ok), [""; 0]);
    owned("/opt/mta/bin", 0, 50, 0o775);
    assert_one(&found(), Level::Warning, &["the group staff can put", "drwxrwxr-x root:staff"]);
    owned("/opt/mta/bin", 0, 0, 0o775);
    assert_eq!(of(&found(), Level::Warning), [""; 0], "the group is root's");
    owned("/opt/mta/bin", 0, 0, 0o755);

    owned("/opt/mta", 33, 0, 0o755);
    assert_one(&found(), Level::Warning, &["www-data can put", "the place of /opt/mta/bin: /opt/mta is his"]);
    owned("/opt/mta", 0, 0, 0o755);

    owned("/opt/links", 0, 0, 0o777);
    assert_one(&found(), Level::Warning, &["every user", "the place of /opt/links/mta: /opt/links is open to all"]);
    owned("/opt/links", 0, 0, 0o1777);
    assert_eq!(of(&found(), Level::Warning), [""; 0], "the sticky bit keeps others' files");
    std::os::unix::fs::lchown(tree.path("/opt/links/mta"), Some(33), Some(33)).expect("tests need root");
    assert_one(&found(), Level::Warning, &["www-data can put", "/opt/links/mta", "chown -h root /opt/links/mta"]);
}

#[test]
fn links_on_the_way_stay_below_the_root_that_is_looked_at() {
    let tree = tree();
    // Not this machine's.
    tree.link("/usr/lib", "/lib");
    tree.link("../../../../../lib/mine/sendmail", "/usr/sbin/sendmail");
    tree.program("/usr/lib/mine/sendmail", 0o757, ELF);
    assert_one(&examine(&tree.host(), None), Level::Warning, &["every user can replace /usr/lib/mine/sendmail"]);
}

#[test]
fn a_wrapper_is_shown_with_its_first_line() {
    let tree = tree();
    tree.program("/usr/sbin/sendmail", 0o755, "#!/usr/bin/php -q\x1b[2J\n<?php mail();\n");
    assert_one(
        &examine(&tree.host(), None),
        Level::Note,
        &["is a wrapper", "#!/usr/bin/php -q\\u{1b}[2J", "[smtp] sendmail"],
    );
}

#[test]
fn rights_that_mail_servers_need_and_those_they_must_not_have_are_told() {
    let tree = tree();
    tree.program("/usr/sbin/sendmail", 0o4755, ELF);
    assert_one(&examine(&tree.host(), None), Level::Warning, &["setuid root, which no sendmail needs"]);
    tree.program("/usr/sbin/exim4", 0o755, ELF);
    let found = examine(&tree.host(), Some(&config("[smtp]\nsendmail = [\"/usr/sbin/exim4\"]\n")));
    assert_one(&found, Level::Note, &["/usr/sbin/exim4 is not setuid root"]);
    assert_eq!(found.len(), 1, "the configuration says which programs: {found:#?}");
}

#[test]
fn postfix_hands_mail_in_through_its_group() {
    let tree = tree();
    tree.program("/usr/sbin/sendmail", 0o755, ELF);
    for program in ["/usr/sbin/postdrop", "/usr/sbin/postqueue"] {
        tree.program(program, 0o755, ELF);
        chown(tree.path(program), Some(0), Some(123)).expect("tests need root");
        tree.mode(program, 0o2755);
    }
    tree.directory("/var/spool/postfix/maildrop");
    tree.mode("/var/spool/postfix/maildrop", 0o1730);
    assert_eq!(of(&examine(&tree.host(), None), Level::Warning), [""; 0]);
    tree.mode("/usr/sbin/postdrop", 0o755);
    tree.mode("/var/spool/postfix/maildrop", 0o1733);
    let found = examine(&tree.host(), None);
    assert_one(&found, Level::Warning, &["/usr/sbin/postdrop is not setgid postdrop", "-rwxr-xr-x root:postdrop"]);
    assert_one(&found, Level::Warning, &["every user can write into Postfix's queue", "drwx-wx-wt root:root"]);
}

#[test]
fn a_circle_of_links_or_nothing_at_all_is_told() {
    let tree = tree();
    tree.link("/usr/sbin/sendmail", "/usr/lib/sendmail");
    tree.link("/usr/lib/sendmail", "/usr/sbin/sendmail");
    assert_one(&examine(&tree.host(), None), Level::Note, &["/usr/sbin/sendmail leads nowhere", "in circles"]);
    assert_one(&examine(&Tree::new().host(), None), Level::Ok, &["there is no sendmail program"]);
}

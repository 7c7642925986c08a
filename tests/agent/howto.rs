//! Every how-to page is followed, command by command, on a host of its own.

use smtp_tests::{
    Must,
    howto::{Host, Page},
};
use std::path::{Path, PathBuf};

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/howto")
}

/// Follows the index, with which every page begins, and a page.
#[track_caller]
fn follow(name: &str, host: &mut Host) {
    Page::read(&pages().join("README.md")).follow(host);
    let page = Page::read(&pages().join(name));
    assert!(page.commands() >= 10, "{name} has {} commands: is it read right?", page.commands());
    page.follow(host);
}

#[test]
fn the_page_about_a_providers_relay_limit_comes_true() {
    follow("relay-limit.md", &mut Host::new());
}

#[test]
fn the_page_about_a_spam_bot_comes_true() {
    follow("spam-bot.md", &mut Host::new());
}

#[test]
fn the_page_about_protection_from_outbound_spam_comes_true() {
    follow("outbound-spam.md", &mut Host::new());
}

#[test]
fn the_page_about_mail_limits_comes_true() {
    let host = &mut Host::new();
    let panel = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent/howto/cpanel");
    host.copy(&panel.join("var/cpanel"), "/var/cpanel");
    host.copy(&panel.join("etc/userdomains"), "/etc/userdomains");
    follow("mail-limits.md", host);
}

#[test]
fn no_page_is_left_out() {
    let entries = std::fs::read_dir(pages()).must("docs/howto");
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["README.md", "mail-limits.md", "outbound-spam.md", "relay-limit.md", "spam-bot.md"]);
}

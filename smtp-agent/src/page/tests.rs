//! What several tests of the page need.

use std::collections::BTreeMap;

use smtp_common::names::program;

use super::{Page, look::Told};
use crate::{
    config::{self, Show},
    overview::{AccountStatus, Conversations, HostStatus, LimitUsage, Overview, Usage},
    stream::Line,
};

pub(super) fn attempt(account: &str) -> Line {
    let text = serde_json::json!({
        "event": "connect", "time": "2026-11-19T12:00:00.000Z", "account": account, "verdict": "allowed", "reason": "plan",
        "destination": "192.0.2.1", "port": 25, "route": "remote", "uid": 1, "gid": 1, "tgid": 1, "tid": 1,
        "comm": "php", "exe": "/usr/bin/php", "command": ["php", "x.php"], "cgroup": "/", "unit": null,
        "kernel_thread": false, "container": false, "subordinate_uid": false, "policy": 1,
    });
    serde_json::from_value(text).unwrap()
}

pub(super) fn account(name: &str, attempts: u64) -> AccountStatus {
    let usage = Usage { used: attempts, limit: Some(100) };
    AccountStatus {
        account: name.to_owned(),
        rule: "default",
        hour: Some(usage),
        day: None,
        limits: vec![LimitUsage { unit: "connection", window: "hour", usage }],
        remote: BTreeMap::from([("allowed", attempts)]),
        local: BTreeMap::new(),
        pipe: BTreeMap::new(),
        conversations: Conversations::default(),
        by_route: BTreeMap::new(),
        brake: None,
    }
}

/// The state of a gate that stands.
pub(super) fn told(accounts: Vec<AccountStatus>) -> Told {
    let nothing = Usage { used: 0, limit: None };
    let limits = vec![LimitUsage { unit: "connection", window: "hour", usage: nothing }];
    let host = HostStatus { hour: nothing, day: nothing, limits, conversations: Conversations::default() };
    Told::new(
        Show::Accounts,
        false,
        accounts.len(),
        Overview {
            pins: String::new(),
            agent_running: true,
            attached: program::GATE.into_iter().map(|hook| (hook, true)).collect(),
            mode: "enforce",
            policy_generation: 1,
            ports: vec![25],
            messages_wanted: true,
            messages_followed: true,
            host,
            shared: Vec::new(),
            accounts,
            lost: BTreeMap::new(),
        },
    )
}

#[test]
fn attempts_are_kept_only_while_they_may_be_shown() {
    let settings = |show| config::Page { show, hosts: Vec::new() };
    let page = Page::new(settings(Show::Accounts));
    page.keep(&attempt("a"));
    assert_eq!((page.listens(), page.recent().all().count()), (false, 0));
    page.change(&settings(Show::All));
    page.keep(&attempt("a"));
    assert_eq!((page.listens(), page.recent().all().count()), (true, 1));
    page.change(&settings(Show::Accounts));
    assert_eq!(page.recent().all().count(), 0, "forgotten");
    page.change(&settings(Show::All));
    assert_eq!(page.recent().all().count(), 0);
}

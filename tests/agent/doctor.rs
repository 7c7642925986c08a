//! `doctor`: what it says of a host made of files, of block lists asked in a network of its own, and its exit codes.

use crate::scene::{assert_has, json};
use smtp_tests::{Agent, Must, Netns, process, scratch, uid};
use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const RESOLVER: &str = "127.0.0.1:5353";

/// A resolver in a namespace that knows one list: its test entry and one address are on it.
struct BlockList {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl BlockList {
    #[track_caller]
    fn listing(ns: &Netns, reversed: &'static str) -> Self {
        let socket = ns.run(|| UdpSocket::bind(RESOLVER)).must("cannot bind a resolver's port");
        socket.set_read_timeout(Some(Duration::from_millis(50))).must("a timeout");
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let serve = move || {
            let mut buffer = [0; 512];
            while !told.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                let answer = answer(&buffer[..length], reversed);
                socket.send_to(&answer, client).must("cannot answer a query");
            }
        };
        Self { over, thread: Some(thread::spawn(serve)) }
    }
}

impl Drop for BlockList {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(thread::JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The answer to a query of one question (RFC 1035, 4.1): 127.0.0.4, or that there is no such name.
fn answer(query: &[u8], reversed: &str) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).into_owned());
        at = end;
    }
    let listed = [reversed, "2.0.0.127"].contains(&labels[..4].join(".").as_str());
    let mut answer = query[..at + 5].to_vec();
    answer[2..4].copy_from_slice(&[0x81, if listed { 0x80 } else { 0x83 }]);
    if listed {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 4]);
    }
    answer
}

/// A directory that is a host's root.
fn root() -> tempfile::TempDir {
    let root = scratch::dir();
    write(root.path(), "etc/passwd", "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n");
    root
}

#[track_caller]
fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().must("a parent")).must("cannot make a directory");
    fs::write(path, text).must("cannot write a file");
}

#[test]
fn a_host_with_nothing_to_do_exits_with_0_and_one_with_a_full_queue_with_1() {
    let agent = Agent::builder().stopped();
    agent.rewrite_config("mode = \"enforce\"");
    let root = root();
    let path = root.path().display().to_string();
    let fine = agent.cli(&["doctor", "--no-dnsbl", "--root", &path]).expect_ok("doctor");
    assert_has(&fine.stdout, &["ok       nobody    the policy refuses nobody everywhere", "0 warnings, 0 notes\n"]);
    assert!(!fine.stdout.contains('\x1b'), "colour in a file");

    for n in 0..4 {
        write(root.path(), &format!("var/spool/postfix/deferred/{n}/{n}ABC"), "");
    }
    let full = agent.cli(&["doctor", "--no-dnsbl", "--root", &path, "--queue-threshold", "4"]);
    assert_eq!(full.code, 1, "{full:?}");
    let lines = "warning  queue     4 messages wait in the queue of postfix; the threshold is 4\n\
                 \x20                  = deferred: 4\n";
    assert!(full.stdout.starts_with(lines), "the gravest first: {}", full.stdout);

    let said = agent.cli(&["doctor", "--no-dnsbl", "--root", &path, "--queue-threshold", "4", "--json"]);
    let said = json(&said);
    assert_eq!((&said["ok"], &said["warnings"]), (&false.into(), &1.into()));
    let first = &said["findings"][0];
    assert_eq!(
        (&first["level"], &first["subject"], &first["unseen"]),
        (&"warning".into(), &"queue".into(), &().into())
    );
}

#[test]
fn an_address_on_a_block_list_is_found_with_the_resolver_that_was_named() {
    let agent = Agent::builder().stopped();
    agent.rewrite_config("mode = \"enforce\"");
    let root = root();
    let ns = Netns::new();
    // Nothing leaves this namespace: the address is anybody's.
    ns.ip("addr add 9.8.7.6/32 dev lo\naddr add 9.8.7.5/32 dev lo");
    let doctor = |more: &[&str]| {
        let mut arguments = vec!["doctor", "--dnsbl", "list.example.org"];
        let path = root.path().display().to_string();
        arguments.extend(["--root", &path].iter().chain(more));
        let mut command = agent.command(&arguments);
        ns.enter(command.stdin(Stdio::null()));
        process::output(&mut command, Duration::from_secs(30))
    };
    let silent = doctor(&["--resolver", RESOLVER]);
    assert_eq!(silent.code, 69, "{silent:?}");
    assert_has(
        &silent.stdout,
        &["whether list.example.org lists this host is not known: no resolver answers (127.0.0.1:5353"],
    );

    let list = BlockList::listing(&ns, "6.7.8.9");
    let found = doctor(&["--resolver", RESOLVER]);
    assert_eq!(found.code, 1, "{found:?}");
    assert_has(
        &found.stdout,
        &[
            "warning  dnsbl     9.8.7.6 is on list.example.org",
            "= 6.7.8.9.list.example.org is 127.0.0.4",
            "ok       dnsbl     9.8.7.5 is not on list.example.org",
        ],
    );
    drop(list);
}

#[test]
fn who_may_not_look_is_told_what_was_not_seen() {
    let agent = Agent::builder().stopped();
    let root = root();
    write(root.path(), "var/spool/postfix/deferred/A/ABC", "");
    let deferred = root.path().join("var/spool/postfix/deferred");
    fs::set_permissions(&deferred, fs::Permissions::from_mode(0o700)).must("cannot close a directory");
    let path = root.path().display().to_string();
    let found = agent.cli_as(uid::SENDER, uid::SENDER, &["doctor", "--no-dnsbl", "--root", &path]);
    assert_eq!(found.code, 77, "{found:?}");
    assert_has(
        &found.stdout,
        &["note     queue     the queue of postfix cannot be read: deferred", "> run it as root"],
    );
    let arguments = ["doctor", "--no-dnsbl", "--root", &path, "--json"];
    let said = agent.cli_as(uid::SENDER, uid::SENDER, &arguments);
    assert_eq!((said.code, &json(&said)["ok"]), (77, &false.into()), "not seen is not fine");
}

#[test]
fn the_real_host_is_looked_over_without_an_agent_and_without_a_configuration() {
    let agent = Agent::builder().stopped();
    agent.rewrite_config_verbatim("broken");
    let found = agent.cli(&["doctor", "--no-dnsbl", "--json"]);
    assert!([0, 1].contains(&found.code), "{found:?}");
    let said = json(&found);
    let findings = said["findings"].as_array().must("a list of findings");
    for subject in ["nobody", "mta", "queue", "sendmail", "dnsbl", "others"] {
        assert!(findings.iter().any(|finding| finding["subject"] == subject), "{subject} is missing in {said:#}");
    }
    assert_eq!(said["warnings"] == 0, found.code == 0);
}

#[test]
fn wrong_arguments_are_named() {
    let agent = Agent::builder().stopped();
    for (arguments, said) in [
        (&["--dnsbl", "no zone"][..], "zen.spamhaus.org"),
        (&["--resolver", "resolver.example"], "192.0.2.53"),
        (&["--queue-threshold", "0"], "0"),
        (&["--no-dnsbl", "--resolver", "192.0.2.1"], "cannot be used with"),
        (&["--root", "/nonexistent"], "is no directory"),
    ] {
        let found = agent.cli(&[&["doctor"], arguments].concat());
        assert_eq!((found.code, found.stdout.as_str()), (2, ""), "{arguments:?}: {found:?}");
        assert_has(&found.stderr, &[said]);
    }
}

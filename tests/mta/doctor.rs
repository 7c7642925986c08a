//! `doctor` on the roots of real mail servers: it counts what they count, without asking them.

use smtp_tests::{
    Netns,
    mountns::MountNs,
    mta::{Exim, Letter, Postfix},
    process::{self, Output},
    tools, uid,
};
use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Nobody listens there, so everything stays in the queue.
fn nowhere() -> SocketAddr {
    ([127, 0, 0, 1], 9).into()
}

/// Looks at the root in whose `/usr/sbin` a program is. The namespace has no address that a list could have.
#[track_caller]
fn doctor(seen: (&MountNs, &Path), threshold: u32) -> Output {
    let (view, program) = seen;
    let root =
        program.ancestors().nth(3).map_or_else(|| panic!("{} is not in /usr/sbin", program.display()), Path::to_owned);
    let mut command = Command::new(tools::program("smtp-agent", "SMTP_AGENT_BIN"));
    command.args(["doctor", "--no-dnsbl", "--queue-threshold", &threshold.to_string()]);
    command.arg("--config").arg(root.join("no/config.toml")).arg("--root").arg(root).stdin(Stdio::null());
    view.enter(&mut command);
    process::output(&mut command, Duration::from_secs(30))
}

#[track_caller]
fn assert_said(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code, code, "{}{}", output.stdout, output.stderr);
    for part in parts {
        assert!(output.stdout.contains(part), "{part:?} is missing in\n{}", output.stdout);
    }
}

#[test]
fn the_queue_of_exim_is_counted_as_exim_counts_it() {
    for split in ["split_spool_directory = false", "split_spool_directory = true"] {
        let exim =
            Exim::sending_to(nowhere()).netns(&Netns::new()).main_option(split).user("shop", uid::SENDER).start();
        for n in 0..5 {
            exim.queue_up(uid::SENDER, None, &Letter::to(&[format!("u{n}@far.test")])).expect_ok("exim");
        }
        assert_eq!(exim.queue(), 5);
        let (view, program) = exim.program();
        let fine = doctor((view, &program), 6);
        // Just now: a time of another century would show here.
        assert_said(&fine, 0, &["5 messages wait in the queue of exim, the oldest for ", "input: 5"]);
        let age =
            fine.stdout.split("in the queue of exim, the oldest for ").nth(1).and_then(|rest| rest.split('\n').next());
        assert!(age.is_some_and(|age| age.ends_with('s') && !age.contains("day")), "{age:?}");
        assert_said(
            &fine,
            0,
            &["/usr/sbin/exim4 can be changed by root alone", "-> /usr/sbin/exim4", "exim is installed"],
        );
        assert_said(&doctor((view, &program), 5), 1, &["warning  queue", "the threshold is 5"]);
    }
}

#[test]
fn the_queues_of_postfix_are_counted_and_dated_as_postfix_does() {
    let postfix = Postfix::sending_to(nowhere()).netns(&Netns::new()).user("shop", uid::SENDER).start();
    for n in 0..4 {
        postfix.send(uid::SENDER, None, &Letter::to(&[format!("u{n}@far.test")])).expect_ok("sendmail");
    }
    smtp_tests::eventually(Duration::from_secs(30), "postfix has put them off", || postfix.deferred() == 4);
    let (view, program) = postfix.program();
    let found = doctor((view, &program), 4);
    assert_said(
        &found,
        1,
        &["4 messages wait in the queue of postfix, the oldest for ", "= deferred: 4", "postfix is installed"],
    );
    let age =
        found.stdout.split("in the queue of postfix, the oldest for ").nth(1).and_then(|rest| rest.split(';').next());
    assert!(age.is_some_and(|age| age.ends_with('s') && !age.contains("day")), "{age:?}");
    // The package has set its programs up as they should be.
    assert!(!found.stdout.contains("setgid postdrop"), "{}", found.stdout);
}

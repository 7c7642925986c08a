//! Queues of every kind, counted and dated.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::{
    super::queue::examine,
    super::{
        Gap,
        spool::{Age, Kind, Queue, exim_time, opening_at_most, postfix_time, sendmail_time},
    },
    *,
};

const NOW: u64 = 1_800_000_000;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Seconds in base 62, as Exim names its messages.
fn exim_id(mut seconds: u64) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = Vec::new();
    for _ in 0..6 {
        text.push(DIGITS[(seconds % 62) as usize]);
        seconds /= 62;
    }
    text.reverse();
    String::from_utf8(text).expect("ASCII")
}

/// The first records of a message as Postfix writes them.
fn postfix_file(seconds: u64) -> Vec<u8> {
    let mut file = Vec::new();
    let time = format!("{seconds} 123456");
    let size = format!("{:>15} {:>15}", 412, 570);
    for (kind, data) in [(b'C', size.as_bytes()), (b'T', time.as_bytes()), (b'A', b"create_time=1".as_slice())] {
        file.push(kind);
        file.push(data.len() as u8);
        file.extend_from_slice(data);
    }
    file
}

#[test]
fn the_queue_of_exim_is_counted_split_or_not_named_or_not() {
    let tree = Tree::new();
    tree.write(&format!("/var/spool/exim4/input/{}-000001-2x-H", exim_id(NOW - 7_300)), "");
    tree.write(&format!("/var/spool/exim4/input/{}-000001-2x-D", exim_id(NOW - 7_300)), "");
    tree.write(&format!("/var/spool/exim4/input/x/{}-000001-2x-H", exim_id(NOW - 60)), "");
    tree.write(&format!("/var/spool/exim4/slow/input/{}-00000000001-0001-H", exim_id(NOW - 3 * 86_400 - 5)), "");
    tree.write("/var/spool/exim4/db/retry", "");
    let found = examine(&tree.host(), 1000, now());
    let evidence = ["/var/spool/exim4/input: 2", "/var/spool/exim4/slow/input: 1"];
    assert_one(
        &found,
        Level::Ok,
        &["3 messages wait in the queue of exim, the oldest for 3days", evidence[0], evidence[1]],
    );
    let found = examine(&tree.host(), 3, now());
    assert_one(&found, Level::Warning, &["the threshold is 3", "exim -bp"]);
}

#[test]
fn a_spool_that_the_configuration_of_exim_names_is_found() {
    let tree = Tree::new();
    tree.write("/etc/exim.conf", "# spool_directory = /no\nspool_directory = /srv/spool\n");
    tree.write(&format!("/srv/spool/input/{}-000001-2x-H", exim_id(NOW)), "");
    assert_one(
        &examine(&tree.host(), 1000, now()),
        Level::Ok,
        &["1 message waits in the queue of exim", "/srv/spool/input: 1"],
    );
}

#[test]
fn the_queues_of_postfix_are_counted_and_dated_by_what_is_in_the_files() {
    let tree = Tree::new();
    tree.write("/etc/postfix/main.cf", "#queue_directory = /no\nqueue_directory = /srv/postfix\n");
    tree.write("/srv/postfix/active/4ABC", postfix_file(NOW - 30));
    tree.write("/srv/postfix/deferred/A/BCDEF", postfix_file(NOW - 5 * 3_600));
    tree.write("/srv/postfix/deferred/B/CDEFA", "not what Postfix writes");
    tree.write("/srv/postfix/defer/A/BCDEF", "a log, and no message");
    tree.directory("/srv/postfix/hold");
    let found = examine(&tree.host(), 3, now());
    let parts =
        ["3 messages wait in the queue of postfix, the oldest for 5h", "active: 1", "deferred: 2", "postqueue -p"];
    assert_one(&found, Level::Warning, &parts);
}

#[test]
fn other_mail_servers_have_queues_too() {
    let tree = Tree::new();
    tree.write("/var/spool/mqueue/qfABC", format!("V8\nT{}\nK0\n", NOW - 90));
    tree.write("/var/spool/mqueue/dfABC", "");
    tree.write("/var/qmail/queue/mess/7/1234", "");
    tree.write("/var/spool/smtpd/queue/1a/1a2b3c4d/message", "");
    tree.write("/var/spool/smtpd/queue/1a/1a2b3c4d/1a2b3c4d00000001", "");
    let found = examine(&tree.host(), 1000, now());
    assert_one(&found, Level::Ok, &["1 message waits in the queue of sendmail, the oldest for 1m"]);
    assert_one(&found, Level::Ok, &["1 message waits in the queue of qmail"]);
    assert_one(&found, Level::Ok, &["1 message waits in the queue of opensmtpd"]);
    assert_one(&examine(&Tree::new().host(), 1, now()), Level::Ok, &["no mail queue was found"]);
}

#[test]
fn a_queue_that_cannot_be_read_is_not_called_empty() {
    let tree = Tree::new();
    tree.write("/var/spool/postfix/active/4ABC", postfix_file(NOW - 30));
    tree.write("/var/spool/postfix/deferred", "no directory");
    let found = examine(&tree.host(), 1000, now());
    let told = ["the queue of postfix cannot be counted: deferred: Not a directory", "active: 1"];
    assert_one(&found, Level::Note, &told);
    assert_eq!((found.len(), found[0].unseen), (1, Some(Gap::Broken)), "{found:#?}");
}

#[test]
fn an_oldest_of_a_part_is_told_as_that() {
    let tree = Tree::new();
    for n in 0..5 {
        tree.write(&format!("/var/spool/postfix/deferred/{n}ABC"), postfix_file(NOW - 60));
    }
    let path = tree.path("/var/spool/postfix/deferred");
    let queue = Queue { path, depth: 1, kind: Kind::Any, age: Age::PostfixRecord };
    let counted = opening_at_most(3, &queue).expect("counted");
    assert_eq!((counted.messages, counted.undated), (5, 2));
    let waits = |counted| super::super::queue::waits(&counted, now());
    assert_eq!(waits(counted), ", the oldest of the 3 looked at for 1m");
    assert_eq!(waits(opening_at_most(5, &queue).expect("counted")), ", the oldest for 1m");
}

#[test]
fn links_in_a_queue_are_not_followed_and_circles_end() {
    let tree = Tree::new();
    tree.directory("/var/spool/postfix/maildrop");
    tree.write("/srv/elsewhere/one", "");
    tree.link("/srv/elsewhere", "/var/spool/postfix/maildrop/away");
    tree.link(".", "/var/spool/postfix/maildrop/circle");
    tree.link("/dev/zero", "/var/spool/postfix/maildrop/device");
    assert_one(&examine(&tree.host(), 1, now()), Level::Ok, &["0 messages wait in the queue of postfix"]);
}

#[test]
fn times_are_read_from_names_and_heads_and_nonsense_gives_none() {
    let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
    assert_eq!(exim_time("1tABCD-000abc-2x-H").map(|time| time > UNIX_EPOCH), Some(true));
    assert_eq!(exim_time(&format!("{}-x-H", exim_id(NOW))), at(NOW));
    for name in ["", "-H", "1tABC-x", "1tAB!D-x-H", "zzzzzz-x-H", "000000-x-H"] {
        assert_eq!(exim_time(name), None, "{name}");
    }
    assert_eq!(postfix_time(&postfix_file(NOW)), at(NOW));
    // A record longer than 127 octets before it.
    let mut long = vec![b'A', 0x80 | 0x48, 0x01];
    long.extend([b'x'; 200]);
    long.extend(postfix_file(NOW));
    assert_eq!(postfix_time(&long), at(NOW));
    assert_eq!(postfix_time(b"T\x05 99  "), None);
    assert_eq!(postfix_time(b"T\xff\xff\xff\xff\xff\x0f1"), None);
    assert_eq!(sendmail_time(b"V8\nT1800000000\n"), at(NOW));
    assert_eq!(sendmail_time(b"V8\nK1\n"), None);
}

proptest! {
    #[test]
    fn any_head_and_any_name_is_read(bytes: Vec<u8>, name in "\\PC{0,40}") {
        let _ = (postfix_time(&bytes), sendmail_time(&bytes), exim_time(&name));
    }

    #[test]
    fn every_time_of_exim_comes_back(seconds in 1_000_000_000u64..9_000_000_000) {
        let time = exim_time(&format!("{}-000001-2x-H", exim_id(seconds)));
        prop_assert_eq!(time, Some(UNIX_EPOCH + Duration::from_secs(seconds)));
    }
}

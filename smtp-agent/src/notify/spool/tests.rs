//! Messages that wait: over restarts, failures, full directories and hostile files.

use super::*;
use crate::{
    attribution::Culprit,
    notify::{Kind, Notice},
};
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

fn message(account: &str) -> Message {
    let notices = vec![Notice::new(Kind::HardLimit, account, 5)];
    Message { id: "1-2".into(), host: "h".into(), time: 5, notices, repeated: 0, over_rate: 0, left_out: 0 }
}

fn open(state: &Path) -> Spool {
    let (spool, said) = Spool::open(state);
    assert_eq!(said, Vec::<String>::new());
    spool
}

fn push(spool: &mut Spool, sink: &str, account: &str, now: Seconds) {
    let (dropped, written) = spool.push(sink.into(), message(account), now, now);
    written.unwrap();
    assert_eq!(dropped, 0);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn due(spool: &Spool, now: Seconds) -> Vec<(String, String)> {
    let account = |pending: &Pending| pending.message.notices[0].account.clone();
    spool.due(now, |_| false).into_iter().map(|(_, pending)| (pending.sink.clone(), account(&pending))).collect()
}

#[test]
fn what_waits_survives_a_restart_and_goes_when_it_was_taken() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = open(state.path());
    push(&mut spool, "ops", "first", 100);
    push(&mut spool, "ops", "second", 100);
    push(&mut spool, "chat", "third", 101);
    let dir = state.path().join(DIR);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for name in names(&dir) {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let mut spool = open(state.path());
    let in_turn = [("ops".to_owned(), "first".to_owned()), ("chat".to_owned(), "third".to_owned())];
    assert_eq!(due(&spool, 101), in_turn, "one of each sink");
    assert!(spool.due(101, |sink| sink == "ops").iter().all(|(_, pending)| pending.sink == "chat"));
    let (first, _) = spool.due(101, |_| false).remove(0);
    spool.delivered(&first);
    assert_eq!(due(&spool, 101)[0].1, "second");
    assert_eq!(open(state.path()).pending, spool.pending);
    assert_eq!(spool.retain(|sink| sink == "chat"), 1);
    assert_eq!(names(&dir).len(), 1);
}

#[test]
fn it_is_tried_ever_more_seldom_and_given_up_after_a_day() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = open(state.path());
    push(&mut spool, "ops", "shop", 0);
    let (name, _) = spool.due(0, |_| false).remove(0);
    let (mut now, mut waits) = (0, Vec::new());
    while spool.failed(&name, now).unwrap() == Failed::Again {
        assert!(spool.due(now, |_| false).is_empty());
        let next = spool.due_at(now, |_| false).unwrap();
        waits.push(next - now);
        now = next;
        assert_eq!(open(state.path()).pending, spool.pending, "as it is on the disk");
    }
    assert_eq!(waits[..9], [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    assert!((GIVE_UP..GIVE_UP + LONGEST_WAIT).contains(&now), "{now}");
    assert_eq!(names(&state.path().join(DIR)), Vec::<String>::new());
    assert_eq!(spool.failed(&name, now), None, "it is gone");
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = open(state.path());
    push(&mut spool, "ops", "shop", 1_000_000);
    let (name, _) = spool.due(1_000_000, |_| false).remove(0);
    spool.failed(&name, 1_000_000);
    assert_eq!(spool.due_at(50_000, |_| false), Some(50_000));
    spool.failed(&name, 50_000);
    assert_eq!(spool.failed(&name, 50_000 + GIVE_UP), Some(Failed::GivenUp), "a day by the new time");
}

#[test]
fn what_is_no_message_is_moved_aside_and_the_others_go_on() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = open(state.path());
    push(&mut spool, "ops", "shop", 7);
    let dir = state.path().join(DIR);
    let good = fs::read_to_string(dir.join(&names(&dir)[0])).unwrap();
    fs::write(dir.join("1.json"), "").unwrap();
    fs::write(dir.join("2.json"), &good[..good.len() - 1]).unwrap();
    fs::write(dir.join("3.json"), good.replace("\"version\":1", "\"version\":2")).unwrap();
    fs::write(dir.join("4.json"), vec![b' '; LARGEST + 1]).unwrap();
    fs::write(dir.join("5.json.new"), "half").unwrap();
    fs::create_dir(dir.join("6.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("7.json")).unwrap();
    nix::unistd::mkfifo(&dir.join("8.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(dir.join("9.json"), good.replace("hard_limit", "hardest")).unwrap();
    fs::write(dir.join("README"), "not ours").unwrap();
    let (spool, said) = Spool::open(state.path());
    assert_eq!(due(&spool, 7), [("ops".to_owned(), "shop".to_owned())]);
    assert_eq!(said.len(), 8, "{said:#?}");
    assert!(said.iter().any(|line| line.contains("3.json holds no notice: it is of version 2")), "{said:#?}");
    let left = names(&dir);
    assert_eq!(left.iter().filter(|name| name.ends_with(ASIDE)).count(), 8, "{left:?}");
    assert_eq!((left.len(), left.contains(&"README".to_owned())), (10, true), "{left:?}");
    assert!(open(state.path()).pending.len() == 1, "they are not met again");
}

#[test]
fn files_aside_do_not_grow_without_end() {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join(DIR);
    fs::create_dir(&dir).unwrap();
    (0..50).for_each(|n| fs::write(dir.join(format!("{n}.json{ASIDE}")), "x").unwrap());
    open(state.path());
    assert_eq!(names(&dir).len(), MOST_ASIDE);
}

#[test]
fn a_sink_that_takes_nothing_fills_its_own_room_only() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = open(state.path());
    push(&mut spool, "ops", "mine", 0);
    for n in 0..MOST_OF_ONE as u64 {
        push(&mut spool, "dead", &n.to_string(), n);
    }
    let (dropped, written) = spool.push("dead".into(), message("last"), 1000, 1000);
    written.unwrap();
    assert_eq!((dropped, spool.len_of("dead"), spool.len_of("ops")), (1, MOST_OF_ONE, 1));
    assert_eq!(due(&spool, 2000)[1], ("dead".to_owned(), "1".to_owned()), "the oldest went");
}

#[test]
fn a_disk_that_takes_nothing_leaves_the_message_in_memory() {
    let state = tempfile::tempdir().unwrap();
    fs::write(state.path().join(DIR), "a file where the directory should be").unwrap();
    let (mut spool, said) = Spool::open(state.path());
    assert_eq!(said.len(), 1);
    let (_, written) = spool.push("ops".into(), message("shop"), 0, 0);
    assert!(written.is_err());
    assert_eq!(due(&spool, 0).len(), 1);
}

#[test]
fn what_is_too_large_loses_the_largest_command_lines_and_nothing_else() {
    let culprit = |command: usize, exe: usize| Culprit {
        exe: Some("e".repeat(exe)),
        cwd: Some("/home".into()),
        command: Some(vec!["x".repeat(command)]),
        started_as: Some(vec!["php".into()]),
        ..Culprit::default()
    };
    let notice = |account: &str, culprit| Notice { culprit: Some(culprit), ..Notice::new(Kind::HardLimit, account, 5) };
    let kept = |notices: Vec<Notice>| {
        let state = tempfile::tempdir().unwrap();
        let mut spool = open(state.path());
        spool.push("ops".into(), Message { notices, ..message("") }, 0, 0).1.unwrap();
        let read_back = open(state.path());
        assert_eq!(read_back.pending, spool.pending);
        read_back.pending.into_values().next().unwrap().message.notices
    };
    let large = notice("bad", culprit(LARGEST, 20));
    let others = [notice("shop", culprit(1000, 20)), notice("blog", culprit(100_000, 20))];
    let short = Culprit { command: None, started_as: None, ..culprit(0, 20) };
    let all = kept([&others[..], &[large]].concat());
    assert_eq!((all[0].clone(), all[1].clone()), (others[0].clone(), others[1].clone()));
    assert_eq!(all[2].culprit, Some(short), "the program and the directory are still there");
    // One that made even its program long.
    let all = kept(vec![others[0].clone(), notice("bad", culprit(5, LARGEST))]);
    assert_eq!((&all[0], &all[1].culprit), (&others[0], &None));
}

#[test]
fn what_still_waits_for_others_is_delivered_by_the_next_agent_alone() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = open(state.path());
    spool.draft("ops", Some((message("a"), 30)), 0).unwrap();
    spool.draft("chat", Some((message("b"), 40)), 0).unwrap();
    spool.draft("ops", Some((message("c"), 30)), 1).unwrap();
    assert_eq!((due(&spool, 50), names(&state.path().join(DIR)).len()), (Vec::new(), 2));
    // Killed here.
    let after = open(state.path());
    assert_eq!(due(&after, 29), []);
    let of = |sink: &str, account: &str| (sink.to_owned(), account.to_owned());
    assert_eq!(due(&after, 40), [of("ops", "c"), of("chat", "b")]);
    // Or not: the message is in the place of its draft, and goes out when it may.
    assert_eq!(spool.push("ops".into(), message("d"), 30, 35).0, 0);
    spool.draft("chat", None, 30).unwrap();
    assert_eq!((due(&spool, 34), due(&spool, 35)), (Vec::new(), vec![of("ops", "d")]));
    assert_eq!(names(&state.path().join(DIR)).len(), 1);
    spool.draft("chat", Some((message("e"), 90)), 60).unwrap();
    assert_eq!(spool.retain(|sink| sink == "ops"), 1);
    assert_eq!(names(&state.path().join(DIR)).len(), 1);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(text: Vec<u8>, at in 0_usize..400, byte: u8) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        fs::write(&path, &text).unwrap();
        let _ = load(&path);
        let mut near = serde_json::to_vec(&Pending::new("ops".into(), message("shop"), 5)).unwrap();
        let at = at % near.len();
        near[at] = byte;
        fs::write(&path, near).unwrap();
        let _ = load(&path).map(|mut pending| pending.postpone(7));
    }
}

//! The desk with real sinks: programs that write down what they are given, and such that fail.

use super::*;
use crate::{config, notify::HOST};
use std::fs;

const SOON: Duration = Duration::from_secs(10);

fn notify(text: &str) -> Notify {
    config::parse_str("test", text).unwrap_or_else(|problems| panic!("{problems}")).config.notify
}

/// A sink that adds what it is given to a file.
fn writer(name: &str, path: &Path) -> String {
    let script = format!("cat >> {0}; echo >> {0}", path.display());
    format!("[[notify.command]]\nname = '{name}'\nargv = ['/bin/sh', '-c', '{script}']\n")
}

fn open(text: &str, state: &Path) -> Desk {
    Desk::open(&notify(text), state, "host.test".into()).unwrap()
}

#[track_caller]
fn eventually<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + SOON;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < end, "did not happen: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The messages that were written to a file.
fn messages(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn wait_for(path: &Path, count: usize) -> Vec<serde_json::Value> {
    // A line may be half written.
    eventually(&format!("{count} messages"), || {
        let text = fs::read_to_string(path).unwrap_or_default();
        (text.matches("}\n").count() >= count).then(|| messages(path))
    })
}

fn limit(account: &str) -> Notice {
    Notice::new(Kind::HardLimit, account, now())
}

fn count(desk: &Desk, result: &str) -> u64 {
    desk.totals().all().find(|(way, of, _)| *way == "command" && *of == result).unwrap().2
}

fn waiting(state: &Path) -> usize {
    let Ok(entries) = fs::read_dir(state.join("notify")) else { return 0 };
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "json")).count()
}

const AT_ONCE: &str = "[notify]\ngroup_wait = '0s'\n";

#[test]
fn a_notice_reaches_its_sink_and_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let desk = open(&format!("{AT_ONCE}{}", writer("a", &out)), dir.path());
    assert!(desk.wants(Kind::HardLimit));
    desk.tell(limit("shop"));
    let told = wait_for(&out, 1);
    assert_eq!((&told[0]["notices"][0]["account"], &told[0]["host"]), (&"shop".into(), &"host.test".into()));
    assert_eq!(told[0]["subject"], "[smtp-agent] host.test: shop was refused at a limit (of its plan)");
    eventually("the file goes", || (waiting(dir.path()) == 0 && count(&desk, "sent") == 1).then_some(()));
    desk.tell(limit("shop"));
    eventually("it is withheld", || (count(&desk, "withheld") == 1).then_some(()));
    desk.stop();
    // The next agent knows what was told.
    let desk = open(&format!("{AT_ONCE}{}", writer("a", &out)), dir.path());
    desk.tell(limit("shop"));
    desk.tell(limit("blog"));
    assert_eq!(wait_for(&out, 2)[1]["notices"][0]["account"], "blog");
    assert_eq!(count(&desk, "withheld"), 1);
}

#[test]
fn what_waits_for_others_is_on_the_disk_when_it_ends_and_told_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = format!("[notify]\ngroup_wait = '1h'\n{}", writer("a", &out));
    let desk = open(&text, dir.path());
    ["a", "b", "c"].iter().for_each(|account| desk.tell(limit(account)));
    let began = Instant::now();
    desk.stop();
    assert!(began.elapsed() < END);
    assert_eq!(waiting(dir.path()), 1, "one message of all three");
    let _desk = open(&text, dir.path());
    assert_eq!(wait_for(&out, 1)[0]["notices"].as_array().unwrap().len(), 3);
}

/// The state directory as an agent that is killed now would leave it.
fn as_killed(state: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("notify")).unwrap();
    for entry in fs::read_dir(state.join("notify")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join("notify").join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn what_waits_for_others_outlives_an_agent_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = format!("[notify]\ngroup_wait = '2s'\n{}", writer("a", &out));
    // This one is never told that it ends, and writes elsewhere.
    let desk = open(&text.replace("out", "other"), dir.path());
    desk.tell(limit("one"));
    desk.tell(limit("two"));
    assert!(desk.settle());
    let killed = as_killed(dir.path());
    let _next = open(&text, killed.path());
    let told = wait_for(&out, 1);
    assert_eq!(told[0]["notices"].as_array().unwrap().len(), 2, "{told:?}");
    assert_eq!(told[0]["id"], wait_for(&dir.path().join("other"), 1)[0]["id"], "it is the same message");
}

#[test]
fn what_was_told_of_the_host_s_budgets_is_known_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open("", dir.path());
    assert_eq!(desk.shares(), &Shares::new());
    let shares = Shares::from([("connection day".to_owned(), 80)]);
    desk.keep_shares(&shares);
    assert!(desk.settle());
    // No need to end well.
    assert_eq!(open("", dir.path()).shares(), &shares);
}

#[test]
fn what_an_hour_has_no_room_for_is_kept_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = format!("[notify]\ngroup_wait = '0s'\nmax_per_hour = 1\n{}", writer("a", &out));
    let desk = open(&text, dir.path());
    desk.tell(limit("one"));
    wait_for(&out, 1);
    eventually("the file goes", || (waiting(dir.path()) == 0).then_some(()));
    ["two", "three"].iter().for_each(|account| desk.tell(limit(account)));
    assert!(desk.settle() && desk.stop());
    assert_eq!((messages(&out).len(), waiting(dir.path()), count(&desk, "withheld")), (1, 1, 0));
    let file = fs::read_dir(dir.path().join("notify")).unwrap().next().unwrap().unwrap().path();
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(kept["message"]["notices"].as_array().unwrap().len(), 2);
    let next = kept["next"].as_u64().unwrap();
    assert!((now() + 3500..=now() + 3600).contains(&next), "in an hour");
}

#[test]
fn a_sink_that_hangs_holds_up_neither_another_nor_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let hangs = "[[notify.command]]\nname = 'slow'\nargv = ['/bin/sleep', '30']\ntimeout = '5s'\n";
    let desk = open(&format!("{AT_ONCE}{hangs}{}", writer("a", &out)), dir.path());
    desk.tell(limit("one"));
    desk.tell(limit("two"));
    let told: usize = eventually("both are told", || {
        let told = messages(&out).iter().map(|message| message["notices"].as_array().unwrap().len()).sum();
        (told == 2).then_some(told)
    });
    assert_eq!(told, 2);
    let began = Instant::now();
    desk.stop();
    assert!(began.elapsed() < END);
    assert!(waiting(dir.path()) >= 1, "what the slow one has not taken is kept");
}

#[test]
fn what_was_not_taken_is_tried_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let fails = "[[notify.command]]\nname = 'a'\nargv = ['/bin/false']\n";
    let desk = open(&format!("{AT_ONCE}{fails}"), dir.path());
    desk.tell(limit("shop"));
    eventually("it fails", || (count(&desk, "failed") == 1).then_some(()));
    desk.stop();
    assert_eq!(waiting(dir.path()), 1);
    // Half a minute later, as the file has it.
    let file = fs::read_dir(dir.path().join("notify")).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&file).unwrap();
    let next = text.find("\"next\":").unwrap() + 7;
    let end = next + text[next..].find(',').unwrap();
    assert!(text[next..end].parse::<u64>().unwrap() >= now() + 20, "{text}");
    fs::write(&file, format!("{}{}{}", &text[..next], now(), &text[end..])).unwrap();
    let desk = open(&format!("{AT_ONCE}{}", writer("a", &out)), dir.path());
    let told = wait_for(&out, 1);
    assert_eq!(told[0]["notices"][0]["account"], "shop");
    eventually("it is taken", || (count(&desk, "sent") == 1).then_some(()));
}

#[test]
fn a_reload_changes_who_is_told_and_drops_what_is_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let fails = "[[notify.command]]\nname = 'dead'\nargv = ['/bin/false']\n";
    let desk = open(&format!("{AT_ONCE}{fails}"), dir.path());
    desk.tell(limit("shop"));
    eventually("it fails", || (count(&desk, "failed") == 1).then_some(()));
    desk.change(&notify(&format!("[notify]\ngroup_wait = '0s'\non = ['brake']\n{}", writer("new", &out))));
    eventually("it is dropped", || (count(&desk, "dropped") == 1 && waiting(dir.path()) == 0).then_some(()));
    assert!(!desk.wants(Kind::HardLimit) && desk.wants(Kind::Brake));
    desk.tell(limit("blog"));
    desk.tell(Notice::new(Kind::Brake, "forum", now()));
    let told = wait_for(&out, 1);
    assert_eq!((told.len(), &told[0]["notices"][0]["account"]), (1, &"forum".into()));
    desk.change(&notify(""));
    assert_eq!(Kind::ALL.map(|kind| desk.wants(kind)), [false; 9]);
}

#[test]
fn a_state_directory_that_cannot_be_written_stops_no_notice() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let state = dir.path().join("file");
    fs::write(&state, "not a directory").unwrap();
    let desk = open(&format!("{AT_ONCE}{}", writer("a", &out)), &state);
    desk.tell(limit("shop"));
    assert_eq!(wait_for(&out, 1)[0]["notices"][0]["account"], "shop");
    desk.stop();
}

#[test]
fn a_flood_is_taken_without_waiting_and_what_finds_no_room_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let desk = open("[[notify.command]]\nargv = ['/bin/true']\n", dir.path());
    let began = Instant::now();
    (0..20_000).for_each(|n| desk.tell(limit(&n.to_string())));
    assert!(began.elapsed() < Duration::from_secs(2));
    desk.stop();
    let [told, withheld, dropped] = ["sent", "withheld", "dropped"].map(|result| count(&desk, result));
    let lost = desk.totals().overflow.load(Ordering::Relaxed);
    assert!(told <= 1 && withheld + dropped + lost + 100 >= 20_000, "{told} {withheld} {dropped} {lost}");
}

#[test]
fn a_test_tells_each_sink_at_once_and_what_went_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let text = format!(
        "{}[[notify.command]]\nname = 'bad'\nargv = ['/bin/sh', '-c', 'echo no >&2; exit 3']\n\
         [[notify.webhook]]\nurl = 'http://127.0.0.1:1/x'\n",
        writer("good", &out)
    );
    let outcomes = crate::notify::test(&notify(&text), "host.test", None);
    let errors: Vec<_> =
        outcomes.iter().map(|one| (one.sink.as_str(), one.error.clone().unwrap_or_default())).collect();
    let [(a, fine), (b, bad), (c, web)] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((*a, *b, *c), ("webhook", "good", "bad"));
    assert!(fine.contains("http://127.0.0.1:1: "), "{fine}");
    assert_eq!((bad.as_str(), web.as_str()), ("", "/bin/sh: exit status: 3: no"));
    let told = messages(&out);
    assert_eq!((&told[0]["notices"][0]["kind"], &told[0]["notices"][0]["account"]), (&"test".into(), &HOST.into()));
    let only = |name| crate::notify::test(&notify(&text), "h", Some(name)).len();
    assert_eq!((only("good"), only("command"), only("nobody")), (1, 2, 0));
}

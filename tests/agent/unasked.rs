//! Policies that come in force without anybody asking: by the clock, and by files that change.

use crate::scene::{SOON, assert_logged, json};
use smtp_tests::{Must, World, eventually, process, uid};
use std::{fs, process::Command, time::Duration};

/// Longest wait for the next minute, and a busy machine.
const A_MINUTE: Duration = Duration::from_secs(90);

/// The local time in so many minutes, as date(1) writes it in a format.
fn in_minutes(minutes: u32, format: &str) -> String {
    let mut date = Command::new("date");
    date.args(["-d", &format!("+{minutes} minutes"), &format!("+{format}")]);
    process::output(&mut date, SOON).expect_ok("date").stdout.trim().to_owned()
}

#[test]
fn a_schedule_begins_with_its_minute_and_says_so() {
    // Not so late in a minute that the agent starts in the next.
    let ahead = if in_minutes(0, "%S").parse::<u32>().must("seconds") < 45 { 1 } else { 2 };
    let (from, to) = (in_minutes(ahead, "%H:%M"), in_minutes(ahead + 600, "%H:%M"));
    let world = World::with(&format!(
        "[[plan.standard.schedule]]\nhours = '{from}-{to}'\nper_hour = 0\n\
         [[plan.standard.schedule]]\ndays = ['mon-sun']\nper_hour = 1000000\n"
    ));
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1, "it has not begun");
    let refused = || world.dial().uid(uid::SENDER).run().eperm() == 1;
    eventually(A_MINUTE, "the schedule holds", refused);
    assert!(in_minutes(0, "%H:%M") >= from || in_minutes(0, "%H") == "00", "it holds too early");
    assert_eq!(world.dial().uid(uid::EXEMPT).run().ok(), 1);
    assert_logged(&world.agent, &["a new policy is in force", "cause=Time"]);
    let explained = json(&world.agent.cli(&["explain", "--user", "61001", "--json"]));
    assert_eq!(explained["plan"], "standard", "{explained}");
    assert_eq!(explained["limits"][0]["limit"], 0, "{explained}");
    let used = explained["limits"][0]["used"].as_u64();
    assert!(used.is_some_and(|used| used > 0), "what was used before counts: {explained}");
}

fn conf_d(world: &World) -> std::path::PathBuf {
    world.agent.config_path().parent().must("a directory").join("conf.d")
}

#[test]
fn files_that_change_are_loaded_by_themselves_where_that_is_wanted() {
    let world = World::with("watch = true\n");
    let ok = || world.dial().uid(uid::SENDER).run().ok() == 1;
    let refused = || world.dial().uid(uid::SENDER).run().eperm() == 1;
    assert!(ok());
    let directory = conf_d(&world);
    fs::create_dir_all(&directory).must("conf.d");
    let file = directory.join("sender.toml");
    fs::write(&file, "[[rule]]\nuser = '61001'\nplan = 'deny'\n").must("a file");
    eventually(SOON, "a new file is loaded", refused);

    let success = || world.metrics().find("smtp_agent_config_reload_success", &[]);
    fs::write(&file, "[[rule]]\nuser = '61001'\nplan = 'denied'\n").must("a file");
    eventually(SOON, "a broken file is noticed", || success() == Some(0.0));
    assert!(refused(), "the policy before stays");
    let audit = || fs::read_to_string(world.agent.state_dir().join("audit.log")).unwrap_or_default();
    eventually(SOON, "it is in the audit log", || {
        audit().contains("\"user\":\"changed files\"") && audit().contains("\"outcome\":\"failed\"")
    });
    let errors = || world.agent.stderr_so_far().matches("was not reloaded").count();
    let so_far = errors();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(errors(), so_far, "it is not tried again as long as nothing changes");

    fs::remove_file(&file).must("the file goes");
    eventually(SOON, "a file that has gone is noticed", ok);
    assert_eq!(success(), Some(1.0));
    world.agent.rewrite_config("watch = false\n[deny]\nusers = ['61001']\n");
    eventually(SOON, "the main file is watched, too", refused);
    world.agent.rewrite_config("watch = true\n");
    std::thread::sleep(Duration::from_secs(3));
    assert!(refused(), "nobody watches any more");
    world.agent.cli(&["reload"]).expect_ok("reload");
    eventually(SOON, "asked for, it is loaded", ok);
}

#[test]
fn ten_thousand_overrides_in_files_of_their_own_are_one_policy() {
    let world = World::with("");
    let directory = conf_d(&world);
    fs::create_dir_all(&directory).must("conf.d");
    for n in 0..10_000_u32 {
        let rule = format!("[[rule]]\nuser = {}\nper_hour = {}\n", 70_000 + n, n % 50 + 1);
        fs::write(directory.join(format!("account-{n:05}.toml")), rule).must("a file");
    }
    // A later file has the last word, and says whose place it takes.
    fs::write(directory.join("z.toml"), "[[rule]]\nuser = 79999\nper_hour = 3\n").must("a file");
    world.agent.cli(&["reload"]).expect_ok("reload");
    let limit =
        |user: &str| json(&world.agent.cli(&["explain", "--user", user, "--json"]))["limits"][0]["limit"].clone();
    assert_eq!([limit("70000"), limit("70049"), limit("79999")], [1, 50, 3]);
    let met = world.dial().uid(79_999).count(10).run();
    assert_eq!((met.ok(), met.ok() + met.eperm() + met.econnrefused()), (3, 10));
    assert_eq!(world.dial().uid(80_000).count(10).run().ok(), 10, "who is in no file has the default");
    fs::remove_dir_all(&directory).must("conf.d goes");
}

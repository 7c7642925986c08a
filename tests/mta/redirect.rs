//! The overflow of a user reaches a real local MTA, which queues it.

use smtp_tests::{
    Etc, Home, World, eventually,
    mta::{Exim, Letter, Postfix, Swaks},
    uid,
};
use std::time::Duration;

const MTA: &str = "the-mta";
const SOON: Duration = Duration::from_secs(20);

/// What a user may send elsewhere, and how much more goes to the local MTA.
fn plan(user: &str, limit: u32, percent: u32) -> String {
    format!(
        "[[rule]]\nuser = \"{user}\"\nplan = \"over\"\n[plan.over]\nper_hour = {limit}\nsoft_percent = {percent}\n\
         on_soft = \"redirect\"\n"
    )
}

/// A world whose agent knows the user an MTA connects as.
fn world_for(mta: u32, toml: &str) -> (World, Etc) {
    let etc = Etc::with_users(&[(MTA, mta, mta)]);
    (World::built(toml, |builder| builder.etc(&etc)), etc)
}

/// Who got mail at the sink.
#[track_caller]
fn arrived(world: &World) -> Vec<String> {
    let mut to: Vec<_> = world.sink.messages().iter().map(|message| message.to.join(",")).collect();
    to.sort();
    to
}

/// Six letters from a user's own program to a smarthost elsewhere. The last is refused, and its sender knows.
#[track_caller]
fn six_letters(world: &World) -> Vec<String> {
    let swaks = Swaks::sending_to(world.sink_address());
    let send = |n: u32| {
        let to = format!("u{n}@far.test");
        let output = swaks.send(uid::SENDER, Some(world.cgroup()), &Letter::to(&[&to]), &[]);
        assert_eq!(output.code == 0, n < 5, "{}", output.stdout);
        assert!(n == 5 || output.stdout.contains(&world.sink_address().ip().to_string()), "{}", output.stdout);
        to
    };
    let to: Vec<_> = (0..6).map(send).collect();
    to[..5].to_vec()
}

#[test]
fn exim_takes_the_overflow_of_a_users_script_into_its_queue() {
    let nowhere = ([127, 0, 0, 1], 25).into();
    let mta = Exim::sending_to(nowhere).start().uid();
    let (world, _etc) =
        world_for(mta, &format!("[allow]\nusers = [\"{MTA}\"]\n{}", plan(&uid::SENDER.to_string(), 2, 250)));
    let _home = Home::take();
    let exim = Exim::sending_to(world.sink_address()).listening(Home::V4).main_option("queue_only").start();
    let sent = six_letters(&world);
    assert_eq!(exim.queue(), 3, "{}", exim.mainlog());
    let mailq = exim.mailq();
    assert!(sent[2..].iter().all(|to| mailq.contains(to.as_str())), "{mailq}");
    assert_eq!(arrived(&world), sent[..2]);
    let verdicts = ["allowed", "redirected", "refused"].map(|verdict| world.counted_uid(uid::SENDER, verdict));
    assert_eq!(verdicts, [2, 3, 1]);
    exim.run_queue(Some(world.cgroup())).expect_ok("exim -qff");
    assert_eq!((arrived(&world), exim.queue()), (sent, 0), "each once\n{}", exim.mainlog());
    let theirs = world.agent.tally_after(uid::SENDER, 5);
    assert_eq!(theirs.messages.accepted, 5, "the user's, by both ways");
    assert!(world.counted(MTA, "exempt") > 0);
}

#[test]
fn postfix_takes_the_overflow_of_a_users_script_and_delivers_it() {
    let mta = Postfix::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let (world, _etc) =
        world_for(mta, &format!("[allow]\nusers = [\"{MTA}\"]\n{}", plan(&uid::SENDER.to_string(), 2, 250)));
    let _home = Home::take();
    let postfix = Postfix::sending_to(world.sink_address()).listening(Home::V4).start_in(Some(world.cgroup()));
    let sent = six_letters(&world);
    eventually(SOON, "postfix has delivered them", || world.sink.messages().len() >= 5);
    postfix.wait_until_tried();
    assert_eq!(arrived(&world), sent, "{}", postfix.log());
    assert_eq!(world.agent.tally_after(uid::SENDER, 5).messages.accepted, 5);
}

/// A local MTA that is limited itself is led to itself, in a circle: as often as the band has room, and then its mail waits.
/// With more room than Exim takes for a circle (`received_headers_max`, 30) the mail would come back to its sender.
#[test]
fn exim_that_is_led_to_itself_goes_round_until_the_band_is_used_up_and_keeps_the_mail() {
    let mta = Exim::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let (world, _etc) = world_for(mta, &format!("[allow]\nusers = []\n{}", plan(MTA, 1, 900)));
    let _home = Home::take();
    let exim = Exim::sending_to(world.sink_address()).listening(Home::V4).start_in(Some(world.cgroup()));
    for n in 0..2 {
        exim.send(uid::SENDER, Some(world.cgroup()), "shop@client.test", &format!("u{n}@far.test"), "hello");
    }
    eventually(SOON, "the band is used up", || world.counted(MTA, "refused") > 0);
    assert_eq!(world.counted(MTA, "redirected"), 8);
    assert_eq!((arrived(&world), exim.queue()), (vec!["u0@far.test".to_owned()], 1), "{}", exim.mainlog());
    world.reload(&format!("[allow]\nusers = [\"{MTA}\"]"));
    exim.run_queue(Some(world.cgroup())).expect_ok("exim -qff");
    assert_eq!((arrived(&world), exim.queue()), (vec!["u0@far.test".to_owned(), "u1@far.test".into()], 0));
}

/// Postfix knows itself by its greeting and gives up at once: this is what the warning in `check` is for.
#[test]
fn postfix_that_is_led_to_itself_returns_the_mail_to_its_sender() {
    let mta = Postfix::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let (world, _etc) = world_for(mta, &format!("[allow]\nusers = []\n{}", plan(MTA, 1, 900)));
    let _home = Home::take();
    let postfix = Postfix::sending_to(world.sink_address()).listening(Home::V4).start_in(Some(world.cgroup()));
    for n in 0..2 {
        postfix.send(uid::SENDER, None, &Letter::to(&[format!("u{n}@far.test")])).expect_ok("sendmail");
        let tried = || world.counted(MTA, "allowed") + world.counted(MTA, "redirected") > n;
        eventually(SOON, "postfix tries it", tried);
    }
    let log = || postfix.log();
    eventually(SOON, "it comes back", || log().contains("status=bounced (mail for"));
    assert!(log().contains("loops back to myself"), "{}", log());
    assert_eq!(world.counted(MTA, "redirected"), 1, "once, and not again");
    assert_eq!(arrived(&world), ["u0@far.test"]);
}

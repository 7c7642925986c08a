//! What each real client sends, counted by us and by the sink.

use crate::table::Row;
use smtp_tests::{
    Etc, World,
    mta::{Exim, Letter, Msmtp, Postfix, Swaks},
    sink::{self, Tally},
    uid,
};

/// Users that MTAs connect as, by the names they have in Debian.
const MTA: &str = "the-mta";

/// A world whose agent knows the user an MTA connects as, and whose sink answers as addresses say.
fn world_for(mta: u32, manners: impl FnOnce(sink::Builder) -> sink::Builder) -> (World, Etc) {
    let etc = Etc::with_users(&[(MTA, mta, mta)]);
    let mut world = World::made("", |builder| builder.etc(&etc), |sink| manners(sink.obedient()));
    world.agent.start();
    (world, etc)
}

/// One letter to three, of whom one is put off and one refused.
fn mixed_fortunes() -> Letter {
    Letter::to(&["a@far.test", "b+rcpt450@far.test", "c+rcpt550@far.test"])
}

/// Five letters on their way: three good ones, one of mixed fortunes, one that is refused as a whole.
fn five_letters(send: impl Fn(&Letter)) {
    for n in 0..3 {
        send(&Letter::to(&[format!("u{n}@far.test"), format!("v{n}@far.test")]).body("DATA\n.\n354 go\n250 ok\n..x"));
    }
    send(&mixed_fortunes());
    send(&Letter::to(&["z@far.test"]).from("shop+body554@client.test"));
}

#[track_caller]
fn assert_five(row: &Row) {
    let Tally { messages, recipients, unknown, .. } = row.sink;
    assert!(messages.accepted >= 4 && messages.rejected >= 1 && unknown == 0, "{row:?}");
    assert!(recipients.accepted >= 8 && recipients.deferred >= 1 && recipients.rejected >= 1, "{row:?}");
}

fn exim_with(name: &str, greylisted: bool, manners: impl FnOnce(sink::Builder) -> sink::Builder) {
    let mta = Exim::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let (world, _etc) = world_for(mta, manners);
    let exim = Exim::sending_to(world.sink_address()).user("shop", uid::SENDER).start();
    five_letters(|letter| drop(exim.queue_up(uid::SENDER, Some(world.cgroup()), letter).expect_ok("exim")));
    exim.run_queue_together(Some(world.cgroup()));
    if greylisted {
        // All of them were put off; now they are known.
        exim.run_queue_together(Some(world.cgroup()));
    }
    let row = Row::of(name, &world, MTA);
    assert_five(&row);
    assert!(greylisted || row.sink.sessions < 5, "several messages shared a connection: {row:?}\n{}", exim.mainlog());
    row.assert_equal();
}

#[test]
fn exim_with_data_is_counted_as_its_server_counts() {
    exim_with("exim, DATA", false, |sink| sink);
}

#[test]
fn exim_with_chunking_and_prdr_is_counted_as_its_server_counts() {
    exim_with("exim, CHUNKING", false, |sink| sink.chunking());
    exim_with("exim, CHUNKING and PRDR", false, |sink| sink.chunking().prdr());
    exim_with("exim, greylisted", true, |sink| sink.chunking().greylist());
}

fn postfix_with(name: &str, lmtp: bool) {
    let mta = Postfix::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let (world, _etc) = world_for(mta, |sink| if lmtp { sink.lmtp() } else { sink.split(&[30, 7]) });
    let postfix = Postfix::sending_to(world.sink_address()).user("shop", uid::SENDER);
    let postfix = if lmtp { postfix.lmtp() } else { postfix }.start_in(Some(world.cgroup()));
    five_letters(|letter| drop(postfix.send(uid::SENDER, None, letter).expect_ok("sendmail")));
    postfix.wait_until_tried();
    let row = Row::of(name, &world, MTA);
    let Tally { messages, recipients, .. } = row.sink;
    assert!(messages.accepted >= 4 && recipients.deferred >= 1 && recipients.rejected >= 1, "{row:?}");
    row.assert_equal();
}

#[test]
fn postfix_with_pipelining_is_counted_as_its_server_counts() {
    postfix_with("postfix, PIPELINING", false);
}

#[test]
fn postfix_with_lmtp_is_counted_as_its_server_counts() {
    postfix_with("postfix, LMTP", true);
}

#[test]
fn swaks_is_counted_as_its_server_counts() {
    for (name, options, lmtp) in [
        ("swaks", &[][..], false),
        ("swaks --pipeline", &["--pipeline"][..], false),
        ("swaks --protocol=LMTP", &["--protocol=LMTP"][..], true),
        ("swaks --prdr --auth", &["--prdr", "--auth=LOGIN", "--auth-user=a", "--auth-password=b"][..], false),
    ] {
        let world =
            World::meeting("", |sink| if lmtp { sink.obedient().lmtp() } else { sink.obedient().prdr().auth() });
        let swaks = Swaks::sending_to(world.sink_address());
        five_letters(|letter| drop(swaks.send(uid::SENDER, Some(world.cgroup()), letter, options)));
        swaks.send(uid::SENDER, Some(world.cgroup()), &Letter::to(&["no+rcpt550@far.test"]), options);
        swaks.send(uid::SENDER, Some(world.cgroup()), &Letter::to(&["later+rcpt450@far.test"]), options);
        let row = Row::of(name, &world, "61001");
        assert!(row.sink.messages.accepted >= 4 && row.sink.messages.deferred >= 1, "{row:?}");
        row.assert_equal();
    }
}

#[test]
fn msmtp_is_counted_as_its_server_counts() {
    for (name, options, lmtp) in [("msmtp", &[][..], false), ("msmtp --protocol=lmtp", &["--protocol=lmtp"][..], true)]
    {
        let world = World::meeting("", |sink| if lmtp { sink.obedient().lmtp() } else { sink.obedient() });
        let msmtp = Msmtp::sending_to(world.sink_address());
        five_letters(|letter| drop(msmtp.send(uid::SENDER, Some(world.cgroup()), letter, options)));
        msmtp.send(uid::SENDER, Some(world.cgroup()), &Letter::to(&["no+rcpt550@far.test"]), options);
        let row = Row::of(name, &world, "61001");
        assert!(row.sink.messages.accepted >= 3 && row.sink.messages.rejected >= 1, "{row:?}");
        row.assert_equal();
    }
}

#[test]
fn smtp_source_is_counted_as_its_server_counts() {
    let world = World::with("");
    let tools = Exim::sending_to(world.sink_address()).start();
    let target = format!("inet:{}", world.sink_address());
    let arguments =
        ["-m", "200", "-s", "5", "-r", "3", "-l", "5000", "-f", "a@client.test", "-t", "b@far.test", &target];
    tools.smtp_source(Some(uid::SENDER), Some(world.cgroup()), &arguments).expect_ok("smtp-source");
    let row = Row::of("smtp-source, 5 at once", &world, "61001");
    assert_eq!((row.sink.messages.accepted, row.sink.recipients.accepted), (200, 600));
    row.assert_equal();
}

//! MTAs that meet a limit of messages keep the mail, and deliver it when they may.

use smtp_tests::{
    Etc, World, eventually,
    mta::{Exim, Letter, Postfix},
    uid,
};
use std::time::Duration;

const MTA: &str = "the-mta";
const SOON: Duration = Duration::from_secs(10);

fn limit(text: &str) -> String {
    format!("[allow]\nusers = []\n[[rule]]\nuser = \"{MTA}\"\nplan = \"mta\"\n[plan.mta]\n{text}")
}

fn world_for(mta: u32, chunking: bool, text: &str) -> (World, Etc) {
    let etc = Etc::with_users(&[(MTA, mta, mta)]);
    let manners = |sink: smtp_tests::sink::Builder| if chunking { sink.chunking() } else { sink };
    let mut world = World::made(&limit(text), |builder| builder.etc(&etc), manners);
    world.agent.start();
    (world, etc)
}

fn exim_at(chunking: bool, text: &str) {
    let mta = Exim::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let (world, _etc) = world_for(mta, chunking, text);
    let exim = Exim::sending_to(world.sink_address()).start();
    for n in 0..5 {
        exim.queue_up(uid::SENDER, Some(world.cgroup()), &Letter::to(&[format!("u{n}@far.test")])).expect_ok("exim");
    }
    exim.run_queue_together(Some(world.cgroup()));
    exim.run_queue(Some(world.cgroup()));
    assert_eq!(world.sink.messages().len(), 2, "{text}");
    assert_eq!(exim.queue(), 3, "what was stopped waits:\n{}", exim.mainlog());

    world.reload(&limit(&text.replace('2', "200")));
    exim.run_queue(Some(world.cgroup())).expect_ok("exim -qff");
    eventually(SOON, "the queue is delivered", || exim.queue() == 0);
    let messages = world.sink.messages();
    let mut to: Vec<_> = messages.iter().map(|message| message.to.join(",")).collect();
    to.sort();
    assert_eq!(to, ["u0", "u1", "u2", "u3", "u4"].map(|name| format!("{name}@far.test")), "each once");
    assert_eq!(world.metrics().tally_of(MTA).messages.accepted, 5);
}

#[test]
fn exim_at_a_message_limit_keeps_the_mail_in_its_queue_and_loses_none() {
    exim_at(false, "messages_per_hour = 2");
    exim_at(true, "messages_per_hour = 2");
}

#[test]
fn exim_at_a_recipient_limit_keeps_the_mail_in_its_queue_and_loses_none() {
    exim_at(true, "recipients_per_day = 2");
}

#[test]
fn postfix_at_a_message_limit_keeps_the_mail_in_its_queue_and_loses_none() {
    let mta = Postfix::sending_to(([127, 0, 0, 1], 25).into()).start().uid();
    let (world, _etc) = world_for(mta, false, "messages_per_hour = 2");
    let postfix = Postfix::sending_to(world.sink_address()).start_in(Some(world.cgroup()));
    for n in 0..5 {
        postfix.send(uid::SENDER, None, &Letter::to(&[format!("u{n}@far.test")])).expect_ok("sendmail");
    }
    postfix.wait_until_tried();
    assert_eq!(world.sink.messages().len(), 2);
    assert_eq!(postfix.deferred(), 3, "what was stopped waits:\n{}", postfix.log());
    world.reload(&limit("messages_per_hour = 200"));
    postfix.run_queue();
    assert_eq!(postfix.deferred(), 0, "{}", postfix.log());
    assert_eq!(world.sink.messages().len(), 5, "nothing was lost, and nothing sent twice");
    eventually(SOON, "all are counted", || world.metrics().tally_of(MTA).messages.accepted == 5);
}

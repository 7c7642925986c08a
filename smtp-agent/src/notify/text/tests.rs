//! What people read, and that nothing in it can be more than text.

use super::*;
use crate::attribution::{
    Culprit,
    culprit::{Ancestor, Origin, Script, how},
};
use proptest::prelude::*;

fn at_limit(account: &str) -> Notice {
    let script = Script { path: format!("/home/{account}/www/mail.php"), how: how::ARGUMENT.into() };
    let command = Some(vec!["php".into(), "mail.php".into()]);
    let culprit = Culprit { exe: Some("/usr/bin/php8.2".into()), command, script: Some(script), ..Culprit::default() };
    Notice {
        reason: Some("account_hour".into()),
        unit: Some("connection".into()),
        window: Some("hour".into()),
        limit: Some(100),
        used: Some(100),
        destination: Some("192.0.2.25:25".into()),
        culprit: Some(culprit),
        ..Notice::new(Kind::HardLimit, account, 1_790_000_000)
    }
}

fn message(notices: Vec<Notice>) -> Message {
    Message { id: "1".into(), host: "web1".into(), time: 0, notices, repeated: 0, over_rate: 0, left_out: 0 }
}

#[test]
fn the_built_in_text_names_user_limit_count_script_and_what_to_type() {
    let filled = fill(&message(vec![at_limit("shop")]), None, None);
    assert_eq!(filled.subject, "[smtp-agent] web1: shop was refused at its limit of 100 connections per hour");
    let wanted = "shop was refused at its limit of 100 connections per hour

  time         2026-09-21T14:13:20Z
  reason       account_hour
  used         100 of 100
  destination  192.0.2.25:25
  script       /home/shop/www/mail.php (known by: argument)
  program      /usr/bin/php8.2
  command      php mail.php

  smtp-agent who --user shop
  smtp-agent block shop --for 2h --reason 'hard limit by /home/shop/www/mail.php'
  smtp-agent release shop
";
    assert_eq!(filled.body, wanted);
}

#[test]
fn each_kind_is_told_in_a_sentence() {
    let of = |kind, account: &str| Notice { unit: None, reason: None, ..Notice { kind, ..at_limit(account) } };
    let budget = Notice { kind: Kind::HostQuota80, limit: Some(1000), used: Some(812), ..at_limit("host") };
    let unusual = Notice { used: Some(480), usual: Some(12.4), ..of(Kind::Unusual, "shop") };
    for (notice, wanted) in [
        (of(Kind::SoftLimit, "a"), "a was put off in the soft band of a limit (of its plan)"),
        (
            Notice { observed: true, ..at_limit("a") },
            "a would have been refused at its limit of 100 connections per hour",
        ),
        (of(Kind::Nobody, "nobody"), "nobody tried to send and may not: it was refused"),
        (of(Kind::Brake, "a"), "the failure brake holds a: too many of its messages have failed"),
        (of(Kind::FirstTime, "a"), "a sends mail for the first time"),
        (unusual, "shop made 480 attempts within the hour, where 12 are usual"),
        (budget, "the host has used 80 % of its budget: 812 of 1000 connections per hour"),
        (of(Kind::Test, "host"), "this is a test of the notices"),
    ] {
        assert_eq!(what(&notice), wanted);
    }
}

#[test]
fn several_are_one_message_that_says_what_it_leaves_out() {
    let several = vec![at_limit("a"), Notice { kind: Kind::Brake, ..at_limit("b") }, at_limit("c")];
    let several = Message { repeated: 4, over_rate: 5, left_out: 6, ..message(several) };
    let filled = fill(&several, None, None);
    assert_eq!(filled.subject, "[smtp-agent] web1: 3 notices: hard_limit 2, brake 1");
    assert_eq!(filled.body.matches("smtp-agent block").count(), 3);
    for count in ["4 notices were withheld because the same", "5 notices found no room among those", "6 more notices"] {
        assert!(filled.body.contains(count), "{}", filled.body);
    }
}

#[test]
fn templates_have_the_values_of_all_in_the_subject_and_of_each_in_the_body() {
    let accounts = ["a", "b", "a", "c", "d", "e"];
    let several = Message { repeated: 2, ..message(accounts.map(at_limit).into()) };
    let subject = Template::parse("{count} on {host}: {account} ({kind})").unwrap();
    let body = Template::parse("{account} {used}/{limit} {script} {service} {domains}").unwrap();
    let filled = fill(&several, Some(&subject), Some(&body));
    assert_eq!(filled.subject, "6 on web1: a, b, c and 2 more (hard_limit)");
    assert!(filled.body.starts_with("a 100/100 /home/a/www/mail.php unknown unknown\n\nb "), "{}", filled.body);
    assert_eq!(fill_one(&several, &at_limit("x"), &Template::parse("{withheld}{again}").unwrap()), "20");
}

#[test]
fn every_placeholder_says_something_of_a_notice_of_which_nothing_is_known() {
    let bare = Notice::new(Kind::HardLimit, "shop", 0);
    for (name, field) in Field::ALL {
        let value = of_one(&message(vec![bare.clone()]), &bare, field);
        assert!(!value.is_empty(), "{name}");
    }
}

#[test]
fn what_is_to_be_typed_is_safe_to_type() {
    for (account, wanted) in [
        ("shop", "smtp-agent who --user shop\nsmtp-agent block shop --for 2h --reason 'first time'\n"),
        ("a b", "smtp-agent who --user 'a b'\nsmtp-agent block 'a b' "),
        ("$(reboot)", "smtp-agent who --user '$(reboot)'\n"),
        ("it's", "smtp-agent who --user 'it'\\''s'\n"),
        ("-f", "smtp-agent who --user=-f\nsmtp-agent block --user=-f "),
        ("container:docker-1", "smtp-agent who --user container:docker-1\nsmtp-agent block container:docker-1 "),
        ("kernel", "smtp-agent status\n"),
    ] {
        let said = advice(&Notice::new(Kind::FirstTime, account, 0));
        assert!(said.starts_with(wanted), "{account}: {said}");
    }
}

#[test]
fn what_is_long_is_cut_and_says_so() {
    let long = Notice { account: "x".repeat(100_000), ..at_limit("a") };
    let filled = fill(&message(vec![long]), None, None);
    assert_eq!(filled.subject.chars().count(), LONGEST_SUBJECT + 1);
    let length = filled.body.chars().count();
    assert!(length < LONGEST_PART + 100 && filled.body.ends_with("…\n"), "{length}");
}

/// A culprit that has made long whatever it can.
fn hostile() -> Culprit {
    let long = || "ö'x ".repeat(50_000);
    let ancestor = Ancestor { comm: long(), ..Ancestor::default() };
    Culprit {
        exe: Some(long()),
        cwd: Some(long()),
        command: Some(vec![long(), long()]),
        script: Some(Script { path: long(), how: how::ARGUMENT.into() }),
        lineage: vec![ancestor; 30],
        origin: Some(Origin { kind: "cron".into(), name: long() }),
        login_user: Some(long()),
        domains: vec![long(); 3],
        ..Culprit::default()
    }
}

#[test]
fn whoever_has_a_long_command_line_cuts_away_neither_another_nor_what_to_type() {
    let hostile = Notice { culprit: Some(hostile()), ..at_limit("bad") };
    let several = Message { left_out: 6, ..message(vec![hostile, at_limit("shop")]) };
    let body = Template::parse("{account}: {command} {script} {process} {domains}").unwrap();
    for (body, wanted) in [
        (None, &["smtp-agent block bad --for 2h", "smtp-agent block shop --for 2h", "  command      ö'x "][..]),
        (Some(&body), &["bad: ö'x ", "shop: php mail.php"]),
    ] {
        let filled = fill(&several, None, body);
        for part in wanted.iter().chain(&["6 more notices"]) {
            assert!(filled.body.contains(part), "{part}: {}", filled.body);
        }
        assert!(filled.body.lines().all(|line| line.chars().count() < 4 * (LONGEST_VALUE + 10)));
        assert!(filled.body.chars().count() < LONGEST_PART);
    }
    let one = Template::parse(&"{command}".repeat(100)).unwrap();
    let filled = fill(&several, None, Some(&one));
    assert!(filled.body.contains("…\n\nphp mail.php"), "a template that says too much is cut for each notice");
}

#[test]
fn a_limit_that_is_shared_is_told_as_that_of_its_owner() {
    for (reason, whose) in [
        ("account_hour", "its"),
        ("messages_day", "its"),
        ("group_hour", "its group's"),
        ("plan_messages_hour", "its plan's"),
        ("cgroup_day", "its cgroup's"),
    ] {
        let notice = Notice { reason: Some(reason.into()), ..at_limit("shop") };
        assert_eq!(what(&notice), format!("shop was refused at {whose} limit of 100 connections per hour"));
    }
}

proptest! {
    #[test]
    fn a_subject_is_one_line_whatever_is_in_it(account: String, host: String, template in "\\PC{1,20}") {
        let message = Message { host, ..message(vec![at_limit(&account)]) };
        let template = Template::parse(&(template.replace('{', "{{").replace('}', "}}") + "{account}")).unwrap();
        for filled in [fill(&message, None, None), fill(&message, Some(&template), None)] {
            prop_assert!(!filled.subject.chars().any(char::is_control));
        }
    }
}

use super::*;
use crate::overview::{BrakeStatus, HostStatus};
use smtp_common::names::program;

fn held(unit: &'static str, span: Span, used: u64, limit: Option<u32>) -> LimitUsage {
    LimitUsage { unit, window: span.name(), usage: Usage { used, limit } }
}

fn account(name: &str) -> AccountStatus {
    AccountStatus {
        account: name.into(),
        rule: "[default]",
        hour: None,
        day: None,
        limits: Vec::new(),
        remote: [("allowed", 3)].into(),
        local: Counts::new(),
        pipe: Counts::new(),
        conversations: Conversations::default(),
        by_route: Default::default(),
        brake: None,
    }
}

fn status(accounts: Vec<AccountStatus>) -> Status {
    let none = Usage { used: 0, limit: None };
    let limits = ["connection", "message", "recipient"]
        .into_iter()
        .flat_map(|unit| Span::ALL.map(|span| held(unit, span, 0, None)))
        .collect();
    let overview = Overview {
        shared: Vec::new(),
        pins: "/pins".into(),
        agent_running: true,
        attached: program::ALL.map(|hook| (hook, true)).into(),
        mode: "enforce",
        policy_generation: 1,
        ports: vec![25],
        messages_wanted: true,
        messages_followed: true,
        host: HostStatus { hour: none, day: none, limits, conversations: Conversations::default() },
        accounts,
        lost: Default::default(),
    };
    Status { overview, by_hand: Default::default() }
}

fn tables(accounts: Vec<AccountStatus>) -> String {
    let text = show(&status(accounts));
    text.split_once("\n\n").expect("head and tables").1.to_owned()
}

#[test]
fn an_account_that_only_connected_has_the_one_table() {
    assert_eq!(
        tables(vec![account("shop")]),
        "connections\n\
         \x20 ACCOUNT HOUR DAY PASSED DEFERRED REFUSED LOCAL RULE\n\
         \x20 shop       -   -      3        0       0     0 [default]"
    );
}

#[test]
fn columns_are_shown_where_somebody_has_something_and_rows_too() {
    let mut shop = account("shop");
    shop.limits = vec![held("message", Span::Hour, 5, Some(50)), held("recipient", Span::Day, 9, Some(900))];
    shop.conversations.messages.insert("accepted", 4);
    shop.conversations.messages.insert("rejected", 1);
    shop.conversations.recipients.insert("accepted", 9);
    shop.conversations.sessions.insert("established", 3);
    shop.conversations.sessions.insert("timed_out", 1);
    shop.conversations.unseen.insert("encrypted", 2);
    shop.brake = Some(BrakeStatus { holds: true, failed_percent: Some(20.4) });
    let mut blog = account("blog");
    blog.pipe.insert("allowed", 6);
    assert_eq!(
        tables(vec![shop, blog]),
        "connections\n\
         \x20 ACCOUNT HOUR DAY PASSED DEFERRED REFUSED LOCAL PIPE RULE\n\
         \x20 shop       -   -      3        0       0     0    0 [default]\n\
         \x20 blog       -   -      3        0       0     0    6 [default]\n\
         \n\
         messages\n\
         \x20 ACCOUNT HOUR ACCEPTED REJECTED\n\
         \x20 shop    5/50        4        1\n\
         \n\
         messages of the last hour that failed\n\
         \x20 ACCOUNT FAILED BRAKE\n\
         \x20 shop      20 % HOLDS\n\
         \n\
         recipients\n\
         \x20 ACCOUNT   DAY ACCEPTED\n\
         \x20 shop    9/900        9\n\
         \n\
         sessions\n\
         \x20 ACCOUNT ESTABLISHED TIMED OUT\n\
         \x20 shop              3         1\n\
         \n\
         sessions whose messages are not all counted\n\
         \x20 ACCOUNT ENCRYPTED\n\
         \x20 shop            2"
    );
}

#[test]
fn what_is_redirected_or_would_be_stopped_has_a_column_of_its_own() {
    let mut shop = account("shop");
    shop.remote = [("allowed", 3), ("redirected", 2), ("deferred", 1), ("would_refuse", 4), ("would_defer", 5)].into();
    let mut idle = account("idle");
    idle.limits = vec![held("message", Span::Hour, 0, Some(50))];
    assert_eq!(
        tables(vec![shop, idle]),
        "connections\n\
         \x20 ACCOUNT HOUR DAY PASSED WOULD STOP DEFERRED REDIRECTED REFUSED LOCAL RULE\n\
         \x20 shop       -   -     12          9        1          2       0     0 [default]\n\
         \x20 idle       -   -      3          0        0          0       0     0 [default]",
        "and nothing used of a limit is no line of its own"
    );
}

#[test]
fn a_crowded_table_fits_a_hundred_columns() {
    let mut full = account("container:docker-4f2c1d9e8b7a");
    full.rule = "[default] plan";
    for unit in ["connection", "message", "recipient"] {
        full.limits.extend([held(unit, Span::Hour, 100, Some(100)), held(unit, Span::Day, 1000, Some(1000))]);
    }
    let of = &mut full.conversations;
    for list in [&mut of.messages, &mut of.recipients, &mut of.sessions, &mut of.unseen] {
        list.values_mut().for_each(|n| *n = 10_000);
    }
    of.message_verdicts.values_mut().for_each(|verdicts| verdicts.values_mut().for_each(|n| *n = 10_000));
    full.remote.insert("refused", 1_000_000);
    full.pipe.insert("refused", 1000);
    full.brake = Some(BrakeStatus { holds: true, failed_percent: Some(100.0) });
    let text = tables(vec![full]);
    assert_eq!(text.lines().filter(|line| line.contains("container:")).count(), 6, "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{widest:?}\n{text}");
}

#[test]
fn the_head_says_what_is_limited_and_whether_messages_are_followed() {
    let mut status = status(vec![]);
    assert!(!show(&status).contains("messages"), "nothing to tell");
    status.overview.host.limits[3].usage = Usage { used: 70, limit: Some(500) };
    let text = show(&status);
    assert!(text.contains("\nhost     0 no limit this hour, 0 no limit this day\n"), "{text}");
    assert!(text.contains("\n         messages: 0 no limit this hour, 70 of 500 this day\n"), "{text}");
    assert!(!text.contains("recipients"), "{text}");

    assert!(status.overview.is_whole());
    status.overview.messages_followed = false;
    assert!(status.overview.stands() && !status.overview.is_whole());
    assert!(show(&status).contains("messages NOT FOLLOWED"));
    status.overview.messages_wanted = false;
    assert!(status.overview.is_whole());
    let text = show(&status);
    assert!(text.contains("\nmessages are not followed ([smtp] messages = false)\n"), "{text}");
    assert!(!text.contains("500"), "a budget that holds nobody: {text}");
    status.overview.attached.insert(program::CONNECT6, false);
    assert!(!status.overview.stands());
}

#[test]
fn shared_limits_are_shown_where_something_is_used_of_them() {
    let limit = |unit, window, used| LimitUsage { unit, window, usage: Usage { used, limit: Some(9) } };
    let held = |name: &str, used| SharedStatus {
        level: "group",
        name: name.to_owned(),
        limits: vec![limit("connection", "day", used), limit("message", "hour", 0)],
    };
    assert_eq!(shared(&[held("idle", 0)]), None);
    let table = shared(&[held("idle", 0), held("web", 4)]).expect("a table");
    assert_eq!(table, "  SHARED BY     CONN/DAY MSGS/HOUR\n  group     web      4/9       0/9");
}

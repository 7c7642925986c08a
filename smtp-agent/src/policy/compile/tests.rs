use smtp_common::{
    rule::{Limit, plan_hash},
    window::{Both, UNLIMITED},
};

use super::*;
use crate::config;

const USERS: [(&str, u32, u32); 4] = [("root", 0, 0), ("ann", 1, 10), ("bob", 2, 20), ("eve", 3, 20)];
const GROUPS: [(&str, u32, &[&str]); 2] = [("staff", 10, &["bob"]), ("sales", 20, &[])];

fn compiled(text: &str) -> Compiled {
    let loaded = config::parse_str("test", text).unwrap_or_else(|p| panic!("{}", p.render(false)));
    compile(&loaded.config, &Database::of(&USERS, &GROUPS), "ann:100000:65536\n", &Circumstances::default())
}

fn origin(compiled: &Compiled, uid: u32) -> Option<u8> {
    compiled.rules.iter().find(|(a, _)| *a == Account::user(uid)).map(|(_, rule)| rule.origin)
}

#[test]
fn who_is_named_beats_who_is_a_member_and_refusing_beats_permitting() {
    let base = "[plan.bulk]\nper_hour = 9\n";
    let cases = [
        ("[allow]\nusers=[]\ngroups=[\"sales\"]\n[deny]\nusers=[\"eve\"]", 3, Origin::DenyUser),
        ("[allow]\nusers=[]\ngroups=[\"sales\"]\n[[rule]]\nuser=\"eve\"\nplan=\"bulk\"", 3, Origin::RuleUser),
        ("[allow]\nusers=[\"eve\"]\n[[rule]]\nuser=\"eve\"\nplan=\"bulk\"", 3, Origin::AllowUser),
        ("[allow]\nusers=[]\ngroups=[\"sales\"]\n[[rule]]\ngroup=\"sales\"\nplan=\"bulk\"", 3, Origin::AllowGroup),
        ("[[rule]]\ngroup=\"sales\"\nplan=\"bulk\"", 2, Origin::RuleGroup),
        ("[allow]\nusers=[]\ngroups=[\"staff\"]", 1, Origin::AllowGroup),
        ("[allow]\nusers=[]\ngroups=[\"staff\"]", 2, Origin::AllowGroup),
        // By number and by name: the same user.
        ("[allow]\nusers=[\"root\"]\n[deny]\nusers=[\"0\"]", 0, Origin::DenyUser),
    ];
    for (text, uid, expected) in cases {
        assert_eq!(origin(&compiled(&format!("{base}{text}")), uid), Some(expected as u8), "{text}");
    }
}

#[test]
fn a_plan_that_a_rule_made_shares_the_total_of_the_plan_it_was_made_of() {
    let text = "[plan.standard]\nper_hour=9\n[plan.standard.total]\nper_day=50\n[[rule]]\nuser=\"ann\"\nper_hour=3\n";
    let compiled = compiled(text);
    let names: Vec<_> = compiled.ledger.names().iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["standard"]);
    let ann = compiled.rules.iter().find(|(account, _)| *account == Account::user(1)).expect("a rule");
    assert_eq!((ann.1.hour.limit, ann.1.chain), (3, compiled.policy.default.chain));
}

#[test]
fn of_two_group_rules_the_earlier_holds() {
    let text = "[plan.a]\nper_hour=1\n[plan.b]\nper_hour=2\n[[rule]]\ngroup=\"staff\"\nplan=\"b\"\n[[rule]]\ngroup=\"sales\"\nplan=\"a\"";
    let rules = compiled(text).rules;
    let limit = |uid| rules.iter().find(|(a, _)| *a == Account::user(uid)).map(|(_, r)| r.hour.limit);
    assert_eq!(limit(2), Some(2), "bob is in both");
    assert_eq!(limit(3), Some(1));
}

#[test]
fn plans_become_limits_and_absent_names_are_counted_and_placed() {
    let got = compiled(
        "[default]\nplan=\"deny\"\n[containers]\nplan=\"c\"\n[plan.c]\nper_day=8\nsoft_percent=150\n[allow]\nusers=[\"ghost\"]\n[deny]\nusers=[]",
    );
    assert_eq!(got.policy.default.action, Action::Closed as u8);
    assert_eq!(got.policy.containers.day, Limit { limit: 8, band: 4 });
    assert_eq!(got.policy.containers.hour, Limit::NONE);
    assert_eq!(got.absent.warnings(), 1);
    let place = got.absent.iter().find_map(|w| w.place.clone()).expect("the name's place");
    assert_eq!((place.line(), place.column()), (9, 8));
}

#[test]
fn a_plan_says_what_it_limits_besides_connections() {
    let got = compiled(
        "[default]\nplan = \"full\"\n[containers]\nplan = \"local\"\n[plan.local]\nper_day = 9\nlocal = true\n\
         [plan.full]\nmessages_per_hour = 1\nmessages_per_day = 2\nrecipients_per_hour = 3\n\
         recipients_per_day = 4\nmax_failed_percent = 50\nmin_failed = 7\nrelease_after = \"1h 30m\"\n\
         [plan.brake]\nmax_failed_percent = 20\n[plan.budget]\nrecipients_per_day = 8\n\
         [[rule]]\nuser = \"ann\"\nplan = \"brake\"\n[[rule]]\nuser = \"bob\"\nplan = \"budget\"",
    );
    let full = PlanLimits {
        messages: Both { hour: 1, day: 2 },
        recipients: Both { hour: 3, day: 4 },
        max_failed_percent: 50,
        min_failed: 7,
        brake_seconds: 5400,
        plan: plan_hash("full"),
    };
    let plan = plan_hash("brake");
    let brake = PlanLimits { max_failed_percent: 20, min_failed: 5, plan, ..PlanLimits::NONE };
    let budget = PlanLimits { recipients: Both { hour: UNLIMITED, day: 8 }, ..PlanLimits::NONE };
    assert_eq!(got.plans[..4], [PlanLimits::NONE, full, brake, budget]);
    let unlimited = Both::UNLIMITED;
    assert_eq!(got.plans[5], PlanLimits { messages: unlimited, recipients: unlimited, ..full }, "its brake alone");
    let flags = |uid| got.rules.iter().find(|(a, _)| *a == Account::user(uid)).map(|(_, rule)| rule.flags);
    let (units, brake) = (rule_flag::UNITS, rule_flag::BRAKE);
    assert_eq!(got.policy.default.flags, units | brake);
    assert_eq!(got.policy.kernel_threads.flags, units | brake);
    assert_eq!(got.policy.containers.flags, rule_flag::LOCAL);
    assert_eq!((flags(1), flags(2)), (Some(units | brake), Some(units)));
    assert!(!got.policy.default.hour.is_set(), "a plan without per_hour limits no connections");
}

#[test]
fn the_host_has_a_budget_of_messages_and_recipients() {
    let policy = compiled("[host]\nper_day = 9\nmessages_per_hour = 5\nrecipients_per_day = 7").policy;
    assert_eq!((policy.host_hour, policy.host_day), (UNLIMITED, 9));
    assert_eq!(policy.host_messages, Both { hour: 5, day: UNLIMITED });
    assert_eq!(policy.host_recipients, Both { hour: UNLIMITED, day: 7 });
    assert_eq!((policy.sessions, compiled("[smtp]\nmessages = false").policy.sessions), (1, 0));
}

#[test]
fn what_lists_send_is_the_hosts_unless_they_are_not_counted() {
    let text = "[plan.bulk]\nper_hour = 9\nlocal = true\n[allow]\nusers = [\"root\"]\n[deny]\nusers = []\n\
                [[rule]]\nuser = \"ann\"\nplan = \"bulk\"\n[host]\nlist_users = [0, \"ann\", \"eve\", \"gone\"]\n";
    let counted = compiled(text);
    assert!(counted.rules.iter().all(|(_, rule)| !rule.has(rule_flag::NOT_THE_HOSTS)));
    assert_eq!((origin(&counted, 3), counted.absent.warnings()), (None, 0), "nobody asks who they are");

    let got = compiled(&format!("{text}count_lists = false\n"));
    let rule = |uid| got.rules.iter().find(|(a, _)| *a == Account::user(uid)).map(|(_, rule)| *rule);
    let with = |rule: Rule| Some(Rule { flags: rule.flags | rule_flag::NOT_THE_HOSTS, ..rule });
    assert_eq!(rule(0), with(Rule::of(Action::Exempt, Origin::AllowUser)));
    assert_eq!(rule(3), with(got.policy.default), "one without a rule has a copy of the default's");
    let ann = rule(1).expect("a rule");
    assert_eq!((ann.origin, ann.hour.limit), (Origin::RuleUser as u8, 9));
    assert_eq!(ann.flags, rule_flag::LOCAL | rule_flag::NOT_THE_HOSTS);
    assert_eq!(got.policy.default.flags, 0, "everyone else stays the host's");
    assert_eq!(got.absent_names, ["user `gone`"]);
}

#[test]
fn a_name_in_two_lists_is_absent_once() {
    let text = "[allow]\nusers = [\"gone\"]\n[deny]\nusers = []\n[host]\ncount_lists = false\nlist_users = [\"gone\"]";
    let got = compiled(text);
    assert_eq!((got.absent_names, got.absent.warnings()), (vec!["user `gone`".to_owned()], 2));
}

#[test]
fn the_range_of_subordinate_uids_spans_all_prefixes() {
    let policy = compiled("").policy;
    assert_eq!((policy.subuid_first, policy.subuid_last), (100_000, 165_535));
    let none = config::parse_str("test", "")
        .map(|l| compile(&l.config, &Database::default(), "", &Circumstances::default()).policy);
    assert!(none.is_ok_and(|p| p.subuid_first > p.subuid_last));
}

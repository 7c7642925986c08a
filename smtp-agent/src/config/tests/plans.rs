//! Totals, limits of groups, and limits that a rule writes itself.

use super::{cases, config};
use crate::config::{OnSoft, Plan, PlanRef, Quota, Quotas, parse_str};

cases! {
    a_total_is_a_table: "[plan.a]\nper_day = 1\ntotal = 5" => [
        "error 3:1: `total` is a table, not a number \
         -> write [plan.a.total] on a line of its own and its keys below",
    ];
    a_total_has_the_keys_of_limits: "[plan.a.total]\nper_houre = 5\nlocal = true" => [
        "error 2:1: unknown key `per_houre` in [plan.a.total] -> did you mean `per_hour`?",
        "error 3:1: unknown key `local` in [plan.a.total] -> `local` belongs in [plan.NAME]",
    ];
    a_total_may_be_all_that_a_plan_limits: "[plan.a.total]\nper_day = 5" => [];
    a_total_below_the_limit_of_one_is_suspicious: "[plan.a]\nper_day = 100\n[plan.a.total]\nper_day = 99\nper_hour = 5" => [
        "warning 4:11: `per_day` of one account is never reached: it is 100 on line 2, and all together may 99 \
         -> a total is for the whole plan",
    ];
    a_total_like_the_limit_of_one_is_reached: "[plan.a]\nper_day = 100\n[plan.a.total]\nper_day = 100" => [];
    a_total_of_0_is_not_unlimited: "[plan.a.total]\nmessages_per_day = 0" => [
        "warning 2:20: `messages_per_day = 0` refuses every message -> for no limit leave the key out",
    ];
    a_total_of_messages_needs_them_followed: "[smtp]\nmessages = false\n[plan.a.total]\nmessages_per_day = 9" => [
        "error 4:20: `messages_per_day` cannot hold: `messages` in [smtp] is false on line 2, so none are counted \
         -> remove one of the two",
    ];

    limits_of_a_group_have_the_keys_of_limits: "[group.sales]\nper_dya = 5\nplan = \"deny\"" => [
        "error 2:1: unknown key `per_dya` in [group.sales] -> did you mean `per_day`?",
        "error 3:1: unknown key `plan` in [group.sales] -> `plan` belongs in [default], in [containers] or in [[rule]]",
    ];
    a_group_without_a_limit_is_suspicious: "[group.sales]" => [
        "warning 1:8: group `sales` has no limit -> add per_hour, messages_per_hour or another, or remove it",
    ];
    a_limit_belongs_to_a_group: "[group]\nper_day = 5" => [
        "error 2:1: `per_day` in [group] must be a group, which is a table, not a number \
         -> name the group, as in [group.staff]",
    ];
    a_group_has_single_brackets: "[[group.sales]]\nper_day = 5" => [
        "error 1:9: `sales` in [group] must be a group, which is a table, not a list \
         -> write [group.sales], in single brackets and once",
    ];
    groups_are_tables: "group = \"sales\"" => [
        "error 1:1: `group` is a table, not a text -> write [group.NAME] on a line of its own and its keys below",
    ];
    a_group_of_a_name_that_is_none: "[group.\"a:b\"]\nper_day = 5" => [
        "error 1:8: \"a:b\" is not a name: `:` cannot be part of one",
    ];
    a_gid_has_one_table: "[group.50]\nper_day = 5\n[group.050]\nper_hour = 5" => [
        "error 3:8: group `050` already has limits on line 1 -> write them in one table",
    ];
    limits_of_a_group_are_checked_too: "[smtp]\nmessages = false\n[group.a]\nper_hour = 9\nper_day = 8\nmessages_per_day = 7" => [
        "warning 4:12: `per_hour` is never reached: `per_day` is 8",
        "error 6:20: `messages_per_day` cannot hold: `messages` in [smtp] is false on line 2, so none are counted \
         -> remove one of the two",
    ];

    limits_of_a_rule_are_checked_too: "[smtp]\nmessages = false\n[[rule]]\nuser = \"a\"\nper_hour = 0\nmessages_per_day = 7" => [
        "warning 5:12: `per_hour = 0` refuses every connection -> for no limit leave the key out",
        "error 6:20: `messages_per_day` cannot hold: `messages` in [smtp] is false on line 2, so none are counted \
         -> remove one of the two",
    ];
    an_hour_of_a_rule_above_the_day_of_its_plan_says_nothing: "[[rule]]\nuser = \"a\"\nper_hour = 1001" => [
        "warning 3:12: `per_hour` is never reached: `per_day` of plan `standard` is 1000",
    ];
    an_hour_and_a_day_of_a_rule_leave_nothing_of_the_plans: "[[rule]]\nuser = \"a\"\nper_hour = 1001\nper_day = 2000" => [];
    nothing_is_limited_beside_deny: "[[rule]]\nuser = \"a\"\nplan = \"deny\"\nper_day = 5\nper_hour = 1" => [
        "error 5:1: `per_hour` does nothing beside plan = \"deny\" -> remove `plan`, or name one that has limits",
    ];
    nothing_is_limited_beside_allow: "[[rule]]\nuser = \"a\"\nplan = \"allow\"\nmessages_per_day = 5" => [
        "error 4:1: `messages_per_day` does nothing beside plan = \"allow\" -> remove `plan`, or name one that has limits",
    ];
    a_plan_made_for_limits_of_a_rule_is_not_suggested: "[[rule]]\nuser = \"a\"\nper_day = 5\n[[rule]]\nuser = \"b\"\nplan = \"standard, per_day = 5\"" => [
        "error 6:8: there is no plan `standard, per_day = 5` -> did you mean \"standard\"?",
    ];
    a_plan_of_a_rule_with_limits_must_exist: "[[rule]]\nuser = \"a\"\nplan = \"standart\"\nper_day = 5" => [
        "error 3:8: there is no plan `standart` -> did you mean \"standard\"?",
    ];
}

fn hour(limit: u32) -> Quota {
    Quota { per_hour: Some(limit), per_day: None }
}

#[test]
fn limits_of_a_rule_stand_in_the_place_of_those_of_its_plan_and_leave_the_rest() {
    let config = config(
        "[plan.bulk]\nper_hour = 50\nmessages_per_hour = 60\nsoft_percent = 150\non_soft = \"redirect\"\nlocal = true\n\
         max_failed_percent = 40\n[plan.bulk.total]\nper_day = 7000\n\
         [[rule]]\nuser = \"a\"\nplan = \"bulk\"\nper_hour = 500\nrecipients_per_hour = 900",
    );
    let PlanRef::Plan(number) = config.rules[0].plan else { panic!("{:?}", config.rules) };
    let [bulk, own] = [&config.plans[0], &config.plans[number]];
    let quotas = Quotas { connections: hour(500), messages: hour(60), recipients: hour(900) };
    assert_eq!(own.quotas(), quotas);
    let name = "bulk, per_hour = 500, recipients_per_hour = 900".to_owned();
    let [connections, recipients] = [quotas.connections, quotas.recipients];
    assert_eq!(*own, Plan { name, connections, recipients, base: Some(0), ..bulk.clone() });
    assert_eq!((own.soft_percent, own.on_soft, own.local), (150, OnSoft::Redirect, true));
}

#[test]
fn without_a_plan_the_limits_stand_in_the_place_of_the_default_plans() {
    let own = |default: &str| {
        let config = config(&format!("[default]\nplan = \"{default}\"\n[[rule]]\nuser = \"a\"\nper_hour = 7"));
        let PlanRef::Plan(number) = config.rules[0].plan else { panic!("{:?}", config.rules) };
        config.plans[number].clone()
    };
    let standard = own("standard");
    assert_eq!(standard.connections, Quota { per_hour: Some(7), per_day: Some(1000) });
    assert_eq!((standard.name.as_str(), standard.base), ("standard, per_hour = 7", Some(0)));
    for default in ["deny", "allow"] {
        let plan = own(default);
        assert_eq!(plan.quotas(), Quotas { connections: hour(7), ..Quotas::default() });
        assert_eq!((plan.name.as_str(), plan.base, plan.soft_percent), ("own limits, per_hour = 7", None, 125));
    }
}

#[test]
fn rules_with_the_same_limits_share_one_plan_and_one_with_those_of_its_plan_has_that() {
    let config = config(
        "[plan.bulk]\nper_hour = 50\n[[rule]]\nuser = \"a\"\nper_hour = 7\n[[rule]]\ngroup = \"b\"\nper_hour = 7\n\
         [[rule]]\ncgroup = \"/c\"\nper_hour = 8\n[[rule]]\nuser = \"d\"\nplan = \"bulk\"\nper_hour = 7\n\
         [[rule]]\nuser = \"e\"\nplan = \"bulk\"\nper_hour = 50",
    );
    let plans: Vec<_> = config.rules.iter().map(|rule| config.plan_name(rule.plan)).collect();
    let sevens = "standard, per_hour = 7";
    assert_eq!(plans, [sevens, sevens, "standard, per_hour = 8", "bulk, per_hour = 7", "bulk"]);
    assert_eq!(config.plans.len(), 5);
}

#[test]
fn limits_of_a_rule_hold_at_the_times_of_schedules_too() {
    let config = config(
        "[plan.bulk]\nper_hour = 50\nper_day = 90\n[[plan.bulk.schedule]]\nhours = \"08:00-18:00\"\nper_hour = 5\nper_day = 80\n\
         [[rule]]\nuser = \"a\"\nplan = \"bulk\"\nper_hour = 50",
    );
    let PlanRef::Plan(number) = config.rules[0].plan else { panic!("{:?}", config.rules) };
    let own = &config.plans[number];
    let connections = |minute| own.quotas_at(0, minute).connections;
    assert_eq!(connections(0), Quota { per_hour: Some(50), per_day: Some(90) });
    assert_eq!(connections(600), Quota { per_hour: Some(50), per_day: Some(80) });
}

#[test]
fn groups_keep_the_order_in_which_they_are_written() {
    let config = config("[group.z]\nper_day = 1\n[group.a]\nper_hour = 2\n[group.50]\nmessages_per_day = 3");
    let groups: Vec<_> = config.groups.iter().map(|group| group.name.value.to_string()).collect();
    assert_eq!(groups, ["z", "a", "50"]);
    assert_eq!(config.groups[1].quotas, Quotas { connections: hour(2), ..Quotas::default() });
}

#[test]
fn ten_thousand_rules_with_limits_of_their_own_are_read() {
    let text: String = (0..10_000).map(|n| format!("[[rule]]\nuser = \"u{n}\"\nper_hour = {}\n", n / 2 + 1)).collect();
    let loaded = parse_str("many", &format!("[default]\nplan = \"allow\"\n{text}")).unwrap();
    assert_eq!((loaded.config.rules.len(), loaded.config.plans.len()), (10_000, 5000));
}

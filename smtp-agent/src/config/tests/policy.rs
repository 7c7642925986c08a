//! Plans, rules, and whether what is written goes together.

use super::{cases, config, texts};
use crate::config::{PlanRef, Subject};

cases! {
    a_plan_that_does_not_exist_names_the_nearest: "[default]\nplan = \"bulkk\"\n[plan.bulk]\nper_day = 1" => [
        "error 2:8: there is no plan `bulkk` -> did you mean \"bulk\"?",
    ];
    a_plan_like_no_other_lists_all: "[containers]\nplan = \"premium\"\n[plan.bulk]\nper_day = 1" => [
        "error 2:8: there is no plan `premium` \
         -> define [plan.premium], or use one of \"bulk\", \"standard\", \"deny\", \"allow\"",
    ];
    a_rule_needs_a_plan_that_exists: "[[rule]]\nuser = \"a\"\nplan = \"Deny\"" => [
        "error 3:8: there is no plan `Deny` -> did you mean \"deny\"?",
    ];
    a_plan_is_a_text: "[default]\nplan = 1" => ["error 2:8: `plan` must be a text in quotes, not a number"];
    deny_is_built_in: "[plan.deny]\nper_hour = 5" => [
        "error 1:7: \"deny\" is a built-in plan and cannot be defined -> give the plan another name",
    ];
    allow_is_built_in: "plan.allow.per_hour = 5" => [
        "error 1:6: \"allow\" is a built-in plan and cannot be defined -> give the plan another name",
    ];
    a_plan_has_a_name: "[plan.\"\"]\nper_day = 1" => [
        "error 1:7: the name of a plan is empty -> give the plan a name",
    ];
    a_plan_has_a_name_of_one_word: "[plan.\"a b\"]\nper_day = 1" => [
        "error 1:7: the name of plan `a b` contains a blank or a quote -> use letters, digits, `-` and `_`",
    ];
    a_limit_belongs_to_a_plan: "[plan]\nper_hour = 5" => [
        "error 2:1: `per_hour` in [plan] must be a plan, which is a table, not a number \
         -> name the plan, as in [plan.standard]",
    ];
    a_plan_has_single_brackets: "[[plan.x]]\nper_hour = 1" => [
        "error 1:8: `x` in [plan] must be a plan, which is a table, not a list \
         -> write [plan.x], in single brackets and once",
    ];
    a_plan_without_a_limit_is_suspicious: "[plan.bulk]\nsoft_percent = 150" => [
        "warning 1:7: plan `bulk` has no limit \
         -> add per_hour, messages_per_hour or another; for no limits use the built-in plan \"allow\"",
    ];
    a_plan_with_a_wrong_limit_is_not_called_limitless: "[plan.bulk]\nper_day = true" => [
        "error 2:11: `per_day` must be a whole number from 0 to 1000000000, not true",
    ];
    a_soft_ceiling_is_not_below_the_limit: "[plan.x]\nper_day = 1\nsoft_percent = 99" => [
        "error 3:16: `soft_percent` must be from 100 to 1000, not 99",
    ];
    a_soft_ceiling_may_be_the_limit_or_ten_times_it: "[plan.x]\nper_day = 1\nsoft_percent = 100\n[plan.y]\nper_day = 1\nsoft_percent = 1000" => [
        ,
    ];
    an_overflow_may_be_redirected: "[plan.x]\nper_day = 1\non_soft = \"redirect\"" => [];
    only_port_25_is_redirected: "[smtp]\nports = [587]\n[plan.x]\nper_day = 1\non_soft = \"redirect\"" => [
        "warning 5:11: `on_soft = \"redirect\"` never happens: only port 25 is redirected, and it is not in [smtp] ports \
         -> add 25 to [smtp] ports, or write \"defer\"",
    ];
    only_a_soft_band_is_redirected: "[plan.x]\nper_day = 1\nsoft_percent = 100\non_soft = \"redirect\"" => [
        "warning 4:11: `on_soft = \"redirect\"` never happens: `soft_percent = 100` leaves no soft band \
         -> write a higher soft_percent, or remove it",
    ];

    a_rule_names_somebody: "[[rule]]\nplan = \"deny\"" => [
        "error 1:1: this rule names nobody -> add user = \"NAME\", group = \"NAME\" or cgroup = \"/PATH\"",
    ];
    a_rule_has_a_plan: "[[rule]]\nuser = \"a\"" => ["error 1:1: this rule has no plan -> add plan = \"NAME\", or a limit such as per_hour"];
    an_empty_rule_lacks_both: "[[rule]]" => [
        "error 1:1: this rule names nobody -> add user = \"NAME\", group = \"NAME\" or cgroup = \"/PATH\"",
        "error 1:1: this rule has no plan -> add plan = \"NAME\", or a limit such as per_hour",
    ];
    a_rule_has_double_brackets: "[rule]\nuser = \"a\"\nplan = \"deny\"" => [
        "error 1:2: `rule` must be a list of tables, not a single one -> write [[rule]], in double brackets",
    ];
    a_rule_is_a_table: "rule = [\"a\"]" => ["error 1:9: a rule must be a table, not a text"];
    rules_may_be_written_inline: "rule = [{user = \"a\", plan = \"deny\"}, {group = \"a\", plan = \"allow\"}]" => [];

    a_user_has_one_rule: "[[rule]]\nuser = \"a\"\nplan = \"deny\"\n[[rule]]\nuser = \"a\"\nplan = \"allow\"" => [
        "error 5:8: user `a` already has a rule on line 2 -> remove one of the two",
    ];
    a_group_has_one_rule: "[[rule]]\ngroup = 7\nplan = \"deny\"\n[[rule]]\ngroup = \"7\"\nplan = \"allow\"" => [
        "error 5:9: group `7` already has a rule on line 2 -> remove one of the two",
    ];
    nobody_is_allowed_and_denied: "[allow]\nusers = [\"a\"]\n[deny]\nusers = [\"b\", \"a\"]" => [
        "error 4:15: user `a` is denied here and allowed on line 2 -> remove one of the two",
    ];
    an_allowed_user_needs_no_rule: "[allow]\nusers = [\"a\"]\n[[rule]]\nuser = \"a\"\nplan = \"deny\"" => [
        "warning 4:8: this rule has no effect: user `a` is in [allow] on line 2, which wins -> remove one of the two",
    ];
    an_allowed_group_needs_no_rule: "[allow]\ngroups = [\"a\"]\n[[rule]]\ngroup = \"a\"\nplan = \"deny\"" => [
        "warning 4:9: this rule has no effect: group `a` is in [allow] on line 2, which wins \
         -> remove one of the two",
    ];
    a_user_is_not_the_group_of_the_same_name: "[allow]\ngroups = [\"a\"]\n[[rule]]\nuser = \"a\"\nplan = \"deny\"" => [
        ,
    ];
    a_denied_user_needs_no_rule: "[deny]\nusers = [\"a\"]\n[[rule]]\nuser = \"a\"\nplan = \"allow\"" => [
        "warning 4:8: this rule has no effect: user `a` is in [deny] on line 2, which wins -> remove one of the two",
    ];
    a_name_is_allowed_once: "[allow]\nusers = [\"a\", \"b\", \"a\"]\ngroups = [1, \"1\"]" => [
        "warning 2:20: `a` is in allow.users twice -> remove one",
        "warning 3:14: `1` is in allow.groups twice -> remove one",
    ];
    a_name_is_denied_once: "[deny]\nusers = [\"a\", \"a\"]" => [
        "warning 2:15: `a` is in deny.users twice -> remove one",
    ];
}

#[test]
fn a_file_that_denies_a_user_overrules_the_built_in_allow_list() {
    let config = config("[deny]\nusers = [\"mailman\"]");
    assert_eq!(texts(&config.allow.users), ["root", "exim", "Debian-exim", "mailnull", "list", "postfix"]);
    assert_eq!(texts(&config.deny), ["mailman"]);
}

#[test]
fn a_file_that_allows_a_user_overrules_the_built_in_deny_list() {
    let config = config("[allow]\nusers = [\"nobody\"]");
    assert_eq!((texts(&config.allow.users), texts(&config.deny)), (vec!["nobody".to_owned()], vec![]));
}

#[test]
fn a_rule_overrules_the_built_in_lists() {
    let config = config(
        "[[rule]]\nuser = \"nobody\"\nplan = \"standard\"\n[[rule]]\nuser = \"list\"\nplan = \"standard\"\n[[rule]]\ngroup = \"root\"\nplan = \"deny\"",
    );
    assert_eq!(texts(&config.allow.users), ["root", "exim", "Debian-exim", "mailnull", "mailman", "postfix"]);
    assert_eq!(config.deny, []);
    assert_eq!(config.rules.iter().filter(|rule| matches!(rule.subject, Subject::User(_))).count(), 2);
}

#[test]
fn an_empty_list_is_not_an_absent_one() {
    let config = config("[allow]\nusers = []\n[deny]\nusers = []");
    assert_eq!((config.allow.users, config.deny), (vec![], vec![]));
}

#[test]
fn containers_have_the_default_plan_unless_told_otherwise() {
    assert_eq!(config("[default]\nplan = \"deny\"").containers_plan, PlanRef::Deny);
    assert_eq!(config("[containers]\nplan = \"allow\"").default_plan, PlanRef::Plan(0));
}

#[test]
fn the_built_in_standard_plan_is_there_only_when_it_is_used() {
    assert_eq!(config("[default]\nplan = \"deny\"").plans, []);
    let own = config("[plan.standard]\nper_day = 7").plans;
    assert_eq!(
        (own.len(), own[0].connections.per_hour, own[0].connections.per_day),
        (1, None, Some(7)),
        "an own one takes nothing from it"
    );
}

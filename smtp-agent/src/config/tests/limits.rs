//! Limits of messages and recipients, the failure brake, submissions to the local MTA, lists.

use std::time::Duration;

use super::{cases, config, texts};
use crate::config::{PlanRef, Quota, Release};

cases! {
    messages_are_followed_or_not: "[smtp]\nmessages = \"no\"" => [
        "error 2:12: `messages` must be true or false, not a text -> write messages = false",
    ];
    messages_may_be_left_alone: "[smtp]\nmessages = false\n[plan.standard]\nper_hour = 5\nlocal = true" => [];
    a_limit_of_messages_needs_them_followed: "[smtp]\nmessages = false\n[plan.a]\nmessages_per_day = 5" => [
        "error 4:20: `messages_per_day` cannot hold: `messages` in [smtp] is false on line 2, so none are counted \
         -> remove one of the two",
    ];
    limits_of_recipients_and_a_brake_need_them_too: "[plan.a]\nrecipients_per_hour = 9\nmax_failed_percent = 50\n\
                                                     [host]\nmessages_per_day = 5\n[smtp]\nmessages = false" => [
        "error 2:23: `recipients_per_hour` cannot hold: `messages` in [smtp] is false on line 7, so none are counted \
         -> remove one of the two",
        "error 3:22: `max_failed_percent` cannot hold: `messages` in [smtp] is false on line 7, so none are counted \
         -> remove one of the two",
        "error 5:20: `messages_per_day` cannot hold: `messages` in [smtp] is false on line 7, so none are counted \
         -> remove one of the two",
    ];

    a_slip_in_a_limit_of_messages_names_it: "[plan.a]\nmessage_per_hour = 5" => [
        "error 2:1: unknown key `message_per_hour` in [plan.a] -> did you mean `messages_per_hour`?",
    ];
    a_limit_of_messages_is_a_number: "[host]\nmessages_per_day = -1" => [
        "error 2:20: `messages_per_day` must be from 0 to 1000000000, not -1 -> for no limit leave the key out",
    ];
    a_limit_of_no_messages_is_not_unlimited: "[plan.a]\nmessages_per_hour = 0" => [
        "warning 2:21: `messages_per_hour = 0` refuses every message -> for no limit leave the key out",
    ];
    a_limit_of_no_recipients_is_not_unlimited: "[host]\nrecipients_per_day = 0" => [
        "warning 2:22: `recipients_per_day = 0` refuses every recipient -> for no limit leave the key out",
    ];
    an_hour_of_messages_above_the_day_says_nothing: "[plan.a]\nmessages_per_hour = 10\nmessages_per_day = 5" => [
        "warning 2:21: `messages_per_hour` is never reached: `messages_per_day` is 5",
    ];
    an_hour_of_recipients_above_the_day_says_nothing: "[host]\nrecipients_per_day = 5\nrecipients_per_hour = 6" => [
        "warning 3:23: `recipients_per_hour` is never reached: `recipients_per_day` is 5",
    ];
    fewer_recipients_than_messages_hide_the_messages: "[host]\nmessages_per_hour = 10\nrecipients_per_hour = 9\n\
                                                       messages_per_day = 20\nrecipients_per_day = 20" => [
        "warning 2:21: `messages_per_hour` is never reached: `recipients_per_hour` is 9, \
         and every message has a recipient",
    ];
    executions_of_sendmail_are_messages_without_recipients: "[plan.a]\nmessages_per_hour = 10\n\
                                                             recipients_per_hour = 9\nlocal = true" => [];
    a_plan_may_limit_messages_alone: "[plan.a]\nmessages_per_hour = 10" => [];
    a_plan_may_have_a_brake_alone: "[plan.a]\nmax_failed_percent = 50" => [];
    a_plan_that_only_says_local_limits_nothing: "[plan.a]\nlocal = true" => [
        "warning 1:7: plan `a` has no limit \
         -> add per_hour, messages_per_hour or another; for no limits use the built-in plan \"allow\"",
    ];
    local_is_a_boolean: "[plan.a]\nper_day = 1\nlocal = \"on\"" => [
        "error 3:9: `local` must be true or false, not a text -> write local = true",
    ];

    a_share_is_a_percentage: "[plan.a]\nmax_failed_percent = 101" => [
        "error 2:22: `max_failed_percent` must be from 1 to 100, not 101",
    ];
    no_share_at_all_is_none: "[plan.a]\nmax_failed_percent = 0" => [
        "error 2:22: `max_failed_percent` must be from 1 to 100, not 0",
    ];
    a_share_of_all_is_never_passed: "[plan.a]\nmax_failed_percent = 100" => [
        "warning 2:22: `max_failed_percent = 100` never brakes: no more than all can fail \
         -> write a smaller share, or remove it",
    ];
    a_sample_is_not_empty: "[plan.a]\nmax_failed_percent = 50\nmin_failed = 0" => [
        "error 3:14: `min_failed` must be from 1 to 1000000000, not 0",
    ];
    a_brake_belongs_to_a_plan: "[host]\nmax_failed_percent = 50" => [
        "error 2:1: unknown key `max_failed_percent` in [host] -> `max_failed_percent` belongs in [plan.NAME]",
    ];
    parts_of_a_brake_without_the_share_do_nothing: "[plan.a]\nper_day = 1\nmin_failed = 5\nrelease_after = \"1h\"" => [
        "warning 3:14: `min_failed` does nothing without `max_failed_percent` -> add max_failed_percent, or remove it",
        "warning 4:17: `release_after` does nothing without `max_failed_percent` \
         -> add max_failed_percent, or remove it",
    ];
    a_misspelled_share_is_not_called_missing: "[plan.a]\nper_day = 1\nmin_failed = 5\nmax_failed_percnt = 50" => [
        "error 4:1: unknown key `max_failed_percnt` in [plan.a] -> did you mean `max_failed_percent`?",
    ];

    a_release_is_a_length_of_time: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"soon\"" => [
        "error 3:17: `release_after` must be a length of time such as \"30m\", or \"never\", not \"soon\"",
    ];
    a_release_may_be_left_to_people: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"never\"" => [];
    never_is_written_small: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"Never\"" => [
        "error 3:17: `release_after` must be a length of time such as \"30m\", or \"never\", not \"Never\" \
         -> write \"never\"",
    ];
    a_release_of_none_is_said_by_silence: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"none\"" => [
        "error 3:17: `release_after` must be a length of time such as \"30m\", or \"never\", not \"none\" \
         -> leave the key out to hold until the share has fallen, or write \"never\" to release it by hand",
    ];
    a_release_of_false_is_said_by_silence: "[plan.a]\nmax_failed_percent = 50\nrelease_after = false" => [
        "error 3:17: `release_after` must be a length of time in quotes, as in \"30m\", or \"never\", not false \
         -> leave the key out to hold until the share has fallen, or write \"never\" to release it by hand",
    ];
    a_bare_number_is_no_length_of_time: "[plan.a]\nmax_failed_percent = 50\nrelease_after = 30" => [
        "error 3:17: `release_after` must be a length of time in quotes, as in \"30m\", or \"never\", not a number \
         -> write \"30s\" for seconds or \"30m\" for minutes",
    ];
    a_release_has_whole_seconds: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"1500ms\"" => [
        "error 3:17: `release_after` must be in whole seconds, not \"1500ms\"",
    ];
    a_release_takes_a_second: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"0s\"" => [
        "error 3:17: `release_after` must be from \"1s\" to \"30d\", not \"0s\" \
         -> leave the key out to hold until the share has fallen, or write \"never\" to release it by hand",
    ];
    a_release_takes_up_to_30_days: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"30d\"" => [];
    a_release_takes_no_longer: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"30d 1s\"" => [
        "error 3:17: `release_after` must be from \"1s\" to \"30d\", not \"30d 1s\"",
    ];
    a_month_is_not_a_minute: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"1M\"" => [
        "error 3:17: `release_after` must be from \"1s\" to \"30d\", not \"1M\" \
         -> `M` is a month; write `m` for minutes",
    ];
    a_release_of_any_size_is_read: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"99999999999999999999y\"" => [
        "error 3:17: `release_after` must be a length of time such as \"30m\", or \"never\", \
         not \"99999999999999999999y\"",
    ];
    a_release_has_no_terminal_escapes: "[plan.a]\nmax_failed_percent = 50\nrelease_after = \"1\\u001b[2J\"" => [
        "error 3:17: `release_after` must be a length of time such as \"30m\", or \"never\", not \"1\\u{1b}[2J\"",
    ];

    programs_need_not_exist: "[smtp]\nsendmail = [\"/no/such/program\"]" => [];
    no_program_at_all_is_a_choice: "[smtp]\nsendmail = []" => [];
    false_is_no_list_of_programs: "[smtp]\nsendmail = false" => [
        "error 2:12: `sendmail` must be a list of paths, not false -> for none write sendmail = []",
    ];
    one_program_is_a_list_too: "[smtp]\nsendmail = \"/usr/sbin/sendmail\"" => [
        "error 2:12: `sendmail` must be a list of paths, not a text -> write sendmail = [\"/usr/sbin/sendmail\"]",
    ];
    a_program_has_an_absolute_path: "[smtp]\nsendmail = [\"sendmail\"]" => [
        "error 2:13: `sendmail` takes paths of programs: it is not absolute -> begin it with /",
    ];
    a_program_is_not_the_root: "[smtp]\nsendmail = [\"/\"]" => [
        "error 2:13: `sendmail` takes paths of programs: it is the root directory",
    ];
    a_program_is_a_text: "[smtp]\nsendmail = [25]" => [
        "error 2:13: `sendmail` takes paths in quotes, not a number",
    ];
    a_program_stands_once: "[smtp]\nsendmail = [\"/a\", \"/b\", \"/a\"]" => [
        "warning 2:25: `/a` is in sendmail twice -> remove one",
    ];
    programs_have_an_end: &format!("[smtp]\nsendmail = {:?}", (0..33).map(|n| format!("/{n:02}")).collect::<Vec<_>>()) => [
        "error 2:237: `sendmail` takes up to 32 paths, not 33",
    ];

    lists_are_counted_or_not: "[host]\ncount_lists = \"false\"" => [
        "error 2:15: `count_lists` must be true or false, not a text -> write count_lists = false",
    ];
    lists_may_be_left_out: "[host]\ncount_lists = false" => [];
    who_is_a_list_matters_only_where_lists_are_left_out: "[host]\nlist_users = [\"sympa\"]" => [
        "warning 2:1: `list_users` does nothing as long as `count_lists` is true \
         -> add count_lists = false, or remove it",
    ];
    nobody_is_no_list: "[host]\ncount_lists = false\nlist_users = []" => [
        "warning 3:1: `list_users` is empty, so `count_lists = false` does nothing \
         -> name the users whose mails are not to be counted",
    ];
    a_list_is_named_once: "[host]\ncount_lists = false\nlist_users = [\"a\", \"a\"]" => [
        "warning 3:20: `a` is in host.list_users twice -> remove one",
    ];
}

#[test]
fn a_brake_has_a_sample_of_five_and_no_time_unless_told_otherwise() {
    let plans =
        config("[plan.a]\nmax_failed_percent = 30\n[plan.b]\nmax_failed_percent = 99\nrelease_after = \"90s\"").plans;
    let brakes: Vec<_> = plans.iter().filter_map(|plan| plan.brake).collect();
    assert_eq!((brakes[0].max_failed_percent, brakes[0].min_failed, brakes[0].release), (30, 5, Release::WhenFallen));
    assert_eq!(brakes[1].release, Release::After(Duration::from_secs(90)));
    let brake = config("[plan.a]\nmax_failed_percent = 30\nrelease_after = \"never\"").plans[0].brake;
    assert_eq!(brake.map(|brake| brake.release), Some(Release::Never));
}

#[test]
fn lists_that_are_left_out_are_the_built_in_ones_unless_they_are_named() {
    let host = |text: &str| config(&format!("[host]\ncount_lists = false\n{text}")).host;
    assert_eq!(texts(&host("").list_users), ["mailman", "list"]);
    assert_eq!(texts(&host("list_users = [\"sympa\", 38]").list_users), ["sympa", "38"]);
}

#[test]
fn an_own_standard_plan_with_a_limit_of_messages_limits_no_connections() {
    let config = config("[plan.standard]\nmessages_per_hour = 9");
    assert_eq!(config.default_plan, PlanRef::Plan(0));
    let plan = &config.plans[0];
    let nine = Quota { per_hour: Some(9), per_day: None };
    assert_eq!((plan.connections, plan.messages), (Quota::default(), nine));
}

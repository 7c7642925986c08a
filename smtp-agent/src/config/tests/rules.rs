//! Who has which plan, and what is allowed or denied whatever the plan: subjects, cgroups, networks, ports.

use proptest::prelude::*;

use super::{cases, config};
use crate::config::{Network, Pattern, PlanRef, Subject, parse_str};

/// Places are those of the second line.
fn cgroup(pattern: &str) -> String {
    format!("[[rule]]\ncgroup = '{pattern}'\nplan = \"deny\"")
}

/// Places are those of the second line.
fn to(networks: &str) -> String {
    format!("[[rule]]\nto = {networks}\nplan = \"deny\"")
}

cases! {
    a_rule_may_be_for_a_cgroup: &cgroup("/system.slice/php*.service") => [];
    a_cgroup_has_one_rule: &format!("{}\n{}", cgroup("/a"), cgroup("/a")) => [
        "error 5:10: cgroup `/a` already has a rule on line 2 -> remove one of the two",
    ];
    each_and_strict_are_for_cgroups: "[[rule]]\nuser = \"a\"\nplan = \"standard\"\neach = true\nstrict = false" => [
        "error 4:1: `each` is only for a rule with `cgroup` -> remove it",
        "error 5:1: `strict` is only for a rule with `cgroup` -> remove it",
    ];
    each_is_a_boolean: "[[rule]]\ncgroup = \"/a\"\nplan = \"standard\"\neach = 1" => [
        "error 4:8: `each` must be true or false, not a number -> write each = true",
    ];
    each_does_nothing_where_nothing_is_counted: "[[rule]]\ncgroup = \"/a\"\nplan = \"deny\"\neach = true\nstrict = true" => [
        "warning 4:1: `each` does nothing with plan = \"deny\": it has no limit -> remove it",
    ];
    strict_does_nothing_where_nothing_is_refused: "[[rule]]\ncgroup = \"/a\"\nplan = \"allow\"\nstrict = true" => [
        "warning 4:1: `strict` does nothing with plan = \"allow\": it has no limit -> remove it",
    ];
    a_misspelled_subject_is_not_called_missing: "[[rule]]\nusr = \"a\"\nplan = \"deny\"" => [
        "error 2:1: unknown key `usr` in [[rule]] -> did you mean `user`?",
    ];

    patterns_are_read: &["/a/[b-c]?.scope", "/{a,b}.slice", "/**/x.service", "/a/**", "/*", r"/a\x2db", "/a,b", "/ä*"]
        .map(|pattern| cgroup(pattern) + "\n").concat() => [];
    a_cgroup_begins_at_the_root: &cgroup("system.slice") => [
        "error 2:10: \"system.slice\" is not a usable cgroup: it does not begin with / \
         -> begin it with /, the root of the cgroup hierarchy",
    ];
    a_cgroup_rule_is_not_for_all: &cgroup("/") => [
        "error 2:10: \"/\" is not a usable cgroup: it matches everything -> use [default] plan",
    ];
    a_pattern_of_everything_is_not_for_all_either: &cgroup("/**") => [
        "error 2:10: \"/**\" is not a usable cgroup: it matches everything -> use [default] plan",
    ];
    a_cgroup_has_no_slash_at_the_end: &cgroup("/a/") => [
        "error 2:10: \"/a/\" is not a usable cgroup: it ends with / -> remove the last /; what lies below is matched too",
    ];
    a_cgroup_does_not_climb: &cgroup("/a/../b") => [
        "error 2:10: \"/a/../b\" is not a usable cgroup: it contains `.` or `..` -> write the path without it",
    ];
    a_cgroup_has_single_slashes: &cgroup("/a//b") => [
        "error 2:10: \"/a//b\" is not a usable cgroup: it contains // -> write / once",
    ];
    a_cgroup_is_not_a_directory_of_the_host: &cgroup("/sys/fs/cgroup/system.slice") => [
        "error 2:10: \"/sys/fs/cgroup/system.slice\" is not a usable cgroup: it begins with the mount point \
         -> write what comes after /sys/fs/cgroup",
    ];
    a_cgroup_is_not_empty: &cgroup("") => ["error 2:10: \"\" is not a usable cgroup: it is empty"];
    a_cgroup_is_a_text: "[[rule]]\ncgroup = 5\nplan = \"deny\"" => [
        "error 2:10: `cgroup` must be a text in quotes, not a number",
    ];
    two_stars_stand_alone: &cgroup("/a**b") => [
        "error 2:10: \"/a**b\" is not a usable cgroup: `**` must stand alone between two / \
         -> write one *, or `**` as a part of its own",
    ];
    a_bracket_is_closed: &cgroup("/a[b") => [
        "error 2:10: \"/a[b\" is not a usable cgroup: `[` is not closed -> add `]`, or write `[[]` for the character",
    ];
    a_brace_is_closed: &cgroup("/a{b,c") => [
        "error 2:10: \"/a{b,c\" is not a usable cgroup: `{` is not closed -> add `}`, or write `[{]` for the character",
    ];
    a_brace_is_opened: &cgroup("/a}") => [
        "error 2:10: \"/a}\" is not a usable cgroup: `}` closes nothing -> add `{`, or write `[}]` for the character",
    ];
    a_range_ascends: &cgroup("/a[z-b]") => [
        "error 2:10: \"/a[z-b]\" is not a usable cgroup: the range z-b is empty -> write b-z",
    ];
    braces_are_not_nested_without_end: &cgroup(&format!("/{}{}", "{".repeat(9), "}".repeat(9))) => [
        "error 2:10: \"/{{{{{{{{{}}}}}}}}}\" is not a usable cgroup: its braces are nested too deeply \
         -> write one rule for each",
    ];

    a_destination_is_a_network_or_a_list: &format!("{}\n{}", to("\"192.0.2.0/24\""), to("[\"2001:db8::/32\", \"192.0.2.1\"]")) => [];
    an_exception_is_for_one_port_or_two: "[[rule]]\nports = [465, 25]\nplan = \"deny\"" => [];
    an_exception_may_have_two_subjects: "[[rule]]\nuser = \"a\"\ngroup = \"b\"\nplan = \"allow\"" => [];
    an_exception_has_no_limits: "[[rule]]\nuser = \"a\"\nto = \"192.0.2.1\"\nplan = \"standard\"" => [
        "error 4:8: a rule with a destination, a port or two subjects can only allow or deny \
         -> limit the user with a rule of its own",
    ];
    an_exception_of_a_misspelled_word_names_it: "[[rule]]\nports = [25]\nplan = \"Deny\"" => [
        "error 3:8: a rule with a destination, a port or two subjects can only allow or deny -> did you mean \"deny\"?",
    ];
    an_exception_has_no_limits_of_its_own: "[[rule]]\ngroup = \"a\"\nports = [25]\nper_hour = 5\nstrict = true" => [
        "error 4:1: `per_hour` cannot stand in a rule with a destination, a port or two subjects \
         -> limit the group with a rule of its own",
        "error 5:1: `strict` cannot stand in a rule with a destination, a port or two subjects \
         -> limit the group with a rule of its own",
    ];
    an_exception_allows_or_denies: "[[rule]]\nto = \"192.0.2.1\"" => [
        "error 1:1: this rule has no plan -> add plan = \"allow\" or plan = \"deny\"",
    ];
    an_exception_without_a_subject_sends_limits_elsewhere: "[[rule]]\nto = \"192.0.2.1\"\nplan = \"bulk\"" => [
        "error 3:8: a rule with a destination, a port or two subjects can only allow or deny \
         -> limit a user, group or cgroup with a rule of its own",
    ];
    a_port_that_is_not_looked_at_never_matches: "[smtp]\nports = [25]\n[[rule]]\nports = [25, 587]\nplan = \"deny\"" => [
        "warning 4:14: port 587 is not in [smtp] ports: this never matches -> add it to [smtp] ports, or remove it",
    ];
    no_port_at_all_matches_nothing: "[[rule]]\nports = []\nplan = \"deny\"" => [
        "error 2:9: `ports` is empty: no connection would match -> leave the key out for all in [smtp] ports",
    ];
    one_port_of_an_exception_is_a_list_too: "[[rule]]\nports = 25\nplan = \"deny\"" => [
        "error 2:9: `ports` must be a list of ports, not a number -> write ports = [25]",
    ];
    an_exception_stands_once: "[[rule]]\nuser = \"a\"\nto = [\"192.0.2.1\", \"::1\"]\nplan = \"deny\"\n\
                               [[rule]]\nto = [\"::1\", \"192.0.2.1\"]\nuser = \"a\"\nplan = \"allow\"" => [
        "error 5:1: there already is a rule for the same connections on line 1 -> remove one of the two",
    ];
    an_exception_for_an_exempt_user_has_no_effect: "[[rule]]\nuser = \"root\"\nports = [25]\nplan = \"deny\"" => [
        "warning 2:8: this rule has no effect: user `root` is in [allow] at built-in defaults:2:10, which wins \
         -> remove one of the two",
    ];
    an_exception_for_an_exempt_group_has_no_effect: "[allow]\ngroups = [\"a\"]\n[[rule]]\ngroup = \"a\"\nto = \"::1\"\nplan = \"deny\"" => [
        "warning 4:9: this rule has no effect: group `a` is in [allow] on line 2, which wins -> remove one of the two",
    ];

    every_destination_is_none: &to("\"0.0.0.0/0\"") => [
        "error 2:6: \"0.0.0.0/0\" is every destination -> for any destination leave `to` out",
    ];
    a_network_ends_at_its_prefix: &to("\"192.0.2.7/24\"") => [
        "error 2:6: \"192.0.2.7/24\" has bits beyond its prefix of 24 \
         -> write \"192.0.2.0/24\" for the network, or the address alone",
    ];
    a_network_of_ipv6_ends_at_its_prefix_too: &to("[\"2001:db8::1/64\"]") => [
        "error 2:7: \"2001:db8::1/64\" has bits beyond its prefix of 64 \
         -> write \"2001:db8::/64\" for the network, or the address alone",
    ];
    ipv4_is_written_as_ipv4: &to("\"::ffff:192.0.2.0/120\"") => [
        "error 2:6: \"::ffff:192.0.2.0/120\" is IPv4 in the form of IPv6 -> write \"192.0.2.0/24\"",
    ];
    a_prefix_has_an_end: &to("\"192.0.2.0/33\"") => [
        "error 2:6: \"192.0.2.0/33\" is not an address or network \
         -> a prefix goes from 1 to 32, as in \"192.0.2.0/32\"",
    ];
    a_mask_is_written_as_a_prefix: &to("\"192.0.2.0/255.255.255.0\"") => [
        "error 2:6: \"192.0.2.0/255.255.255.0\" is not an address or network -> write \"192.0.2.0/24\"",
    ];
    a_port_of_a_destination_is_written_elsewhere: &to("[\"192.0.2.1:25\", \"[::1]:25\"]") => [
        "error 2:7: \"192.0.2.1:25\" is not an address or network -> write \"192.0.2.1\", and ports in `ports`",
        "error 2:23: \"[::1]:25\" is not an address or network -> write the address without brackets, and ports in `ports`",
    ];
    a_destination_is_not_looked_up: &to("\"mail.example\"") => [
        "error 2:6: \"mail.example\" is not an address or network -> names are not looked up here; write addresses",
    ];
    a_range_is_written_as_networks: &to("\"192.0.2.1-192.0.2.9\"") => [
        "error 2:6: \"192.0.2.1-192.0.2.9\" is not an address or network \
         -> write networks, as in \"192.0.2.0/24\", rather than a range",
    ];
    a_destination_is_a_text: &to("[25]") => ["error 2:7: `to` takes addresses and networks in quotes, not a number"];
    no_destination_at_all_matches_nothing: &to("[]") => [
        "error 2:6: `to` is empty: no connection would match -> leave the key out for any destination",
    ];
    a_network_stands_once: &to("[\"192.0.2.1\", \"192.0.2.1/32\"]") => [
        "warning 2:20: `192.0.2.1` is in `to` twice -> remove one",
    ];
}

#[test]
fn a_rule_with_one_subject_and_nothing_else_is_no_exception() {
    let config =
        config("[[rule]]\nuser = \"a\"\nplan = \"deny\"\n[[rule]]\nuser = \"a\"\nports = [25]\nplan = \"allow\"");
    assert_eq!((config.rules.len(), config.exceptions.len()), (1, 1));
    assert!(matches!(&config.rules[0].subject, Subject::User(_)));
    assert_eq!((config.rules[0].plan, config.exceptions[0].allow), (PlanRef::Deny, true));
}

#[test]
fn a_broken_exception_is_not_a_wider_one() {
    let text = "[[rule]]\nuser = \"a:b\"\nto = \"192.0.2.300\"\nplan = \"allow\"";
    let problems = parse_str("test", text).expect_err("errors");
    assert_eq!(problems.errors(), 2);
}

#[test]
fn an_exception_does_not_take_a_name_from_the_built_in_lists() {
    let text = "[[rule]]\nuser = \"nobody\"\nto = \"192.0.2.1\"\nplan = \"allow\"";
    let loaded = parse_str("test", text).unwrap();
    assert_eq!(super::texts(&loaded.config.deny), ["nobody"]);
    assert_eq!(loaded.warnings.warnings(), 1, "{}", loaded.warnings);
}

fn matches(pattern: &str, path: &str) -> bool {
    Pattern::parse(pattern).unwrap().glob().compile_matcher().is_match(path)
}

#[test]
fn a_pattern_matches_whole_components() {
    assert!(matches("/system.slice/php*.service", "/system.slice/php8.2-fpm.service"));
    assert!(!matches("/system.slice/php*.service", "/system.slice/php/x.service"), "a star stays in its component");
    assert!(!matches("/a", "/a/b"), "what lies below is for who walks up from it");
    assert!(matches("/**/x", "/x") && matches("/**/x", "/a/b/x") && !matches("/**/x", "/a/bx"));
    assert!(matches("/a/**/x", "/a/x") && matches("/a/**/x", "/a/b/c/x"));
    assert!(matches("/{a,b}.slice", "/b.slice") && matches("/a[0-9]?", "/a7b"));
}

#[test]
fn a_backslash_is_part_of_a_name() {
    assert!(matches(r"/user\x2drun-*.scope", r"/user\x2drun-r1.scope"));
    assert!(!matches(r"/a\*", "/a*") && matches("/a[*]", "/a*"));
}

#[test]
fn a_network_is_shown_as_it_is_written() {
    for text in ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "::1"] {
        assert_eq!(Network::parse(text).unwrap().to_string(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pattern_that_is_accepted_can_be_compiled(text in "/[a-c/*?{},!^\\[\\]\\\\\u{e4}\u{7ff}\u{800}-]{1,24}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            pattern.glob().compile_matcher().is_match("/a/b");
        }
    }

    #[test]
    fn any_text_for_a_network_gets_an_answer(text in "[0-9a-f:./\\[\\]-]{0,24}") {
        if let Ok(network) = Network::parse(&text) {
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
        }
    }
}

#[test]
fn the_longest_patterns_that_are_accepted_can_be_compiled() {
    let fill = |unit: &str| format!("/{}", unit.repeat(4094 / unit.len()));
    let mut texts = ["?", "a*", "[!a]", "{a,b}", "{,a*}", "\u{10ffff}"].map(fill).to_vec();
    texts.push(format!("/{}x", "**/".repeat(1300)));
    texts.push(format!("/{}{}{}", "{".repeat(8), "a,?".repeat(1300), "}".repeat(8)));
    for text in texts {
        let pattern = Pattern::parse(&text).unwrap_or_else(|(why, _)| panic!("{why}"));
        assert!(!pattern.glob().compile_matcher().is_match("/"));
    }
}

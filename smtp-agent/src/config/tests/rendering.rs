//! What the reader sees, to the character.

use std::sync::Arc;

use super::parse_str;
use crate::config::{Place, Problem, Problems, Source};

#[track_caller]
fn shows(text: &str, wanted: &str) {
    let problems = parse_str("/etc/smtp-agent/config.toml", text).expect_err("an error");
    assert_eq!(problems.to_string(), wanted);
}

/// The rendering of one error at `range` of `text`.
fn at(text: &str, range: std::ops::Range<usize>) -> String {
    let source = Source::new("f", text, 0);
    Problems::from(Problem::error("m").at(Place::new(&source, range))).to_string()
}

#[test]
fn a_fault_is_shown_with_its_line_a_caret_and_advice() {
    shows(
        "# The policy of this host.\n\n[plan.standard]\nper_houre = 100\n",
        "\
error: /etc/smtp-agent/config.toml:4:1: unknown key `per_houre` in [plan.standard]
    4 | per_houre = 100
      | ^^^^^^^^^ did you mean `per_hour`?",
    );
}

#[test]
fn all_faults_are_shown_in_the_order_of_the_file() {
    shows(
        "mode = enforce\n[plan.bulk]\n[host]\nstrict = 1\n[smtp]\nports = [0]\n",
        "\
error: /etc/smtp-agent/config.toml:1:8: this is not a value; a text must be in quotes
    1 | mode = enforce
      |        ^^^^^^^ write \"enforce\"
error: /etc/smtp-agent/config.toml:4:10: `strict` must be true or false, not a number
    4 | strict = 1
      |          ^ write strict = true
error: /etc/smtp-agent/config.toml:6:10: `ports` must be from 1 to 65535, not 0
    6 | ports = [0]
      |          ^",
    );
}

#[test]
fn tabs_keep_the_caret_under_the_fault() {
    shows(
        "[host]\n\t\tper_day\t=\ttrue",
        "\
error: /etc/smtp-agent/config.toml:2:13: `per_day` must be a whole number from 0 to 1000000000, not true
    2 |         per_day    =    true
      |                         ^^^^",
    );
}

#[test]
fn wide_and_multibyte_characters_count_as_one_column_and_the_caret_stands_below_the_fault() {
    shows(
        "[deny]\nusers = [\"jörg\", \"漢字\", \"a:b\"]",
        "\
error: /etc/smtp-agent/config.toml:2:24: \"a:b\" is not a name: `:` cannot be part of one
    2 | users = [\"jörg\", \"漢字\", \"a:b\"]
      |                   \u{3000}\u{3000}   ^^^^^",
    );
}

#[test]
fn terminal_escapes_of_a_hostile_file_never_reach_the_terminal() {
    shows(
        "mode = \"\u{1b}[2J\u{202e}x\u{9b}\"\n",
        "\
error: /etc/smtp-agent/config.toml:1:9: a text cannot hold this character
    1 | mode = \"\\u{1b}[2J\\u{202e}x\\u{9b}\"
      |         ^^^^^^ remove it",
    );
}

#[test]
fn hostile_names_are_escaped_in_messages_and_hints() {
    shows(
        "[default]\nplan = \"x\\u001b[0m\\nerror: gone\"",
        "\
error: /etc/smtp-agent/config.toml:2:8: there is no plan `x\\u{1b}[0m\\nerror: gone`
    2 | plan = \"x\\u001b[0m\\nerror: gone\"
      |        ^^^^^^^^^^^^^^^^^^^^^^^^^ define [plan.x\\u{1b}[0m\\nerror: gone], or use one of \"standard\", \"deny\", \"allow\"",
    );
}

#[test]
fn long_lines_are_shortened_around_the_caret() {
    let text = format!("{}FAULT{}", "a".repeat(1000), "b".repeat(1000));
    let (before, after) = ("a".repeat(60), "b".repeat(55));
    let blank = " ".repeat(61);
    assert_eq!(
        at(&text, 1000..1005),
        format!("error: f:1:1001: m\n    1 | …{before}FAULT{after}…\n      | {blank}^^^^^")
    );
    assert_eq!(
        at(&text, 1000..2005),
        format!("error: f:1:1001: m\n    1 | …{before}FAULT{after}…\n      | {blank}{}", "^".repeat(60))
    );
}

#[test]
fn a_fault_over_several_lines_is_marked_on_its_first() {
    assert_eq!(at("one\r\ntwo\r\n", 1..7), "error: f:1:2: m\n    1 | one\n      |  ^^");
}

#[test]
fn what_is_missing_at_the_end_is_missing_after_the_last_word() {
    assert_eq!(at("one\n\n\n", 6..6), "error: f:1:4: m\n    1 | one\n      |    ^");
    assert_eq!(at("", 0..0), "error: f:1:1: m\n    1 |\n      | ^");
    assert_eq!(at("one", 99..usize::MAX), "error: f:1:4: m\n    1 | one\n      |    ^");
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_first_line() {
    assert_eq!(at("\u{feff}one", 3..6), "error: f:1:1: m\n    1 | one\n      | ^^^");
    assert_eq!(at("\u{feff}one", 0..1), "error: f:1:1: m\n    1 | one\n      | ^");
}

#[test]
fn a_range_inside_a_character_covers_the_character() {
    assert_eq!(at("aöb", 2..2), "error: f:1:2: m\n    1 | aöb\n      |  ^");
}

#[test]
fn what_is_behind_the_host_of_a_url_is_not_shown() {
    for (line, fault, shown, below) in [
        (
            "url = 'http://h.example/T0/secret?a=b' # x",
            "'http://h.example/T0/secret?a=b'",
            "url = 'http://h.example/…' # x",
            "      ^^^^^^^^^^^^^^^^^^^^",
        ),
        ("url = 'http://h.example?secret'", "url", "url = 'http://h.example…'", "^^^"),
        ("url = 'https://me:secret@h.example/'", "'", "url = 'https://…@h.example/'", "      ^"),
        // Beside another fault of the line.
        ("a = ['http://h/secret', 'http://i/secret'] ?", "?", "a = ['http://h/…', 'http://i/…'] ?", &" ".repeat(33)),
        ("url = 'http://h/secret", "'http://h/secret", "url = 'http://h/…", "      ^^^^^^^^^^^"),
        ("url = 'http://h.example/' # fine", "'", "url = 'http://h.example/' # fine", "      ^"),
    ] {
        let start = if fault == "?" { line.len() - 1 } else { line.find(fault).unwrap() };
        let below = if below.ends_with('^') { below.to_owned() } else { format!("{below}^") };
        let wanted = format!("error: f:1:{}: m\n    1 | {shown}\n      | {below}", start + 1);
        assert_eq!(at(line, start..start + fault.len()), wanted);
    }
}

#[test]
fn line_numbers_stay_aligned() {
    let text = "\n".repeat(12_344) + "x";
    assert_eq!(at(&text, 12_344..12_345), "error: f:12345:1: m\n12345 | x\n      | ^");
}

#[test]
fn colors_are_added_only_when_asked_for() {
    let source = Source::new("f", "one", 0);
    let problems = Problems::from(Problem::warning("m").at(Place::new(&source, 0..3)).hint("h"));
    assert_eq!(
        problems.render(true),
        "\x1b[1;33mwarning\x1b[0m: f:1:1: m\n\x1b[34m    1 |\x1b[0m one\n      \x1b[34m|\x1b[0m \x1b[1;33m^^^ h\x1b[0m"
    );
    assert_eq!(problems.render(false), "warning: f:1:1: m\n    1 | one\n      | ^^^ h");
}

#[test]
fn a_problem_without_a_place_has_its_advice_below() {
    let problems = Problems::from(Problem::error("no file").hint("make one"));
    assert_eq!(problems.to_string(), "error: no file\n      = make one");
}

#[test]
fn messages_and_hints_of_later_stages_are_escaped_as_well() {
    let problems = Problems::from(Problem::error("no user `\u{1b}c`").hint("remove\n`\u{202e}`"));
    assert_eq!(problems.to_string(), "error: no user `\\u{1b}c`\n      = remove\\n`\\u{202e}`");
}

#[test]
fn problems_of_later_stages_fall_into_line_and_are_counted() {
    let [main, other] = [("main", 0), ("other", 1)].map(|(name, order)| Source::new(name, "one two", order));
    let warning = |source: &Arc<Source>, at: usize| Problem::warning("m").at(Place::new(source, at..at + 3));
    let mut problems = Problems::from(warning(&other, 0));
    problems.push(warning(&main, 4));
    let mut more = Problems::from(warning(&main, 0));
    more.push(Problem::error("no place"));
    problems.extend(more);
    problems.sort();
    let places: Vec<_> = problems.iter().map(|problem| problem.place.as_ref().map(ToString::to_string)).collect();
    assert_eq!(places, [None, Some("main:1:1".to_owned()), Some("main:1:5".to_owned()), Some("other:1:1".to_owned())]);
    assert_eq!(problems.summary(), "1 error, 3 warnings");
    assert_eq!(Problems::default().summary(), "no errors");
}

#[test]
fn beyond_a_bound_problems_are_only_counted() {
    let text = format!("[smtp]\nports = [{}]", "0,".repeat(Problems::KEPT + 7));
    let problems = parse_str("f", &text).expect_err("errors");
    // One more says that there are too many ports.
    assert_eq!((problems.errors(), problems.iter().count()), (Problems::KEPT + 8, Problems::KEPT));
    assert!(problems.to_string().ends_with("\nand 8 more"));
}

//! What is not TOML: said in plain words, once per line, without echoes further down.

use super::cases;

cases! {
    a_text_has_quotes: "mode = enforce" => [
        "error 1:8: this is not a value; a text must be in quotes -> write \"enforce\"",
    ];
    yes_is_true: "[host]\nstrict = yes" => [
        "error 2:10: this is not a value; a text must be in quotes -> write true",
    ];
    a_percent_sign_is_no_number: "[host]\nper_day = 5 %" => [
        "error 2:11: this is not a value; a text must be in quotes",
    ];
    a_key_has_a_value: "mode =\n" => [
        "error 1:7: the value is missing -> write a value after `=`, or remove the key",
    ];
    a_colon_is_no_equals_sign: "[default]\nplan: \"deny\"" => [
        "error 2:7: there is no `=` after this key -> write it with `=`, not `:`",
    ];
    a_key_has_an_equals_sign: "mode \"observe\"" => [
        "error 1:6: there is no `=` after this key -> write it as `key = value`",
    ];
    a_text_has_an_end: "mode = \"observe" => [
        "error 1:16: the text has no closing quote -> close it with `\"` on the same line",
    ];
    a_list_has_an_end: "[smtp]\nports = [25, 465\n" => ["error 2:17: the list is not closed -> add `]`"];
    a_list_that_swallows_the_next_line_says_so: "[smtp]\nports = [25, 465\n[host]\nper_day = 1" => [
        "error 3:1: a comma is missing between the elements of a list \
         -> add `,` before this, or close the list with `]`",
        "error 4:1: a comma is missing between the elements of a list \
         -> add `,` before this, or close the list with `]`",
    ];
    a_header_has_an_end: "[host\nper_day = 1" => ["error 1:6: the header is not closed -> add `]`"];
    a_key_stands_once: "mode = \"observe\"\nmode = \"enforce\"" => [
        "error 2:1: `mode` is there twice \
         -> a key or a table can stand only once in a file: merge them or remove one",
    ];
    a_table_stands_once: "[host]\nper_day = 1\n[host]\nstrict = true" => [
        "error 3:2: `host` is there twice \
         -> a key or a table can stand only once in a file: merge them or remove one",
    ];
    a_line_holds_one_key: "[host]\nper_day = 1 per_hour = 1" => [
        "error 2:22: this is one thing too many on the line -> begin a new line, or put `#` before a comment",
    ];
    a_backslash_begins_an_escape: "[paths]\nrun = \"C:\\quux\"" => [
        "error 2:11: a backslash begins an escape, and this is none \
         -> write `\\\\` for a backslash, or put the text in single quotes",
    ];
    a_number_has_no_leading_zero: "[host]\nper_day = 0100" => ["error 2:11: unexpected leading zero -> remove it"];
    nesting_has_an_end: &format!("mode = {}", "[".repeat(5000)) => [
        "error 1:88: nested too deeply -> no key of this file needs more than three levels",
    ];

    a_broken_header_does_not_accuse_the_keys_below: "[plan.bulk\nper_hour = 1\nper_day = 2\n[host]\nper_dya = 3" => [
        "error 1:11: the header is not closed -> add `]`",
        "error 5:1: unknown key `per_dya` in [host] -> did you mean `per_day`?",
    ];
    a_broken_header_does_not_accuse_those_who_use_it: "[default]\nplan = \"bulk\"\n[plan.bulk\nper_hour = 1" => [
        "error 3:11: the header is not closed -> add `]`",
    ];
    a_broken_value_does_not_hide_the_next_error: "mode = enforce\nmdoe = 1\n[host]\nper_day = \"1\"" => [
        "error 1:8: this is not a value; a text must be in quotes -> write \"enforce\"",
        "error 2:1: unknown key `mdoe` at the top level -> did you mean `mode`?",
        "error 4:11: `per_day` must be a whole number from 0 to 1000000000, not a text -> write 1",
    ];
}

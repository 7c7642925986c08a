//! `[notify]`: what is read of it, and what is said of what is wrong.

use super::{cases, config};
use crate::config::*;
use std::time::Duration;

fn names(text: &str) -> Vec<String> {
    config(text).notify.sinks.into_iter().map(|sink| sink.name).collect()
}

fn on(sink: &SinkEntry) -> Vec<Kind> {
    Kind::ALL.into_iter().filter(|kind| sink.on.has(*kind)).collect()
}

#[test]
fn a_sink_is_told_of_what_it_names_else_of_what_the_section_names_else_of_everything() {
    let text = "[notify]\non = ['brake', 'nobody']\n[[notify.mail]]\nto = 'root'\n\
                [[notify.command]]\nargv = ['/bin/x']\non = ['unusual']\n[notify.journald]\nenabled = true\n";
    let sinks = config(text).notify.sinks;
    let kinds: Vec<_> = sinks.iter().map(on).collect();
    let section = vec![Kind::Nobody, Kind::Brake];
    assert_eq!(kinds, [section.clone(), vec![Kind::Unusual], section]);
    let sinks = config("[[notify.mail]]\nto = 'root'\n").notify.sinks;
    assert_eq!(on(&sinks[0]), Kind::ALL);
    assert!(sinks[0].on.has(Kind::Test), "a test is told to everybody");
}

#[test]
fn what_all_sinks_want_is_what_any_wants() {
    let text = "[[notify.mail]]\nto = 'root'\non = ['brake']\n[[notify.mail]]\nto = 'root'\non = ['unusual']\n";
    let wanted = config(text).notify.wanted();
    assert_eq!(Kind::ALL.map(|kind| wanted.has(kind)), [false, false, false, true, false, true, false, false, false]);
    assert_eq!(config("").notify.wanted(), Kinds::NONE);
}

#[test]
fn sinks_have_names_of_their_own() {
    let two =
        "[[notify.mail]]\nto = 'a'\n[[notify.mail]]\nto = 'b'\n[[notify.command]]\nargv = ['/x']\nname = 'mail-3'\n";
    assert_eq!(names(two), ["mail", "mail-2", "mail-3"]);
    assert_eq!(names("[notify.journald]\nenabled = false\n"), [] as [&str; 0]);
}

#[test]
fn values_are_read_into_their_ways() {
    let text = "[[notify.mail]]\nto = ['root', 'ops@example.org']\nfrom = 'agent@example.org'\n\
                [[notify.webhook]]\nurl = 'https://h.example/a?b'\nsecret_file = '/k'\n\
                [[notify.command]]\nargv = ['/bin/x', '', '$y']\ntimeout = '1m'\n";
    let sinks = config(text).notify.sinks;
    let to = vec!["root".to_owned(), "ops@example.org".to_owned()];
    let from = Some("agent@example.org".to_owned());
    assert_eq!(sinks[0].way, Way::Mail { to, from, sendmail: "/usr/sbin/sendmail".into() });
    let url = "https://h.example/a?b".to_owned();
    assert_eq!(sinks[1].way, Way::Webhook { url, secret_file: Some("/k".into()) });
    let argv = ["/bin/x", "", "$y"].map(str::to_owned).to_vec();
    assert_eq!(sinks[2].way, Way::Command { argv, timeout: Duration::from_secs(60) });
}

#[test]
fn an_unknown_placeholder_names_file_line_and_those_there_are() {
    let problems =
        parse_str("test.toml", "[[notify.mail]]\nto = 'root'\nsubject = '{acount} on {host}'\n").unwrap_err();
    let shown = problems.render(false);
    assert!(shown.starts_with("error: test.toml:3:11: `subject`: `{acount}` is no placeholder\n"), "{shown}");
    assert!(shown.contains("did you mean {account}? known are {host}, {kind}, {what},"), "{shown}");
    assert!(shown.contains("and {withheld}"), "{shown}");
}

cases! {
    an_unknown_kind: "[notify]\non = ['hardlimit']" => [
        "error 2:7: \"hardlimit\" is no kind of notice -> did you mean \"hard_limit\"? known are soft_limit, hard_limit, \
         nobody, brake, first_time, unusual, host_quota_50, host_quota_80, host_quota_100",
    ];
    a_sink_without_an_address: "[[notify.mail]]\nfrom = 'a@b'\n[[notify.webhook]]\n[[notify.command]]" => [
        "error 1:1: this [[notify.mail]] has no `to` -> add to = [\"root\"]",
        "error 3:1: this [[notify.webhook]] has no `url` -> add url = \"https://…\"",
        "error 4:1: this [[notify.command]] has no `argv` -> add argv = [\"/path/of/program\"]",
    ];
    a_misspelled_key_is_the_only_problem: "[[notify.webhook]]\nurll = 'https://h.example'" => [
        "error 2:1: unknown key `urll` in [[notify.webhook]] -> did you mean `url`?",
    ];
    a_sink_in_single_brackets: "[notify.mail]\nto = 'root'" => [
        "error 1:9: `mail` must be a list of tables, not a single one -> write [[notify.mail]], in double brackets",
    ];
    the_journal_in_double_brackets: "[[notify.journald]]\nenabled = true" => [
        "error 1:10: `journald` is a table, not a list -> write [notify.journald], in single brackets and once",
    ];
    times_out_of_range: "[notify]\nrepeat = '0s'\ngroup_wait = 30\nlearn = '1y'\nmax_per_hour = 0" => [
        "error 2:10: `repeat` must be from \"1s\" to \"30d\", not \"0s\"",
        "error 3:14: `group_wait` must be a length of time in quotes, as in \"30m\", not a number \
         -> write \"30s\" for seconds or \"30m\" for minutes",
        "error 4:9: `learn` must be from \"0s\" to \"90d\", not \"1y\"",
        "error 5:16: `max_per_hour` must be from 1 to 3600, not 0",
    ];
    addresses_that_are_more_than_addresses: "[[notify.mail]]\nto = ['-bs', 'a b', \"a\\nBcc: x\", 'Ops <o@x>', 'a@b@c', '']" => [
        "error 2:7: \"-bs\" is not a mail address -> write it bare, as in \"root\" or \"ops@example.org\"",
        "error 2:14: \"a b\" is not a mail address -> write it bare, as in \"root\" or \"ops@example.org\"",
        "error 2:21: \"a\\nBcc: x\" is not a mail address -> write it bare, as in \"root\" or \"ops@example.org\"",
        "error 2:34: \"Ops <o@x>\" is not a mail address -> write it bare, as in \"root\" or \"ops@example.org\"",
        "error 2:47: \"a@b@c\" is not a mail address -> write it bare, as in \"root\" or \"ops@example.org\"",
        "error 2:56: \"\" is not a mail address -> write it bare, as in \"root\" or \"ops@example.org\"",
    ];
    urls_of_other_kinds: "[[notify.webhook]]\nurl = 'ftp://x'\n[[notify.webhook]]\nurl = '/hook'\n[[notify.alertmanager]]\nurl = 'https://me:secret@x/'\n[[notify.webhook]]\nurl = 'htps://x/secret?a'" => [
        "error 2:7: `url`: \"ftp://x\" is not a URL of http or https -> write it as in \"https://hooks.example.org/path\"",
        "error 4:7: `url`: \"/hook\" is not a URL of http or https -> write it as in \"https://hooks.example.org/path\"",
        "error 6:7: `url`: the URL has a user name or password in it \
         -> leave them out: this file may be readable, and webhooks are signed with `secret_file`",
        "error 8:7: `url`: \"htps://x/…\" is not a URL of http or https -> write it as in \"https://hooks.example.org/path\"",
    ];
    a_url_in_clear_is_a_warning_but_on_this_host: "[[notify.webhook]]\nurl = 'http://h.example/x'\n[[notify.webhook]]\nurl = 'http://127.0.0.1/'\n[[notify.webhook]]\nurl = 'http://[::1]:8/'" => [
        "warning 2:7: notices would go to h.example unencrypted -> write https://",
    ];
    a_command_that_is_no_list_of_words: "[[notify.command]]\nargv = []\n[[notify.command]]\nargv = ['tell me']\n[[notify.command]]\nargv = '/bin/x'" => [
        "error 2:8: `argv` is empty: it needs a program -> write argv = [\"/path/of/program\", \"argument\"]; there is no shell and no PATH",
        "error 4:8: `argv` must begin with the path of a program, not \"tell me\" -> write argv = [\"/path/of/program\", \"argument\"]; there is no shell and no PATH",
        "error 6:8: `argv` must be a list of words, not a text -> write argv = ['/bin/x']",
    ];
    two_sinks_of_one_name: "[[notify.mail]]\nto = 'a'\nname = 'ops'\n[[notify.command]]\nargv = ['/x']\nname = 'ops'" => [
        "error 6:8: the name `ops` already is that of a sink on line 3 -> add another name = \"…\"",
    ];
    a_name_that_does_not_fit: "[[notify.mail]]\nto = 'a'\nname = 'my sink'" => [
        "error 3:8: `name`: \"my sink\" is not the name of a sink -> use 1 to 32 letters, digits, `-` and `_`",
    ];
    a_subject_of_two_lines: "[[notify.mail]]\nto = 'a'\nsubject = \"a\\nb\"" => [
        "error 3:11: `subject`: a subject contains a line break or another control character -> write it on one line; what is longer belongs in `body`",
    ];
    a_sink_that_wants_nothing: "[[notify.mail]]\nto = 'a'\non = []" => [
        "warning 1:1: the sink `mail` is told of nothing: `on` is empty -> name kinds in `on`, or remove it",
    ];
}

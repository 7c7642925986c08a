//! `check`, and everything else that reads a configuration, names all that is wrong with it at once.

use crate::scene::{assert_has, assert_logged, json, refused_start};
use smtp_tests::{Agent, Etc, Must};
use std::{fs, path::Path};

/// Writes a configuration with this before and that behind what the fixture needs.
#[track_caller]
fn write(agent: &Agent, before: &str, behind: &str) -> String {
    agent.rewrite_config("");
    let text = fs::read_to_string(agent.config_path()).must("the configuration");
    let text = format!("{before}{text}\n{behind}");
    agent.rewrite_config_verbatim(&text);
    text
}

/// `FILE:LINE:COLUMN` of the first place where `fault` stands.
#[track_caller]
fn place(file: &Path, text: &str, fault: &str) -> String {
    let at = text.find(fault).must(format_args!("{fault} in {text}"));
    let line = text[..at].matches('\n').count() + 1;
    let column = at - text[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    format!("{}:{line}:{column}:", file.display())
}

#[test]
fn all_errors_of_all_files_are_named_with_place_caret_and_nearest_key() {
    let agent = Agent::builder().stopped();
    let before = "mode = \"enforcee\"\n";
    let behind = "[plan.bulk]\nper_houre = 5\n[smtp]\nports = [25, 0]\n[default]\nplan = \"bulc\"\n";
    let text = write(&agent, before, behind);
    let drop_in = agent.config_path().with_file_name("conf.d").join("50-more.toml");
    fs::create_dir(drop_in.parent().must("a parent")).must("cannot make conf.d");
    let more = "[host]\nper_dya = 1000\n";
    fs::write(&drop_in, more).must("cannot write");

    let check = agent.cli(&["check"]);
    let run = refused_start(&agent, |_| {});
    for output in [&check, &run] {
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{output:?}");
        let main = |fault| place(&agent.config_path(), &text, fault);
        assert_has(
            &output.stderr,
            &[
                &main("\"enforcee\""),
                "did you mean \"enforce\"?",
                &main("per_houre"),
                "^^^^^^^^^ did you mean `per_hour`?",
                &main("0]"),
                "1 to 65535",
                &main("\"bulc\""),
                "there is no plan `bulc`",
                &place(&drop_in, more, "per_dya"),
                "did you mean `per_day`?",
            ],
        );
        assert_eq!(output.stderr.matches("error: /").count(), 5, "{}", output.stderr);
    }
    for line in check.stderr.lines().filter(|line| line.contains('^')) {
        assert!(line.starts_with("      | "), "a caret outside the margin: {line:?}");
    }

    let said = json(&agent.cli(&["check", "--json"]));
    assert_eq!((&said["ok"], &said["errors"], &said["warnings"]), (&false.into(), &5.into(), &0.into()));
    let problems = said["problems"].as_array().must("problems");
    let columns: Vec<_> = problems.iter().map(|p| (p["line"].as_u64(), p["column"].as_u64())).collect();
    assert!(columns.iter().all(|(line, column)| line.is_some() && column.is_some()), "{said}");
    assert_eq!(problems[4]["file"], drop_in.display().to_string(), "{said}");
}

#[test]
fn the_keys_of_its_json_are_stable() {
    let agent = Agent::builder().config(|c| c.merge("[allow]\nusers = ['no-such-user']")).stopped();
    let keys = |value: &serde_json::Value| value.as_object().must("an object").keys().cloned().collect::<Vec<_>>();
    for (before, code) in [("", 0), ("nonsense = 1\n", 2)] {
        write(&agent, before, "");
        let output = agent.cli(&["check", "--json"]);
        assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{output:?}");
        let said = json(&output);
        assert_eq!(keys(&said), ["config", "errors", "neighbours", "ok", "problems", "warnings"]);
        assert_eq!(keys(&said["problems"][0]), ["column", "file", "hint", "line", "message", "severity"]);
        assert_eq!(said["problems"][0]["severity"], if code == 0 { "warning" } else { "error" });
    }
}

#[test]
fn absent_users_and_groups_are_warned_of_and_not_fatal() {
    let etc = Etc::with_users(&[("shop", 5001, 5001)]);
    let toml = "[allow]\nusers = ['shop', 'gone']\ngroups = ['nogroup']\n[deny]\nusers = []\n\
                [[rule]]\nuser = 'away'\nplan = 'deny'\n";
    let mut agent = Agent::builder().etc(&etc).config(|c| c.merge(toml)).stopped();
    let output = agent.cli(&["check"]).expect_ok("check");
    assert_has(
        &output.stderr,
        &[
            "warning: ",
            "[allow] users: this host has no user `gone`",
            "[allow] groups: this host has no group `nogroup`",
            "[[rule]] user: this host has no user `away`",
        ],
    );
    assert!(!output.stderr.contains("`shop`"), "{}", output.stderr);
    assert_has(&output.stdout, &["fine, with 3 warnings"]);

    agent.start();
    assert_eq!(agent.metrics().value("smtp_agent_users_unresolved", &[]), 3.0);
    assert_logged(&agent, &["does not have: user `gone`", "group `nogroup`", "user `away`"]);
}

#[test]
fn built_in_names_that_are_absent_are_warned_of_as_such() {
    let etc = Etc::with_users(&[("nobody", 65_534, 65_534)]);
    let agent = Agent::builder().etc(&etc).stopped();
    let output = agent.cli(&["check"]).expect_ok("check");
    assert_eq!(output.stderr.matches("`exim`").count(), 1, "{output:?}");
    assert_has(&output.stderr, &["built-in defaults:"]);
    assert!(!output.stderr.contains("`root`") && !output.stderr.contains("`nobody`"), "{output:?}");
}

#[test]
fn files_that_are_none_are_named() {
    let agent = Agent::builder().stopped();
    let path = agent.config_path();
    fs::remove_file(&path).must("it was there");
    fs::create_dir(&path).must("cannot make a directory");
    let output = agent.cli(&["check"]);
    assert_eq!(output.code, 2);
    assert_has(&output.stderr, &[path.to_str().must("UTF-8"), "it is a directory"]);
    fs::remove_dir(&path).must("it is empty");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).must("cannot make a FIFO");
    let output = agent.cli(&["check"]);
    assert_eq!(output.code, 2);
    assert_has(&output.stderr, &["not a regular file"]);
    fs::remove_file(&path).must("it was there");
    agent.rewrite_config("");
}

/// Bytes without a pattern, the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A text with some of its bytes changed, doubled or lost.
    fn bend(&mut self, text: &[u8]) -> Vec<u8> {
        let mut bytes = text.to_vec();
        for _ in 0..1 + self.next() % 8 {
            let at = self.next() as usize % bytes.len();
            match self.next() % 4 {
                0 => bytes[at] = self.next() as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\x1b\x9b\0\n\"'[]{}=\xff\x7f"[self.next() as usize % 13]),
                _ => bytes.truncate(at + 1),
            }
        }
        bytes
    }
}

#[test]
fn whatever_the_bytes_of_the_file_check_answers_and_no_escape_reaches_the_terminal() {
    let agent = Agent::builder().config(|c| c.merge("[plan.standard]\nper_hour = 5\n[deny]\nusers = ['a']")).stopped();
    let valid = fs::read(agent.config_path()).must("the configuration");
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut inputs: Vec<Vec<u8>> = vec![
        b"".into(),
        b"\xef\xbb\xbf".into(),
        b"\0".repeat(100),
        b"[".repeat(20_000),
        b"a = ".iter().copied().chain(b"[".repeat(20_000)).collect(),
        b"a.".repeat(20_000),
        b"mode = \"\x1b]0;owned\x07\"\n".into(),
        b"mode = \"\\u001b[2J\"\n".into(),
        "[plan.\"\u{202e}\u{1b}[31m\"]\nper_hour = -1\n".into(),
        "# \u{85}\u{2028}\r\u{9b}31m\n\u{9b} = 1\n".into(),
        b"[allow]\nusers = [\"\\u0000\\n\\u001b\"]\n".into(),
        b"x = \xff\xfe\x1b[31m".into(),
        vec![b' '; (1 << 20) + 1],
        format!("[smtp]\nports = [{}]\n", "25, ".repeat(100_000)).into(),
    ];
    inputs.extend((0..60).map(|_| noise.bend(&valid)));
    let mut refused = 0;
    for input in inputs {
        fs::write(agent.config_path(), &input).must("cannot write");
        let shown = String::from_utf8_lossy(&input[..input.len().min(400)]).into_owned();
        let output = agent.cli(&["check"]);
        assert!([0, 2].contains(&output.code), "{shown:?}: {output:?}");
        refused += u32::from(output.code == 2);
        let said = output.stdout + &output.stderr;
        assert!(!said.contains("panicked"), "{shown:?}: {said}");
        let raw = said.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(raw, None, "a raw control character for {shown:?} in {said:?}");
    }
    assert!(refused > 40, "the noise was too quiet: {refused}");
    agent.rewrite_config("");
}

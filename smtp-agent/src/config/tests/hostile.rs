//! Input that means harm: whatever the bytes are, there is an answer, and it is printable.

use std::{collections::BTreeSet, thread, time::Duration, time::Instant};

use proptest::prelude::*;

use crate::config::{Problems, SECTIONS, load, parse_str};

const FULL: &str = include_str!("full.toml");

/// Panics of the reader are caught and reported as a problem: here that must not happen.
fn answers(text: &str) {
    if let Err(problems) = parse_str("hostile", text) {
        let shown = printable(&problems);
        assert!(problems.has_errors(), "refused without an error: {shown}");
        assert!(!shown.contains("in a way it should not"), "the reader panicked");
    }
}

fn printable(problems: &Problems) -> String {
    let shown = problems.to_string();
    let bad = shown.chars().find(|c| *c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(c)));
    assert_eq!(bad, None, "in {shown:?}");
    shown
}

/// Fragments that mean something to the parser, joined at random.
fn fragments() -> impl Strategy<Value = String> {
    let keys = SECTIONS.iter().flat_map(|(name, keys)| keys.iter().chain([name]).copied());
    let signs = [
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "#",
        "\n",
        "\r\n",
        " ",
        "\t",
        "\\",
        "-",
        "0",
        "0x",
        "1e9",
        "25",
        "true",
        "inf",
        "nan",
        "1979-05-27",
        "\u{feff}",
        "\u{1b}",
        "ö",
        "漢",
        "\"deny\"",
        "\"a\"",
        "\\u",
    ];
    let words: Vec<&str> = keys.collect::<BTreeSet<_>>().into_iter().chain(signs).collect();
    prop::collection::vec(prop::sample::select(words), 0..60).prop_map(|words| words.concat())
}

/// A valid file with a few places cut, doubled or overwritten.
fn mutations() -> impl Strategy<Value = String> {
    let edit = (
        any::<prop::sample::Index>(),
        0..12_usize,
        fragments().prop_map(|text| text.chars().take(6).collect::<String>()),
    );
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut chars: Vec<char> = FULL.chars().collect();
        for (at, cut, insert) in edits {
            let at = at.index(chars.len());
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, insert.chars());
            chars.push('\n');
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_an_answer(text in "\\PC*|(.|\n){0,200}") {
        answers(&text);
    }

    #[test]
    fn any_sequence_of_tokens_gets_an_answer(text in fragments()) {
        answers(&text);
    }

    #[test]
    fn any_damage_to_a_valid_file_gets_an_answer(text in mutations()) {
        answers(&text);
    }

    #[test]
    fn any_bytes_on_disk_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, bytes).unwrap();
        if let Err(problems) = load(&path) {
            prop_assert!(!printable(&problems).contains("in a way it should not"));
        }
    }

    #[test]
    fn any_key_that_is_not_in_the_schema_is_an_error(key in "[a-z_]{1,12}", section in prop::sample::select(&SECTIONS[1..])) {
        let (name, keys) = section;
        // Below [plan] and [group] any key is a name; a rule is a list.
        prop_assume!(!keys.contains(&key.as_str()) && !name.starts_with("plan") && !matches!(name, "group" | "rule"));
        let is_list = name.starts_with("notify.") && *name != *"notify.journald";
        let title = if is_list { format!("[[{name}]]") } else { format!("[{name}]") };
        let problems = parse_str("test", &format!("{title}\n{key} = 1")).expect_err("an unknown key");
        let wanted = format!("test:2:1: unknown key `{key}` in {title}");
        prop_assert!(problems.to_string().contains(&wanted));
    }
}

/// The parser bounds the depth of brackets and the length of keys, but not the product of the two.
fn deepest() -> String {
    let key = vec!["a"; 79].join(".");
    let braces = 79;
    format!("[{key}]\n{key} = {}1{}", format!("{{{key} = ").repeat(braces), "}".repeat(braces))
}

#[test]
fn the_deepest_nesting_that_parses_does_not_overflow_a_small_stack() {
    let problems = thread::Builder::new()
        .stack_size(256 << 10)
        .spawn(|| parse_str("deep", &deepest()).expect_err("an unknown table"))
        .unwrap()
        .join()
        .unwrap();
    assert!(problems.to_string().starts_with("error: deep:1:2: unknown table `a` at the top level"), "{problems}");
}

#[test]
fn a_mebibyte_of_anything_is_answered_in_time() {
    let repeated = [
        "[",
        "{",
        "a.",
        "a={",
        "\"",
        "'''",
        "a=1\n",
        "[a]\n",
        "[[rule]]\n",
        "=",
        "a\n",
        "#\u{1}\n",
        "a=\"\\u\"\n",
        "rule=[",
        "[plan.a\n",
    ];
    let mut texts: Vec<String> = repeated.map(|unit| unit.repeat((1 << 20) / unit.len())).into();
    let numbered = |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    texts.push(numbered(&|n| format!("[plan.p{n}]\nper_day=1\n"), 30_000));
    texts.push(numbered(&|n| format!("[[rule]]\nuser=\"u{n}\"\nplan=\"p{n}\"\n"), 20_000));
    texts.push(numbered(&|n| format!("k{n}=1\n"), 90_000));
    texts.push(numbered(&|n| format!("[plan.p{n}.total]\nper_day=1\n"), 30_000));
    texts.push(numbered(&|n| format!("[group.g{n}]\nper_day=1\n"), 40_000));
    texts.push(numbered(&|n| format!("[[plan.p{}.schedule]]\nhours=\"00:00-00:01\"\nper_day=1\n", n / 40), 17_000));
    texts.push(numbered(&|n| format!("[[rule]]\nuser=\"u{n}\"\nper_day={n}\n"), 28_000));
    let long = "x".repeat(500_000);
    let rules = numbered(&|n| format!("[[rule]]\nuser=\"u{n}\"\nper_hour={n}\n"), 15_000);
    texts.push(format!("[default]\nplan=\"{long}\"\n[plan.{long}]\nper_day=0\n{rules}"));
    texts.push(numbered(&|n| format!("[[rule]]\ncgroup=\"/{{a,b*}}/{n}\"\nplan=\"deny\"\n"), 20_000));
    texts.push(numbered(&|n| format!("[[rule]]\nports=[25]\nuser=\"{n}\"\nplan=\"deny\"\n"), 20_000));
    texts.push(format!("[[rule]]\nto=[{}]", numbered(&|n| format!("\"10.{}.{}.1\",", n / 256, n % 256), 60_000)));
    texts.push(format!("[[rule]]\nto=[{}]", "\"::1\",".repeat(150_000)));
    texts.push(format!("[[rule]]\nplan=\"deny\"\ncgroup=\"/{}\"", "{a,".repeat(300_000)));
    texts.push(format!("[allow]\nusers = [{}]", "\"a\",".repeat(200_000)));
    texts.push(format!("[allow]\nusers = [{}]", "\"a:\",".repeat(200_000)));
    texts.push(format!("{}[[rule]]\nuser=\"a\"\nplan=\"q\"", numbered(&|n| format!("[plan.p{n}]\n"), 60_000)));
    for text in texts {
        let start = Instant::now();
        answers(&text);
        let took = start.elapsed();
        // Unoptimised and on a busy machine; what this guards against is time that grows with the square.
        assert!(took < Duration::from_secs(20), "{took:?} for {:?}…", &text[..20]);
    }
}

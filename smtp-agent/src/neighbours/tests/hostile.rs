//! Files and listings that are broken, huge or made to harm. Nothing panics, nothing hangs, nothing reaches the terminal.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

const FILES: [&str; 6] = [
    "/etc/csf/csf.conf",
    "/var/cpanel/cpanel.config",
    "/etc/sysconfig/imunify360/imunify360-merged.config",
    "/etc/sysconfig/imunify360/imunify360.config.d/1.config",
    "/etc/firewalld/direct.xml",
    "/etc/firewalld/policies/a.xml",
];

fn harmless(found: &[Neighbour]) {
    let text = render(found, false);
    let raw = text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(raw, None, "{text:?}");
    assert!(found.iter().flat_map(|n| &n.evidence).all(|line| line.len() < 4000 && !line.contains('\n')), "{text}");
}

#[test]
fn whatever_a_file_holds_the_answer_is_harmless_and_quick() {
    let mut inputs: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0".repeat(1000),
        b"\xff\xfe\x1b[31m\n".repeat(500),
        vec![b' '; (4 << 20) + 1],
        b"[".repeat(1 << 20),
        b"{a: ".repeat(1 << 18),
        b"- ".repeat(1 << 19),
        "<a>".repeat(200_000).into_bytes(),
        b"<!DOCTYPE a [<!ENTITY b \"cccccccccc\"><!ENTITY d \"&b;&b;&b;&b;&b;&b;\">]><direct><rule>&d;</rule></direct>".into(),
        b"SMTP_BLOCK = \"1\"\nSMTP_ALLOWUSER = \"\x1b[2J,\xe2\x80\xae,a\\nb\"\nTESTING = \"\x1b]0;x\x07\"\n".into(),
        b"SMTP_BLOCKING: {enable: true, allow_users: [\"\\e[31m\", \"\\u202e\"]}\n".into(),
        b"<direct><rule ipv='ipv4' table='filter' chain='OUTPUT'>-p tcp --dport 25 -m comment --comment \"\xe2\x80\xae\" -j DROP</rule></direct>".into(),
        b"smtpmailgidonly = 1 \x1b[31m\nsmtpmailgidonly=1\n".into(),
    ];
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    (1..12).for_each(|n| bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(",")));
    inputs.push(bomb.into_bytes());
    for input in inputs {
        for file in FILES {
            let host = Host::with(&[]);
            host.write(file, &input);
            let began = Instant::now();
            harmless(&host.find());
            let shown = String::from_utf8_lossy(&input[..input.len().min(30)]).into_owned();
            assert!(began.elapsed() < Duration::from_secs(10), "{file}: {shown:?} took {:?}", began.elapsed());
        }
    }
}

#[test]
fn files_that_are_none_are_said_and_not_waited_for() {
    for file in FILES {
        let host = Host::with(&[]);
        host.write(file, b"");
        let path = host.path().join(&file[1..]);
        fs::remove_file(&path).expect("it was there");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let one = single(host.find());
        assert_eq!(one.severity, Severity::Unseen, "{one:?}");
        assert!(one.evidence[0].contains(file) && one.evidence[0].contains("regular file"), "{one:?}");
    }
}

#[test]
fn a_listing_that_is_cut_short_or_too_deep_is_said() {
    let ours = ours();
    let whole =
        json!({"nftables": [{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "output"}}]}).to_string();
    let deep = format!("{{\"nftables\": {}", "[".repeat(1 << 20));
    for text in [&whole[..whole.len() - 3], &deep, "", "nft: not found", "{}", "{\"nftables\": 7}", "[]"] {
        let parsed = nft::parse(text, &HashSet::new(), Ports(&ours.ports), &mut |_, _, _| None);
        assert!(parsed.is_err_and(|e| e.starts_with("what nft prints")), "{:?}", &text[..text.len().min(40)]);
    }
    let rules = Rules { listed: Vec::new(), failed: vec!["nft: no".into()] };
    let one = single(live::neighbours(&rules, &ours, &[]));
    assert_eq!((one.severity, one.evidence), (Severity::Unseen, vec!["nft: no".to_owned()]));
}

#[test]
fn a_hundred_thousand_rules_are_no_burden() {
    let rules = "-A OUTPUT -p tcp -m tcp --dport 25 -m owner --uid-owner 61000 -j DROP\n".repeat(100_000);
    let began = Instant::now();
    let found = saved(&format!("*filter\n:OUTPUT DROP [0:0]\n{rules}COMMIT\n"));
    assert!(!found.is_empty() && began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    harmless(&found);
}

fn value() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "match", "left", "right", "op", "==", "!=", "payload", "protocol", "tcp", "field", "dport", "meta", "key",
        "skuid", "set", "range", "concat", "elem", "val", "vmap", "data", "drop", "reject", "jump", "target", "limit",
        "xt", "@s", "lo", "oifname", "ct", "state", "out",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i32>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        Just(json!(25))
    ];
    leaf.prop_recursive(5, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(word.clone(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_rule_of_nft_whatever_its_shape_makes_the_reader_panic(expr in prop::collection::vec(value(), 0..6), set in value()) {
        let listing = json!({"nftables": [
            {"chain": {"family": "inet", "table": "t", "name": "out", "hook": "output", "policy": "drop"}},
            {"rule": {"family": "inet", "table": "t", "chain": "out", "expr": expr}},
        ]});
        harmless(&listed(&listing.to_string(), set));
    }

    #[test]
    fn no_line_of_iptables_save_makes_the_reader_panic(
        words in prop::collection::vec(prop_oneof![
            prop::sample::select(vec![
                "-A", "OUTPUT", "!", "-p", "tcp", "udp", "--dport", "25", "--dports", "25,465:", "-m", "owner", "--uid-owner",
                "0", "-j", "DROP", "ACCEPT", "RETURN", "-g", "c", "\"", "'", "\\", "-o", "lo", "--ctstate", "NEW", "--comment",
                "--tcp-flags", "multiport", "limit", "\n", "*nat", ":c - [0:0]", "\u{1b}[31m",
            ]).prop_map(str::to_owned),
            ".{0,8}",
        ], 0..40)
    ) {
        harmless(&saved(&format!("*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT {}\nCOMMIT\n", words.join(" "))));
    }
}

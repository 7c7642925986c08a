//! Rules in force.

use serde_json::json;

use super::*;

const WHM: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n\
    -A OUTPUT -p tcp -m multiport --dports 25,465,587 -m owner --gid-owner 6990 -j RETURN\n\
    -A OUTPUT -p tcp -m multiport --dports 25,465,587 -m owner --gid-owner 6991 -j RETURN\n\
    -A OUTPUT -d 127.0.0.1/32 -p tcp -m multiport --dports 25,465,587 -m owner --uid-owner 6202 -j RETURN\n\
    -A OUTPUT -p tcp -m multiport --dports 25,465,587 -m owner --uid-owner 0 -j RETURN\n\
    -A OUTPUT -p tcp -m multiport --dports 25,465,587 -j REDIRECT\nCOMMIT\n";

#[test]
fn rules_of_iptables_are_understood() {
    let filter = |rules: &str| format!("# x\n*filter\n:OUTPUT ACCEPT [0:0]\n:c - [0:0]\n{rules}\nCOMMIT\n");
    for (rules, severity, parts) in [
        ("-A OUTPUT -p tcp -m tcp --dport 25 -j DROP", Severity::Warning, &["drops port 25 for everyone:"][..]),
        (
            "-A OUTPUT -p tcp --dport 25 -m owner --uid-owner 6133 -j REJECT --reject-with icmp-port-unreachable",
            Severity::Information,
            &["rejects port 25 for uid 6133:"],
        ),
        (
            "-A OUTPUT -p tcp --dport 25 -m owner ! --uid-owner 0 -j REJECT",
            Severity::Warning,
            &["everyone but uid 0 (root)"],
        ),
        (
            "-A OUTPUT -m owner --gid-owner 6133 -j DROP",
            Severity::Information,
            &["drops ports 25, 465 and 587 for gid 6133"],
        ),
        (
            "-A OUTPUT -p tcp --dport 400:500 -j c\n-A c -j REJECT",
            Severity::Warning,
            &["rejects port 465", "reached by: -A OUTPUT"],
        ),
        (
            "-A OUTPUT -p tcp --dport 25 -m hashlimit --hashlimit-above 10/min --hashlimit-name x -j DROP",
            Severity::Information,
            &["limits port 25 for everyone", "tighter one"],
        ),
        (
            "-A OUTPUT -p tcp --dport 25 -m limit --limit 5/min -j ACCEPT\n-A OUTPUT -p tcp --dport 25 -j DROP",
            Severity::Information,
            &["limits port 25"],
        ),
        ("-A OUTPUT -p tcp --dport 25 -j NFQUEUE --queue-num 0", Severity::Information, &["to a program (NFQUEUE)"]),
        (
            "-A OUTPUT -d 192.0.2.0/24 -p tcp --dport 25 -j DROP",
            Severity::Information,
            &["drops port 25", "192.0.2.0/24"],
        ),
        ("-A OUTPUT -o eth0 -p tcp ! --dport 25 -j DROP", Severity::Information, &["drops ports 465 and 587"]),
        (
            "-A OUTPUT ! -o lo -p tcp -m comment --comment \"a \\\"b\\\" -j ACCEPT\" --dport 25 -j DROP",
            Severity::Warning,
            &["drops port 25"],
        ),
    ] {
        let one = single(saved(&filter(rules)));
        assert_eq!((one.severity, one.who.as_str()), (severity, "iptables"), "{rules}: {one:?}");
        says(&one, parts);
    }
    let redirect = single(saved(WHM));
    assert_eq!(redirect.severity, Severity::Warning);
    says(&redirect, &["sends ports 25, 465 and 587 of everyone but gid 6990, gid 6991, uid 6202 and uid 0 (root)"]);
}

#[test]
fn rules_that_do_not_concern_smtp_that_leaves_are_left_alone() {
    for rules in [
        "",
        ":OUTPUT ACCEPT [0:0]\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n-A INPUT -p tcp --dport 25 -j DROP\n-A FORWARD -p tcp --dport 25 -j DROP",
        ":OUTPUT ACCEPT [0:0]\n-A OUTPUT -p udp --dport 25 -j DROP\n-A OUTPUT -p tcp --dport 80 -j DROP",
        ":OUTPUT ACCEPT [0:0]\n-A OUTPUT -m conntrack --ctstate INVALID -j DROP\n-A OUTPUT -d 203.0.113.7/32 -j DROP",
        ":OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp --dport 25 -j LOG --log-prefix \"smtp \"\n-A OUTPUT -p tcp --dport 25 -j ACCEPT",
        ":OUTPUT ACCEPT [0:0]\n:unused - [0:0]\n-A unused -p tcp --dport 25 -j DROP",
        ":OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ACCEPT\n-A OUTPUT -p tcp --dport 25 -j DROP",
        ":OUTPUT DROP [0:0]\n-A OUTPUT -p tcp -m multiport --dports 25,465,587 -j ACCEPT",
        ":OUTPUT DROP [0:0]\n-A OUTPUT -j ACCEPT",
    ] {
        assert_eq!(saved(&format!("*filter\n{rules}\nCOMMIT\n")), [], "{rules}");
    }
    assert_eq!(
        saved("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -p tcp --dport 25 -j SNAT --to 192.0.2.1\nCOMMIT\n"),
        []
    );
}

#[test]
fn an_output_that_lets_nothing_through_unless_named_is_told_with_whom_it_spares() {
    let base = "*filter\n:OUTPUT DROP [0:0]\n-A OUTPUT -o lo -j ACCEPT\n\
                -A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A OUTPUT -p tcp --dport 443 -j ACCEPT\n";
    let one = single(saved(&format!("{base}COMMIT\n")));
    assert_eq!(
        (one.severity, one.evidence.as_slice()),
        (Severity::Warning, &["ip filter OUTPUT: policy drop".to_owned()][..])
    );
    says(&one, &["lets ports 25, 465 and 587 through for nobody:"]);
    let mail =
        "-A OUTPUT -p tcp --dport 25 -m owner --gid-owner 6990 -j ACCEPT\n-A OUTPUT -p tcp --dport 587 -j ACCEPT\n";
    let one = single(saved(&format!("{base}{mail}COMMIT\n")));
    says(&one, &["lets ports 25 and 465 through for nobody but gid 6990:"]);
    let last = base.replace("OUTPUT DROP", "OUTPUT ACCEPT");
    let one = single(saved(&format!("{last}{mail}-A OUTPUT -j REJECT\nCOMMIT\n")));
    says(&one, &["through for nobody but gid 6990", "ECONNREFUSED", "-A OUTPUT -j REJECT"]);
}

#[test]
fn chains_in_a_circle_come_to_an_end() {
    let circle = "*filter\n:OUTPUT ACCEPT [0:0]\n:a - [0:0]\n:b - [0:0]\n-A OUTPUT -p tcp --dport 25 -j a\n\
                  -A a -j b\n-A a -j b\n-A b -j a\n-A b -j a\n-A b -j DROP\nCOMMIT\n";
    says(&single(saved(circle)), &["drops port 25"]);
}

fn nft(rules: &[Value]) -> String {
    let mut objects = vec![
        json!({"metainfo": {"version": "1.0.6", "json_schema_version": 1}}),
        json!({"table": {"family": "inet", "name": "t", "handle": 1}}),
        json!({"set": {"family": "inet", "name": "ports", "table": "t", "type": "inet_service", "handle": 4}}),
        json!({"chain": {"family": "inet", "table": "t", "name": "sub", "handle": 1}}),
        json!({"chain": {"family": "inet", "table": "t", "name": "out", "handle": 2, "type": "filter", "hook": "output",
            "prio": 0, "policy": "accept"}}),
    ];
    let sub = json!([{"reject": {"type": "icmpx", "expr": "port-unreachable"}}]);
    let rule = |chain: &str, expr: &Value| json!({"rule": {"family": "inet", "table": "t", "chain": chain, "handle": 9, "expr": expr}});
    objects.push(rule("sub", &sub));
    objects.extend(rules.iter().map(|expr| rule("out", expr)));
    json!({ "nftables": objects }).to_string()
}

fn is(left: Value, op: &str, right: Value) -> Value {
    json!({"match": {"op": op, "left": left, "right": right}})
}

fn dport(right: Value) -> Value {
    is(json!({"payload": {"protocol": "tcp", "field": "dport"}}), "==", right)
}

fn meta(key: &str, op: &str, right: Value) -> Value {
    is(json!({"meta": {"key": key}}), op, right)
}

#[test]
fn rules_of_nftables_are_understood() {
    let drop = json!({"drop": null});
    let limit = json!({"limit": {"rate": 100, "burst": 5, "per": "hour", "inv": true}});
    for (rule, severity, parts) in [
        (
            json!([dport(json!(25)), drop]),
            Severity::Warning,
            &["nftables drops port 25 for everyone:", "inet t out: tcp dport 25 drop"][..],
        ),
        (
            json!([meta("skuid", "==", json!({"set": [6133, 6134]})), dport(json!({"set": [25, {"range": [465, 587]}]})), {"counter": {"packets": 0, "bytes": 0}}, {"reject": {"type": "tcp reset"}}]),
            Severity::Information,
            &[
                "rejects ports 25, 465 and 587 for uid 6133 and uid 6134",
                "meta skuid { 6133, 6134 } tcp dport { 25, 465-587 } reject",
            ],
        ),
        (
            json!([meta("skuid", "!=", json!(0)), dport(json!("@ports")), {"jump": {"target": "sub"}}]),
            Severity::Warning,
            &["rejects port 587 for everyone but uid 0 (root)", "reached by: meta skuid != 0"],
        ),
        (
            json!([{"vmap": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": {"set": [[25, drop], [80, drop]]}}}]),
            Severity::Warning,
            &["drops port 25 for", "vmap"],
        ),
        (
            json!([dport(json!(25)), {"meter": {"key": {"meta": {"key": "skuid"}}, "stmt": limit, "size": 65535, "name": "spam"}}, drop]),
            Severity::Information,
            &["limits port 25", "meter spam { meta skuid limit rate over 100/hour }"],
        ),
        (
            json!([dport(json!(25)), {"set": {"op": "update", "elem": {"meta": {"key": "skuid"}}, "set": "@spam", "stmt": [limit]}}, drop]),
            Severity::Information,
            &["limits port 25"],
        ),
        (
            json!([is(json!({"payload": {"protocol": "th", "field": "dport"}}), "==", json!(465)), {"redirect": {"port": 25}}]),
            Severity::Warning,
            &["sends port 465 of everyone", "check certificates", "redirect to :25"],
        ),
        (
            json!([dport(json!(25)), {"dnat": {"family": "ip", "addr": "127.0.0.1", "port": 25}}]),
            Severity::Warning,
            &["sends port 25", "dnat to 127.0.0.1:25"],
        ),
        (
            json!([
                is(
                    json!({"concat": [{"meta": {"key": "skuid"}}, {"payload": {"protocol": "tcp", "field": "dport"}}]}),
                    "==",
                    json!({"set": [{"concat": [6133, 25]}, {"elem": {"val": {"concat": [6134, 587]}, "timeout": 9}}]})
                ),
                drop
            ]),
            Severity::Information,
            &["drops ports 25 and 587 for uid 6133 and uid 6134"],
        ),
        (
            json!([
                is(json!({"socket": {"key": "cgroupv2", "level": 1}}), "==", json!("user.slice")),
                dport(json!(25)),
                drop
            ]),
            Severity::Information,
            &["for cgroup user.slice"],
        ),
        (
            json!([is(json!({"something": {"new": 1}}), "==", json!(7)), dport(json!(25)), drop]),
            Severity::Information,
            &["drops port 25"],
        ),
        (
            json!([
                dport(json!(25)),
                is(
                    json!({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, ["syn", "ack"]]}),
                    "==",
                    json!("syn")
                ),
                is(json!({"ct": {"key": "state"}}), "in", json!(["new"])),
                drop
            ]),
            Severity::Warning,
            &["drops port 25"],
        ),
        (
            json!([meta("l4proto", "==", json!("tcp")), is(json!({"payload": {"protocol": "tcp", "field": "dport"}}), "!=", json!({"set": [25, 465]})), {"queue": {"num": 3}}]),
            Severity::Information,
            &["leaves port 587"],
        ),
    ] {
        let one =
            single(listed(&nft(std::slice::from_ref(&rule)), json!([587, {"elem": {"val": 2525, "expires": 3}}])));
        assert_eq!(one.severity, severity, "{rule}: {one:?}");
        says(&one, parts);
    }
}

#[test]
fn rules_of_nftables_that_do_not_concern_it_are_left_alone() {
    let drop = json!({"drop": null});
    for rule in [
        json!([dport(json!(80)), drop]),
        json!([is(json!({"payload": {"protocol": "udp", "field": "dport"}}), "==", json!(25)), drop]),
        json!([is(json!({"ct": {"key": "state"}}), "in", json!(["invalid"])), drop]),
        json!([is(json!({"ct": {"key": "state"}}), "in", json!(["established", "related"])), dport(json!(25)), drop]),
        json!([dport(json!(25)), {"log": {"prefix": "x"}}]),
        json!([dport(json!(25)), {"accept": null}]),
        json!([is(json!({"payload": {"protocol": "ip", "field": "daddr"}}), "==", json!("192.0.2.1")), drop]),
    ] {
        assert_eq!(listed(&nft(std::slice::from_ref(&rule)), json!([])), [], "{rule}");
    }
    let nothing = "{\"nftables\": [{\"metainfo\": {\"version\": \"1.0.6\"}}]}";
    assert_eq!(listed(nothing, json!([])), []);
}

#[test]
fn a_set_that_cannot_be_had_makes_a_rule_a_conditional_one() {
    let text = nft(&[json!([dport(json!("@gone")), {"drop": null}])]);
    let ours = ours();
    let listing = nft::parse(&text, &HashSet::new(), Ports(&ours.ports), &mut |_, _, _| None).expect("a listing");
    let rules = Rules { listed: vec![("nftables", listing.rules)], failed: Vec::new() };
    let one = single(live::neighbours(&rules, &ours, &[]));
    assert_eq!(one.severity, Severity::Information);
    says(&one, &["drops ports 25, 465 and 587", "tcp dport @gone drop"]);
}

#[test]
fn tables_that_iptables_listed_are_not_read_again_and_those_it_did_not_are_said() {
    let rule = json!([{"xt": {"type": "match", "name": "owner"}}, dport(json!(25)), {"drop": null}]);
    let text = nft(&[rule]).replace("\"inet\"", "\"ip\"");
    let ours = ours();
    let parse = |known: &[&str]| {
        let known = known.iter().map(|table| (*table).to_owned()).collect();
        nft::parse(&text, &known, Ports(&ours.ports), &mut |_, _, _| None).expect("a listing")
    };
    assert_eq!(parse(&[]).opaque, ["ip t"]);
    let known = parse(&["ip t"]);
    assert!(known.opaque.is_empty() && known.rules.chains.is_empty());
}

#[test]
fn a_rule_is_laid_to_the_tool_whose_chain_it_stands_in() {
    for (chain, who) in [
        ("SMTPOUTPUT", "CSF"),
        ("OUTPUT_imunify360", "Imunify360"),
        ("OUTPUT_direct", "firewalld"),
        ("ufw-user-output", "iptables"),
        ("mine", "iptables"),
    ] {
        let text = format!(
            "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j {chain}\n-A {chain} -p tcp --dport 25 -j DROP\nCOMMIT\n"
        );
        let who = if chain.starts_with("ufw") { "ufw" } else { who };
        assert_eq!(single(saved(&text)).who, who, "{chain}");
    }
    let ours = ours();
    let set = iptables::parse(WHM, "ip", Ports(&ours.ports));
    let host = Host::with(&[("/var/cpanel/cpanel.config", "smtpmailgidonly=1\n")]);
    let one = single(find(host.path(), &ours, &Rules { listed: vec![("iptables", set)], failed: Vec::new() }));
    assert_eq!((one.who.as_str(), one.evidence.len()), (whm::WHO, 2), "{one:?}");
}

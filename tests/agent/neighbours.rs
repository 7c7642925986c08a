//! Others who decide about port 25: real rules and real programs are found by the real binary, which changes none of them.

use crate::{
    bpf,
    scene::{SOON, assert_has, assert_logged, json},
};
use serde_json::Value;
use smtp_tests::{Agent, Dial, Must, Netns, Veth, World, eventually, mountns::MountNs, process, uid};
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Runs a tool in a namespace, to its good end.
#[track_caller]
fn tool(ns: &Netns, name: &str, arguments: &str) -> String {
    let mut command = Command::new(name);
    ns.enter(command.args(arguments.split_whitespace()).stdin(Stdio::null()));
    process::output(&mut command, Duration::from_secs(10)).expect_ok(name).stdout
}

/// What `check` says of neighbours in a namespace.
#[track_caller]
fn neighbours(agent: &Agent, ns: &Netns) -> Vec<Value> {
    let mut command = agent.command(&["check", "--json"]);
    ns.enter(command.stdin(Stdio::null()));
    let output = process::output(&mut command, Duration::from_secs(20)).expect_ok("check");
    json(&output)["neighbours"].as_array().must("a list of neighbours").clone()
}

#[track_caller]
fn only(found: &[Value]) -> &Value {
    assert_eq!(found.len(), 1, "{found:#?}");
    &found[0]
}

/// Everything a neighbour says, on lines.
fn text(neighbour: &Value) -> String {
    let evidence = neighbour["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let parts = ["severity", "who", "together"].map(|key| neighbour[key].as_str().unwrap_or_default());
    parts.into_iter().chain(evidence).collect::<Vec<_>>().join("\n")
}

#[test]
fn where_nobody_else_decides_nothing_is_said() {
    let agent = Agent::builder().start();
    let ns = Netns::new();
    assert_eq!(neighbours(&agent, &ns), [Value::Null; 0], "with the gate in force");
    let harmless = "add table inet t; add chain inet t c { type filter hook output priority 0; policy accept; }; \
                    add rule inet t c tcp dport 80 drop; add rule inet t c udp dport 25 drop";
    tool(&ns, "nft", harmless);
    tool(&ns, "iptables", "-A INPUT -p tcp --dport 25 -j DROP");
    assert_eq!(neighbours(&agent, &ns), [Value::Null; 0], "rules about something else");
}

#[test]
fn owner_rules_of_nftables_are_found_and_left_as_they_are() {
    let agent = Agent::builder().stopped();
    let ns = Netns::new();
    tool(
        &ns,
        "nft",
        "add table inet mail; add set inet mail ports { type inet_service; }; add element inet mail ports { 25, 587 }; \
         add chain inet mail block; add rule inet mail block meta skgid 6112 accept; add rule inet mail block reject; \
         add chain inet mail out { type filter hook output priority 0; policy accept; }; \
         add rule inet mail out meta skuid != 0 tcp dport @ports jump block; \
         add rule inet mail out tcp dport 465 meter spam { meta skuid limit rate over 10/hour } drop",
    );
    let before = tool(&ns, "nft", "list ruleset");
    let found = neighbours(&agent, &ns);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_has(
        &text(&found[0]),
        &["warning\nnftables\nrejects ports 25 and 587 for everyone but gid 6112", "uid 0 (root)", "tcp dport @ports"],
    );
    assert_has(
        &text(&found[1]),
        &["information\nnftables\nlimits port 465", "inet mail out: tcp dport 465 meter spam"],
    );
    assert_eq!(tool(&ns, "nft", "list ruleset"), before, "something was changed");

    let mut command = agent.command(&["check"]);
    ns.enter(command.stdin(Stdio::null()));
    let said = process::output(&mut command, Duration::from_secs(20)).expect_ok("check");
    assert_has(&said.stderr, &["warning: nftables rejects ports 25 and 587", "\n      = inet mail block: "]);
}

#[test]
fn owner_rules_of_both_kinds_of_iptables_are_found_and_left_as_they_are() {
    for (iptables, ip6tables) in [("iptables-nft", "ip6tables-nft"), ("iptables-legacy", "ip6tables-legacy")] {
        let agent = Agent::builder().stopped();
        let ns = Netns::new();
        // As CSF has them.
        tool(&ns, iptables, "-N SMTPOUTPUT");
        tool(&ns, iptables, "-A OUTPUT -j SMTPOUTPUT");
        tool(
            &ns,
            iptables,
            "-A SMTPOUTPUT -p tcp -m multiport --dports 25,465,587 -m owner --gid-owner 6112 -j ACCEPT",
        );
        tool(&ns, iptables, "-A SMTPOUTPUT -p tcp -m multiport --dports 25,465,587 -j REJECT");
        // As WHM has them.
        tool(&ns, iptables, "-t nat -A OUTPUT -p tcp --dport 25 -m owner --uid-owner 0 -j RETURN");
        tool(&ns, iptables, "-t nat -A OUTPUT -p tcp --dport 25 -j REDIRECT");
        tool(&ns, ip6tables, "-A OUTPUT -p tcp --dport 25 -m owner --uid-owner 6133 -j DROP");
        let save = |program: &str| {
            let text = tool(&ns, &format!("{program}-save"), "");
            text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
        };
        let before = (save(iptables), save(ip6tables));
        let found = neighbours(&agent, &ns);
        assert_eq!(found.len(), 3, "{iptables}: {found:#?}");
        let all = found.iter().map(text).collect::<Vec<_>>().join("\n--\n");
        assert_has(
            &all,
            &[
                "warning\nCSF\nrejects ports 25, 465 and 587 for everyone but gid 6112",
                "ip filter SMTPOUTPUT: -A SMTPOUTPUT -p tcp -m multiport --dports 25,465,587 -j REJECT",
                "warning\niptables\nsends port 25 of everyone but uid 0 (root) to another server",
                "information\niptables\ndrops port 25 for uid 6133",
                "ip6 filter OUTPUT: -A OUTPUT -p tcp -m tcp --dport 25 -m owner --uid-owner 6133 -j DROP",
            ],
        );
        assert_eq!((save(iptables), save(ip6tables)), before, "something was changed");
    }
}

#[test]
fn a_configured_firewall_is_found_with_its_line() {
    let conf = "# CSF\nSMTP_BLOCK = \"1\"\nSMTP_REDIRECT = \"0\"\nSMTP_PORTS = \"25\"\n";
    let view = MountNs::new(|| {
        let mount = |at: &str| {
            nix::mount::mount(Some("none"), at, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
                .must("cannot mount a tmpfs");
        };
        // Only this namespace sees the directory: /etc itself may not be written to.
        let copy = smtp_tests::scratch::dir();
        let etc = copy.path().join("etc");
        process::output(Command::new("cp").args(["-a", "/etc"]).arg(&etc), Duration::from_secs(60)).expect_ok("cp");
        mount("/mnt");
        process::output(Command::new("cp").arg("-a").arg(&etc).arg("/mnt"), Duration::from_secs(60)).expect_ok("cp");
        fs::create_dir_all("/mnt/etc/csf").must("cannot make a directory");
        fs::write("/mnt/etc/csf/csf.conf", conf).must("cannot write");
        smtp_tests::mountns::bind(Path::new("/mnt/etc"), Path::new("/etc"));
    });
    let agent = Agent::builder().view(&view).stopped();
    let found = neighbours(&agent, &Netns::new());
    assert_has(
        &text(only(&found)),
        &[
            "warning\nCSF\n(SMTP_BLOCK) rejects port 25 for everyone but root",
            "/etc/csf/csf.conf:2: SMTP_BLOCK = \"1\"",
        ],
    );
}

#[test]
fn a_program_of_somebody_else_is_found_with_its_turn_and_ours_are_not() {
    let mut agent = Agent::builder().stopped();
    let ns = Netns::new();
    bpf::attach_foreign_program(agent.cgroup(), 2599, bpf::Others::Tolerated);
    let at = format!("cgroup_inet4_connect at cgroup {}, runs before ours", agent.cgroup().name());
    let before = neighbours(&agent, &ns);
    assert_has(&text(only(&before)), &["information\na BPF program of somebody else\n", "each may refuse", &at]);
    agent.start();
    assert_eq!(neighbours(&agent, &ns), before, "the gate is in force beside it");
    bpf::attach_foreign_program(agent.cgroup(), 2598, bpf::Others::Tolerated);
    let found = neighbours(&agent, &ns);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_has(&text(&found[1]), &["runs after ours", "the one that the client asked for"]);
}

#[test]
fn a_program_that_tolerates_none_is_warned_of_before_the_start_fails() {
    let agent = Agent::builder().stopped();
    bpf::attach_foreign_program(agent.cgroup(), 2599, bpf::Others::ShutOut);
    let found = neighbours(&agent, &Netns::new());
    assert_has(&text(only(&found)), &["warning\n", "smtp-agent cannot be attached"]);
}

#[test]
fn another_agent_on_a_cgroup_above_is_told_as_one() {
    let above = Agent::builder().start();
    let inner = above.cgroup().child("inner");
    let agent = Agent::builder().cgroup(&inner).start();
    let found = neighbours(&agent, &Netns::new());
    let told = found.iter().filter(|one| text(one).contains("another smtp-agent")).count();
    assert_eq!((told, found.len()), (4, 4), "two hooks for connect(), two for packets: {found:#?}");
    assert_has(&text(&found[0]), &[&format!("at cgroup {}, runs after ours", above.cgroup().name())]);
}

#[test]
fn the_daemon_logs_who_else_decides_and_starts_all_the_same() {
    let mut agent = Agent::builder().stopped();
    bpf::attach_foreign_program(agent.cgroup(), 2599, bpf::Others::Tolerated);
    agent.start();
    eventually(SOON, "it is logged", || agent.stderr_so_far().contains("a BPF program of somebody else runs at each"));
    assert_logged(&agent, &["INFO", "cgroup_inet4_connect"]);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn whoever_may_not_look_is_told_what_was_not_seen() {
    let agent = Agent::builder().stopped();
    let output = agent.cli_as(uid::SENDER, uid::SENDER, &["check", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    let found = json(&output)["neighbours"].as_array().must("a list").clone();
    let all = found.iter().map(text).collect::<Vec<_>>().join("\n--\n");
    assert_has(
        &all,
        &["unseen\nthe firewall's rules\ncould not be looked at", "unseen\nBPF programs on the cgroup", "root"],
    );
}

#[test]
fn what_a_firewall_rejects_was_charged_and_its_session_ends_as_is_said() {
    let world = World::with("");
    let client = Netns::new();
    let wire = Veth::between(&client, &world.ns);
    let dial = |seconds| {
        let to = SocketAddr::new(wire.far.v4.into(), 25);
        Dial::to(to).netns(&client).cgroup(world.cgroup()).uid(uid::SENDER).timeout(Duration::from_secs(seconds)).run()
    };
    tool(&client, "iptables", "-A OUTPUT -p tcp --dport 25 -j REJECT");
    assert_eq!(dial(5).econnrefused(), 1);
    let ended = |outcome: &str| world.metrics().value("smtp_sessions_total", &[("outcome", outcome)]);
    eventually(SOON, "the session ends", || ended("refused") == 1.0);
    assert_eq!(world.metrics().value("smtp_connections_total", &[("verdict", "allowed")]), 1.0, "it was charged");

    tool(&client, "iptables", "-R OUTPUT 1 -p tcp --dport 25 -j DROP");
    assert_eq!((dial(2).econnrefused(), dial(2).ok()), (0, 0), "it hangs");
    eventually(SOON, "the sessions end", || ended("aborted") == 2.0);
    assert_eq!(world.metrics().value("smtp_connections_total", &[("verdict", "allowed")]), 3.0);
}

#[test]
fn what_a_program_before_ours_refuses_was_charged_as_is_said() {
    let mut world = World::stopped("[smtp]\nports = [25, 2599]\n");
    bpf::attach_foreign_program(world.cgroup(), 2599, bpf::Others::Tolerated);
    world.agent.start();
    assert_eq!(world.dial_to(world.veth.far.v4.into(), 2599).uid(uid::SENDER).run().eperm(), 1, "theirs says no");
    assert_eq!(world.counted_uid(uid::SENDER, "allowed"), 1, "ours has said yes");
    assert_eq!(world.dial().uid(uid::SENDER).run().ok(), 1);
}

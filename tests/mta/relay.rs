//! `relay-check` against real mail servers: what it says of each, and whether each then does what it says.

use smtp_tests::{
    Netns, Sink, Veth,
    mta::{Exim, Letter, Postfix, Swaks},
    process::{self, Output},
    tools, uid,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
    time::Duration,
};

/// Documentation addresses (RFC 5737): no private ones, and each in its own network.
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 25);
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const VICTIM: &str = "victim@far.test";
/// Everything there is to say of a client that nobody knows.
const OUTSIDERS: [&str; 5] = ["--i-operate-this-host", "--from", "tester@elsewhere.test", "--to", VICTIM];

/// A mail server's host and a stranger's, with a router's distance between them, and a place where relayed mail goes.
struct Scene {
    stranger: Netns,
    host: Netns,
    wire: Veth,
    sink: Sink,
}

impl Scene {
    #[track_caller]
    fn new() -> Self {
        let (stranger, host) = (Netns::new(), Netns::new());
        let wire = Veth::between(&stranger, &host);
        stranger.ip(&format!("addr add {STRANGER}/32 dev lo\nroute add {SERVER} via {} src {STRANGER}", wire.far.v4));
        host.ip(&format!("addr add {SERVER}/32 dev lo\nroute add {STRANGER} via {}", wire.near.v4));
        let sink = Sink::at(([127, 0, 0, 1], 2525)).netns(&host).start();
        Self { stranger, host, wire, sink }
    }

    fn exim(&self) -> smtp_tests::mta::Builder {
        Exim::sending_to(self.sink.address()).netns(&self.host)
    }

    fn postfix(&self) -> smtp_tests::mta::PostfixBuilder {
        Postfix::sending_to(self.sink.address()).netns(&self.host).main_option("smtpd_peername_lookup = no")
    }

    /// What the stranger finds.
    #[track_caller]
    fn asked_outside(&self) -> Output {
        let found = relay_check(&self.stranger, &SERVER.to_string(), &OUTSIDERS);
        assert!(found.code == 2 || found.stdout.contains("asked from outside"), "{found:?}");
        assert!(self.sink.messages().is_empty(), "a message was sent: {:?}", self.sink.messages());
        found
    }

    /// Whether a letter that the stranger hands in for this address reaches the victim: the witness.
    #[track_caller]
    fn relays_to(&self, address: &str) -> bool {
        let before = self.sink.messages().len();
        let letter = Letter::to(&[address]).from("tester@elsewhere.test");
        let sent = Swaks::sending_from(&self.stranger, (SERVER, 25).into()).send(uid::SENDER, None, &letter, &[]);
        let arrived = || self.sink.messages()[before..].iter().any(|message| message.to == [VICTIM]);
        sent.code == 0 && smtp_tests::poll::holds_within(Duration::from_secs(20), arrived)
    }
}

#[track_caller]
fn relay_check(ns: &Netns, target: &str, more: &[&str]) -> Output {
    let mut command = Command::new(tools::program("smtp-agent", "SMTP_AGENT_BIN"));
    command.arg("relay-check").arg(target).args(more).stdin(Stdio::null());
    ns.enter(&mut command);
    process::output(&mut command, Duration::from_secs(120))
}

#[track_caller]
fn assert_found(found: &Output, code: i32, parts: &[&str]) {
    assert_eq!(found.code, code, "{}{}", found.stdout, found.stderr);
    for part in parts {
        assert!(found.stdout.contains(part), "{part:?} is missing in\n{}", found.stdout);
    }
}

/// Relays for its own host, and tells others why not.
const OWN_ALONE: &str = "  accept hosts = <; 127.0.0.1 ; ::1\n  deny message = relay not permitted";

fn everywhere() -> SocketAddr {
    ([0, 0, 0, 0], 25).into()
}

#[test]
fn an_exim_that_takes_mail_from_everybody_is_open_and_relays() {
    let scene = Scene::new();
    let exim = scene.exim().listening(everywhere()).taking("  accept").start();
    let found = scene.asked_outside();
    let evidence = [
        "verdict  open: it took mail from <tester@elsewhere.test> for <victim@far.test> (outside to outside)",
        "> RCPT TO:<victim@far.test>\n  < 250 Accepted\n  > RSET",
        "sender in its own name",
    ];
    assert_found(&found, 1, &evidence);
    assert!(!exim.mainlog().contains(" <= "), "exim got a message:\n{}", exim.mainlog());
    // From the host itself the same server proves nothing.
    assert_found(
        &relay_check(&scene.host, &SERVER.to_string(), &[]),
        69,
        &["verdict  unclear", "asked from the server's own host"],
    );
    assert!(scene.relays_to(VICTIM), "{}", exim.mainlog());
}

#[test]
fn an_exim_that_relays_for_its_own_host_alone_is_closed() {
    let scene = Scene::new();
    let exim = scene.exim().listening(everywhere()).taking(OWN_ALONE).start();
    let found = scene.asked_outside();
    assert_found(&found, 0, &["verdict  closed: it refused whatever was to be relayed", "550 relay not permitted"]);
    assert!(!exim.mainlog().contains(" <= "), "exim got a message:\n{}", exim.mainlog());
    // Over loopback it relays, as it is meant to: that is no verdict.
    let inside = relay_check(&scene.host, "127.0.0.1", &[]);
    assert_found(
        &inside,
        69,
        &["verdict  unclear: it took mail", "because of where it was asked from", "over loopback"],
    );
    assert!(!scene.relays_to(VICTIM), "{}", exim.mainlog());
}

#[test]
fn an_exim_that_refuses_everybody_without_a_word_of_relaying_is_unclear() {
    let scene = Scene::new();
    let _exim = scene.exim().listening(everywhere()).start();
    let said = ["verdict  unclear", "said nothing of relaying (550 Administrative prohibition)", "from another host"];
    assert_found(&scene.asked_outside(), 69, &said);
}

#[test]
fn an_open_relay_is_told_from_a_private_address_too() {
    let scene = Scene::new();
    let _exim = scene.exim().listening(everywhere()).taking("  accept").start();
    // As the hosts of most clouds have it; nothing translates here, and the server answers all the same.
    let private = Ipv4Addr::new(172, 31, 5, 7);
    let far = scene.wire.far.v4;
    scene.stranger.ip(&format!("addr add {private}/32 dev lo\nroute replace {SERVER} via {far} src {private}"));
    scene.host.ip(&format!("route add {private} via {}", scene.wire.near.v4));
    let found = relay_check(&scene.stranger, &SERVER.to_string(), &OUTSIDERS);
    assert_found(&found, 1, &["verdict  open: it took mail", "asked through NAT", "asked from 172.31.5.7"]);
}

#[test]
fn a_postfix_as_it_is_installed_is_closed_and_one_that_trusts_every_network_is_open() {
    let scene = Scene::new();
    let postfix = scene.postfix().listening((SERVER, 25).into()).start();
    let found = scene.asked_outside();
    assert_found(&found, 0, &["verdict  closed", "454 4.7.1 <victim@far.test>: Relay access denied"]);
    assert!(!scene.relays_to(VICTIM), "{}", postfix.log());
    drop(postfix);

    let scene = Scene::new();
    let postfix = scene.postfix().listening((SERVER, 25).into()).main_option("mynetworks = 0.0.0.0/0").start();
    let found = scene.asked_outside();
    assert_found(&found, 1, &["verdict  open", "(outside to outside)", "250 2.1.5 Ok"]);
    assert!(scene.relays_to(VICTIM), "{}", postfix.log());
}

#[test]
fn an_exim_that_falls_for_the_percent_hack_is_open_and_relays() {
    let scene = Scene::new();
    let trick = "victim%far.test@client.test";
    let exim = scene.exim().listening(everywhere()).router(
        "gateway:\n  driver = redirect\n  domains = client.test\n  local_parts = ^.*%\n\
         \x20 data = ${sg{$local_part}{%}{@}}",
    );
    let acl =
        "  accept domains = client.test\n    local_parts = postmaster : ^.*%\n  deny message = relay not permitted";
    let exim = exim.taking(acl).start();
    let found = scene.asked_outside();
    assert_found(&found, 1, &["verdict  open", &format!("<{trick}> (percent hack)"), "control: nobody here"]);
    assert!(!scene.relays_to(VICTIM), "not without the trick");
    assert!(scene.relays_to(trick), "{}", exim.mainlog());
}

#[test]
fn a_catch_all_that_takes_the_percent_hack_for_a_local_name_is_not_called_open() {
    let scene = Scene::new();
    let acl = "  accept domains = client.test\n  deny message = relay not permitted";
    let exim = scene.exim().listening(everywhere()).taking(acl).start();
    let found = scene.asked_outside();
    assert_found(&found, 69, &["verdict  unclear", "(percent hack)", "may be local names"]);
    assert!(!scene.relays_to("victim%far.test@client.test"), "{}", exim.mainlog());
}

#[test]
fn an_exim_that_greylists_or_nobody_at_all_is_unclear() {
    let scene = Scene::new();
    let nobody = relay_check(&scene.stranger, &SERVER.to_string(), &OUTSIDERS);
    assert_found(&nobody, 69, &["verdict  unclear: no connection: Connection refused"]);
    let nowhere = relay_check(&Netns::new(), "[2001:db8::1]:25", &OUTSIDERS);
    assert_found(&nowhere, 69, &["[2001:db8::1]:25\n", "verdict  unclear: no connection: "]);
    let _exim = scene.exim().listening(everywhere()).taking("  defer message = greylisted").start();
    assert_found(&scene.asked_outside(), 69, &["verdict  unclear", "greylisting, perhaps", "451 greylisted"]);
}

#[test]
fn over_ipv6_and_in_json_the_same_is_told() {
    let scene = Scene::new();
    let at = SocketAddr::new(scene.wire.far.v6.into(), 25);
    let _exim = scene.exim().listening(at).taking("  accept").start();
    let mut arguments = OUTSIDERS.to_vec();
    arguments.push("--json");
    let found = relay_check(&scene.stranger, &at.to_string(), &arguments);
    assert_eq!(found.code, 69, "{found:?}");
    let said: serde_json::Value = serde_json::from_str(&found.stdout).unwrap_or_else(|e| panic!("{e}: {found:?}"));
    assert_eq!((&said["verdict"], &said["port"]), (&"unclear".into(), &25.into()));
    let visit = &said["visits"][0];
    assert_eq!(visit["vantage"], "private", "such addresses are a network's own");
    let first = &visit["probes"][0];
    assert_eq!(
        (&first["kind"], &first["outcome"], &first["reason"]),
        (&"relay".into(), &"accepted".into(), &().into())
    );
    assert_eq!(first["dialogue"][2], "> RCPT TO:<victim@far.test>");
    let literal = format!("@[IPv6:{}]", scene.wire.far.v6);
    let probes = visit["probes"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(probes.iter().any(|probe| probe["to"].as_str().is_some_and(|to| to.ends_with(&literal))), "{visit}");
}

#[test]
fn a_server_that_nobody_answers_for_hears_nothing() {
    let scene = Scene::new();
    let exim = scene.exim().listening(everywhere()).taking(OWN_ALONE).start();
    let before = exim.mainlog();
    assert_found(&scene.asked_outside(), 0, &["verdict  closed"]);
    assert_ne!(exim.mainlog(), before, "who is talked to logs it");
    let before = exim.mainlog();
    let refused = relay_check(&scene.stranger, &SERVER.to_string(), &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{refused:?}");
    assert!(refused.stderr.contains("192.0.2.25 is no address of this host"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--i-operate-this-host"), "{}", refused.stderr);
    assert_eq!(exim.mainlog(), before, "it was talked to");
    for bad in ["", "a b", "host:0", "[::1", "127.1"] {
        let usage = relay_check(&scene.stranger, bad, &[]);
        assert_eq!(usage.code, 2, "{bad:?}: {usage:?}");
    }
}

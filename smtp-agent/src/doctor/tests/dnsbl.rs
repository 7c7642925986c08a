//! What is said of block lists: listed, clean, and everything that is neither.

use std::net::{IpAddr, Ipv4Addr};

use simple_dns::RCODE;

use super::{
    super::{
        Gap, Zone,
        dnsbl::{ask, examine, is_public, name},
    },
    *,
};
use crate::dns::tests::{Act, Server, is};

const TEST: &str = "2.0.0.127.";

fn zone(text: &str) -> Zone {
    text.parse().expect("a zone")
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().expect("an address")).collect()
}

fn said(answer: impl Fn(&str) -> Act + Send + Sync + 'static, addresses: &[&str]) -> Vec<Finding> {
    let server = Server::new(answer);
    ask(&server.resolver(), &[zone("zen.spamhaus.org")], &ips(addresses))
}

/// A list that works, and what it says of the rest.
fn working(name: &str, rest: impl Fn(&str) -> Act) -> Act {
    match name.strip_suffix(".zen.spamhaus.org") {
        Some("2.0.0.127") => is(2),
        Some("1.0.0.127") | None => Act::Code(RCODE::NameError),
        Some(other) => rest(other),
    }
}

#[test]
fn an_address_on_a_list_is_a_warning_and_one_that_is_not_is_fine() {
    let answer = |name: &str| {
        working(name, |address| match address {
            "4.4.8.8" => Act::Addresses(vec![Ipv4Addr::new(127, 0, 0, 4), Ipv4Addr::new(127, 0, 0, 10)]),
            _ => Act::Code(RCODE::NameError),
        })
    };
    let found = said(answer, &["8.8.4.4", "9.9.9.9", "2a00:1450::1"]);
    let parts = [
        "8.8.4.4 is on zen.spamhaus.org",
        "4.4.8.8.zen.spamhaus.org is 127.0.0.4: XBL",
        "is 127.0.0.10: PBL",
        "smtp-agent who",
    ];
    assert_one(&found, Level::Warning, &parts);
    assert_one(&found, Level::Ok, &["9.9.9.9, 2a00:1450::1 are not on zen.spamhaus.org"]);
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn a_list_that_does_not_serve_the_resolver_lists_nobody() {
    for code in [[127, 255, 255, 254], [127, 255, 255, 255], [127, 255, 255, 252], [127, 0, 0, 1]] {
        let found = said(move |_| Act::Addresses(vec![Ipv4Addr::from(code)]), &["8.8.4.4"]);
        let shown = Ipv4Addr::from(code).to_string();
        assert_one(&found, Level::Note, &["zen.spamhaus.org refuses the resolver (127.0.0.1:", &shown, "--resolver"]);
        assert_eq!(found.len(), 1, "{found:#?}");
    }
    // Only for the address that matters.
    let found = said(|name| working(name, |_| Act::Addresses(vec![Ipv4Addr::new(127, 255, 255, 254)])), &["8.8.4.4"]);
    assert_one(&found, Level::Note, &["refuses the resolver"]);
}

#[test]
fn a_list_that_is_dead_or_lists_everything_is_not_believed() {
    let found = said(|_| Act::Code(RCODE::NameError), &["8.8.4.4"]);
    assert_one(&found, Level::Note, &["was not believed", "does not list its test entry"]);
    let found = said(|_| is(2), &["8.8.4.4"]);
    assert_one(&found, Level::Note, &["was not believed", "lists everything"]);
    // A resolver that leads every name to an advertisement.
    let found = said(|_| Act::Addresses(vec![Ipv4Addr::new(192, 0, 2, 80)]), &["8.8.4.4"]);
    assert_one(&found, Level::Note, &["answers are none of a block list", "192.0.2.80"]);
}

#[test]
fn where_no_resolver_answers_nothing_is_known() {
    let found = said(|_| Act::Silence, &["8.8.4.4"]);
    assert_one(&found, Level::Note, &["no resolver answers", "--no-dnsbl"]);
    assert_eq!(found[0].unseen, Some(Gap::Resolver));
    let found = said(|_| Act::Code(RCODE::Refused), &["8.8.4.4"]);
    assert_one(&found, Level::Note, &["answers Refused"]);
}

#[test]
fn every_list_is_asked_for_every_public_address_and_no_other() {
    let server = Server::new(|name| if name.starts_with(TEST) { is(2) } else { Act::Code(RCODE::NameError) });
    let zones = ["a.example.org", "b.example.org"].map(zone);
    let addresses = ips(&["127.0.0.1", "10.0.0.1", "8.8.4.4", "::1", "fe80::1", "fd00::1", "::ffff:8.8.4.4"]);
    let found = examine(Path::new("/"), &zones, Some(server.address), (&addresses, &[]));
    assert_one(&found, Level::Ok, &["8.8.4.4 is not on a.example.org"]);
    assert_one(&found, Level::Ok, &["8.8.4.4 is not on b.example.org"]);
    let mut asked = server.asked();
    asked.sort();
    let expected = ["1.0.0.127", "2.0.0.127", "4.4.8.8"].iter();
    let expected: Vec<_> = expected.flat_map(|ip| zones.each_ref().map(|zone| format!("{ip}.{zone}"))).collect();
    assert_eq!(asked, expected);
}

#[test]
fn a_host_without_a_public_address_and_one_that_asks_nobody_ask_nobody() {
    let server = Server::new(|_| is(2));
    let said = |zones: &[Zone], own: &[&str], named: &[&str]| {
        examine(Path::new("/"), zones, Some(server.address), (&ips(own), &ips(named)))
    };
    let zones = [zone("a.example.org")];
    let found = said(&zones, &["10.1.2.3", "127.0.0.1"], &[]);
    assert_one(&found, Level::Note, &["no public address"]);
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = said(&zones, &["10.1.2.3"], &["10.0.0.5"]);
    assert_one(&found, Level::Note, &["10.0.0.5 was not asked for", "--address"]);
    let found = said(&[], &["8.8.4.4"], &[]);
    assert_one(&found, Level::Ok, &["were not asked"]);
    assert_eq!(server.asked(), [""; 0]);
}

#[test]
fn an_address_that_was_named_and_is_not_public_is_told_beside_those_that_are_asked_for() {
    let server = Server::new(|name| if name.starts_with(TEST) { is(2) } else { Act::Code(RCODE::NameError) });
    let named = (&ips(&["10.0.0.1"])[..], &ips(&["10.0.0.5", "8.8.4.4"])[..]);
    let found = examine(Path::new("/"), &[zone("a.example.org")], Some(server.address), named);
    assert_one(&found, Level::Ok, &["8.8.4.4 is not on a.example.org"]);
    assert_one(&found, Level::Note, &["10.0.0.5 was not asked for"]);
    assert_eq!(found.len(), 2, "{found:#?}");
}

#[test]
fn names_are_made_of_octets_or_nibbles_in_reverse() {
    let zone = zone("Zen.Spamhaus.org.");
    let made = |ip: &str| name(ip.parse().expect("an address"), &zone);
    assert_eq!(made("192.0.2.99"), "99.2.0.192.zen.spamhaus.org");
    // The example of RFC 5782, 2.4.
    assert_eq!(
        made("2001:db8:1:2:3:4:567:89ab"),
        "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.zen.spamhaus.org"
    );
    for bad in ["", "zone", "a b.example", "-x.example", "127.0.0.1", "a..b", &format!("{}.example", "a.".repeat(120))]
    {
        assert!(bad.parse::<Zone>().is_err(), "{bad:?}");
    }
}

#[test]
fn only_addresses_that_others_can_see_are_public() {
    let public = |ip: &str| is_public(ip.parse().expect("an address"));
    for yes in ["8.8.4.4", "100.128.0.1", "198.20.0.1", "172.32.0.1", "2a00:1450::1", "2001:4860::8"] {
        assert!(public(yes), "{yes}");
    }
    for no in [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "2001:db8::1",
        "3fff::1",
        "ff02::1",
    ] {
        assert!(!public(no), "{no}");
    }
}

//! Names of destinations, asked of a real DNS server.

use serde_json::Value;
use smtp_tests::{
    Must, World, eventually,
    mta::{Dns, Web},
    uid,
};
use std::{collections::BTreeMap, time::Duration};

/// Destinations are looked at every ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

fn by_destination(world: &World) -> BTreeMap<String, i64> {
    let said = world.agent.cli(&["report", "--by", "destination", "--json"]).expect_ok("a report");
    let said: Value = serde_json::from_str(&said.stdout).must("JSON");
    let rows = said["rows"].as_array().must("rows").iter();
    rows.map(|row| (row["name"].as_str().must("a name").to_owned(), row["attempts"].as_i64().must("attempts")))
        .collect()
}

#[test]
fn destinations_have_names_where_they_are_asked_for_and_none_that_the_dns_does_not_confirm() {
    let world = World::with("");
    let (mx, ptr) = (world.veth.far.v4.into(), world.veth.far.v6.into());
    for (to, times) in [(mx, 3), (ptr, 2)] {
        assert_eq!(world.dial_to(to, 25).uid(uid::SENDER).count(times).run().ok(), times);
    }
    let plain = [(mx.to_string(), 3), (ptr.to_string(), 2)].into();
    eventually(PATIENCE, "they are in the history", || by_destination(&world) == plain);
    let web = Web::with(&[], &[]);
    let dns = Dns::start(
        &web,
        world.cgroup(),
        &[("mx.big.test", mx), ("mail.customer.co.uk", ptr)],
        &[("big.test", "mx.big.test")],
    );
    let resolver = dns.address();
    world.reload(&format!(
        "[history]\nresolve = ['mx', 'ptr']\nresolver = '{resolver}'\nmx_domains = ['big.test', 'absent.test']\n"
    ));
    let named = [("big.test".to_owned(), 3), ("customer.co.uk".to_owned(), 2)].into();
    eventually(PATIENCE, "they have names", || by_destination(&world) == named);
    let who = world.agent.cli(&["who"]).expect_ok("who").stdout;
    assert!(who.contains(&format!("[{ptr}]:25 (mail.customer.co.uk): allowed")), "{who}");
    // Whoever holds the address calls it what he likes.
    let liar = World::with("");
    let from = liar.veth.far.v4;
    assert_eq!(liar.dial().uid(uid::SENDER).run().ok(), 1);
    let [a, b, c, d] = from.octets();
    let reverse = format!("{d}.{c}.{b}.{a}.in-addr.arpa");
    let dns = Dns::claiming(&web, liar.cgroup(), &reverse, "mail.customer.co.uk");
    liar.reload(&format!("[history]\nresolve = ['ptr']\nresolver = '{}'\n", dns.address()));
    eventually(PATIENCE, "it was asked for", || dns.was_asked(&reverse) && dns.was_asked("mail.customer.co.uk"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(by_destination(&liar), [(from.to_string(), 1)].into());
}

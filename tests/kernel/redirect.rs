//! `on_soft = "redirect"`: the overflow reaches the local MTA, and its client is not told.

mod around;
mod sessions;
mod whom;

use smtp_tests::{Dial, Home, Sink, World, dial::Told, uid};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// Two connections of these users pass, three are redirected, the rest is refused.
const PLAN: &str = r#"
[plan.over]
per_hour = 2
soft_percent = 250
on_soft = "redirect"
[[rule]]
user = "61001"
plan = "over"
[[rule]]
user = "61002"
plan = "over"
[[rule]]
user = "61005"
plan = "over"
"#;
/// A third one.
const THIRD: u32 = 61_005;

const QUIET: Duration = Duration::from_millis(100);

/// A world, and the local MTAs on port 25 of the host's loopback.
struct Scene {
    world: World,
    v4: Option<Sink>,
    v6: Option<Sink>,
    /// Dropped last: others may have the port once the sinks are gone.
    home: Home,
}

impl Scene {
    /// With an MTA on 127.0.0.1 and one on ::1.
    #[track_caller]
    fn of(toml: &str) -> Self {
        let mut scene = Self::deserted(toml);
        scene.v4 = Some(scene.home.sink4().start());
        scene.v6 = Some(scene.home.sink6().start());
        scene
    }

    /// With none.
    #[track_caller]
    fn deserted(toml: &str) -> Self {
        // The world first, so that the port is held for a short time.
        let world = World::built("", |builder| builder.config(|config| config.merge(PLAN).merge(toml)));
        Self { world, v4: None, v6: None, home: Home::take() }
    }

    fn far4(&self) -> SocketAddr {
        SocketAddr::new(self.world.veth.far.v4.into(), 25)
    }

    fn far6(&self) -> SocketAddr {
        SocketAddr::new(self.world.veth.far.v6.into(), 25)
    }

    fn dial(&self, user: u32, to: SocketAddr) -> Dial {
        self.world.dial_to(to.ip(), to.port()).uid(user)
    }

    /// Uses up what a user may send elsewhere.
    #[track_caller]
    fn spend(&self, user: u32) {
        assert_eq!(self.dial(user, self.far4()).count(2).run().ok(), 2);
    }

    /// Connections that each local MTA has seen.
    #[track_caller]
    fn at_home(&self) -> (u64, u64) {
        let seen = |sink: &Option<Sink>| sink.as_ref().map_or(0, |sink| sink.connections_when_quiet(QUIET));
        (seen(&self.v4), seen(&self.v6))
    }

    #[track_caller]
    fn far_away(&self) -> u64 {
        self.world.sink.connections_when_quiet(QUIET)
    }

    /// How often a user has met these verdicts: allowed, redirected, deferred, refused.
    #[track_caller]
    fn counted(&self, user: u32) -> [u64; 4] {
        let metrics = self.world.metrics();
        ["allowed", "redirected", "deferred", "refused"].map(|verdict| {
            let labels = [("user", &*user.to_string()), ("verdict", verdict), ("route", "remote")];
            metrics.value("smtp_connections_total", &labels) as u64
        })
    }
}

const LOOPBACK4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOOPBACK6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Where these attempts came from, by the address alone; all of them have reached whom they asked for, as far as they
/// know.
#[track_caller]
fn sources(told: &[Told], asked: SocketAddr) -> Vec<IpAddr> {
    let made: Vec<_> = told.iter().filter(|told| told.result == "ok").collect();
    assert!(made.iter().all(|told| told.peer == Some(asked)), "{asked}: {told:?}");
    made.iter().filter_map(|told| told.own).map(|own| own.ip()).collect()
}

#[test]
fn beyond_the_limit_the_local_mta_answers_and_beyond_the_band_nobody() {
    let scene = Scene::of("");
    let near = scene.world.veth.near;
    let mapped = |v4: Ipv4Addr| IpAddr::V6(v4.to_ipv6_mapped());
    let mapped_peer = SocketAddr::new(mapped(scene.world.veth.far.v4), 25);
    for (user, asked, way, peer, own, home) in [
        (uid::SENDER, scene.far4(), smtp_tests::Way::Plain, scene.far4(), near.v4.into(), LOOPBACK4),
        (uid::OTHER, scene.far6(), smtp_tests::Way::Plain, scene.far6(), near.v6.into(), LOOPBACK6),
        (THIRD, scene.far4(), smtp_tests::Way::Mapped, mapped_peer, mapped(near.v4), mapped(Ipv4Addr::LOCALHOST)),
    ] {
        let told = scene.dial(user, asked).way(way).count(7).run_told();
        let results: Vec<_> = told.iter().map(|told| told.result.as_str()).collect();
        assert_eq!(results, ["ok", "ok", "ok", "ok", "ok", "EPERM", "EPERM"], "{way} to {asked}");
        assert_eq!(sources(&told, peer), [own, own, home, home, home], "{way} to {asked}");
        assert_eq!(scene.counted(user), [2, 3, 0, 2]);
    }
    assert_eq!((scene.far_away(), scene.at_home()), (6, (6, 3)), "what the MTAs have seen");
    assert_eq!(scene.world.counted_in_all(), 21, "each once");
}

#[test]
fn not_one_too_many_is_redirected_whoever_asks_at_once() {
    let scene = Scene::of("[plan.over]\nper_hour = 100");
    let tally = scene.dial(uid::SENDER, scene.far4()).count(600).threads(4).run();
    assert_eq!((tally.ok(), tally.eperm()), (250, 350), "{tally:?}");
    assert_eq!((scene.far_away(), scene.at_home()), (100, (150, 0)));
    assert_eq!(scene.counted(uid::SENDER), [100, 150, 0, 350]);
}

#[test]
fn observe_mode_says_what_it_would_redirect_and_leads_nobody_anywhere() {
    let scene = Scene::of("mode = \"observe\"");
    let told = scene.dial(uid::SENDER, scene.far4()).count(6).run_told();
    assert_eq!(sources(&told, scene.far4()), [IpAddr::from(scene.world.veth.near.v4); 6]);
    assert_eq!((scene.far_away(), scene.at_home()), (6, (0, 0)));
    let counted = |verdict| scene.world.counted_uid(uid::SENDER, verdict);
    assert_eq!(["allowed", "would_redirect", "would_refuse"].map(counted), [2, 3, 1]);
}

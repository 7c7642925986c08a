//! At the root of the hierarchy, where the gate hangs in earnest: in observe mode and for a port of the test's own,
//! so that nothing else on the host is touched.

use nix::mount::{MntFlags, umount2};
use smtp_tests::{Agent, Cgroup, Dial, Netns, Veth, cgroup, mountns::MountNs, port};

/// A gate at the root sees every test's connections, so each such test has a port that nobody else uses.
fn config(port: u16) -> String {
    format!("mode = 'observe'\n[smtp]\nports = [{port}]\n[kernel]\ncgroup = 'auto'\n[deny]\nusers = ['61003']")
}

fn seen(agent: &Agent) -> f64 {
    agent.metrics().value("smtp_connections_total", &[("user", "61003"), ("verdict", "would_refuse")])
}

#[test]
fn at_the_root_every_cgroup_and_every_namespace_meets_the_gate() {
    let port = port::free();
    let agent = Agent::builder().config(|c| c.merge(&config(port))).start();
    let (inner, sink) = (Netns::new(), Netns::new());
    let (near, far) = (Veth::between_host_and(&sink), Veth::between(&inner, &sink));
    let dial = |wire: &Veth| Dial::to(std::net::SocketAddr::new(wire.far.v4.into(), port)).uid(61_003);
    dial(&near).run();
    assert_eq!(seen(&agent), 1.0, "from the root cgroup");
    let child = Cgroup::new("anywhere");
    dial(&near).cgroup(&child).run();
    assert_eq!(seen(&agent), 2.0, "from a cgroup made after the attach");
    dial(&far).netns(&inner).run();
    let container = agent
        .metrics()
        .series("smtp_connections_total")
        .into_iter()
        .any(|s| s.label("user").starts_with("container:netns-") && s.value > 0.0);
    assert!(container, "from a namespace whose cgroup says nothing, called by its cookie");
}

#[test]
fn a_host_that_mounts_no_cgroup_v2_gets_a_private_mount() {
    let legacy = MountNs::new(|| {
        umount2(&cgroup::root(), MntFlags::MNT_DETACH).expect("the v2 hierarchy can be unmounted here");
    });
    let port = port::free();
    let mut agent = Agent::builder().config(|c| c.merge(&config(port))).view(&legacy).start();
    let sink = Netns::new();
    let wire = Veth::between_host_and(&sink);
    Dial::to(std::net::SocketAddr::new(wire.far.v4.into(), port)).uid(61_003).run();
    assert_eq!(seen(&agent), 1.0);
    assert!(agent.stderr_so_far().contains("mounted one for the agent"), "{}", agent.stderr_so_far());
    assert_eq!(agent.cli(&["status"]).code, 0);
    assert_eq!(agent.stop(), 0);
    assert_eq!(agent.cli(&["detach"]).code, 0);
    let mount = agent.run_dir().join("cgroup");
    assert!(!legacy.run(|| mount.exists()), "detach takes the mount away again");
}

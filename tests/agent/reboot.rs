//! What another boot has left, as far as the agent can tell: another boot id, and nothing pinned.

use crate::scene::{SOON, assert_has, assert_logged};
use smtp_tests::{
    Cgroup, Dial, Must, Netns, Veth, World, eventually,
    mountns::{MountNs, bind},
    scratch, sink, uid,
};
use std::{fs, net::SocketAddr, path::Path};
use tempfile::TempDir;

struct Boots {
    world: World,
    dir: TempDir,
    boot: u32,
}

impl Boots {
    #[track_caller]
    fn with(toml: &str, manners: impl FnOnce(sink::Builder) -> sink::Builder) -> Self {
        let dir = scratch::dir();
        write_id(dir.path(), 0);
        smtp_tests::bpffs::ensure();
        let view = MountNs::new(|| bind(&dir.path().join("boot_id"), Path::new("/proc/sys/kernel/random/boot_id")));
        let mut world = World::made(toml, |agent| agent.view(&view), manners);
        world.agent.start();
        Self { world, dir, boot: 0 }
    }

    /// Ends the agent and all it has in the kernel, does what happens while the host is down, and starts it in another boot.
    #[track_caller]
    fn reboot(&mut self, meanwhile: impl FnOnce(&World)) {
        assert_eq!(self.world.agent.stop(), 0);
        self.world.agent.cli(&["detach"]).expect_ok("detach");
        self.boot += 1;
        write_id(self.dir.path(), self.boot);
        meanwhile(&self.world);
        self.world.agent.start();
        assert_logged(&self.world.agent, &["go on where the boot before left them"]);
    }
}

fn write_id(dir: &Path, boot: u32) {
    fs::write(dir.join("boot_id"), format!("{boot}\n")).must("a boot id");
}

const NEVER: &str = "[plan.standard]\nmax_failed_percent = 50\nmin_failed = 5\nrelease_after = 'never'\n";

#[test]
fn a_brake_that_stays_holds_over_reboots_until_it_is_released() {
    let mut boots = Boots::with("", |sink| sink.obedient());
    boots.world.reload(NEVER);
    let fail = |world: &World, user| drop(world.mailer(user).messages(5).sender_tag("+body550").run());
    let refused = |world: &World, user| world.dial().uid(user).run().eperm() == 1;
    fail(&boots.world, uid::SENDER);
    assert!(refused(&boots.world, uid::SENDER));
    // Under another number.
    boots.reboot(|world| world.agent.rewrite_config(&format!("[plan.another]\nper_hour = 9\n{NEVER}")));
    assert!(refused(&boots.world, uid::SENDER), "held from the first connection on");
    assert!(!refused(&boots.world, uid::OTHER));
    boots.reboot(|_| {});
    assert!(refused(&boots.world, uid::SENDER), "and over the next");
    let told = boots.world.agent.cli(&["release", "61001"]).expect_ok("release").stdout;
    assert_has(&told, &["the failure brake of 61001 is let go"]);
    assert!(!refused(&boots.world, uid::SENDER));
    boots.reboot(|_| {});
    assert!(!refused(&boots.world, uid::SENDER), "who was released is free");
    fail(&boots.world, uid::SENDER);
    assert!(refused(&boots.world, uid::SENDER));
    boots.reboot(|world| world.agent.rewrite_config("[plan.standard]\nper_hour = 50\n"));
    assert_logged(&boots.world.agent, &["their plans are gone or have no brake any more"]);
    assert!(!refused(&boots.world, uid::SENDER));
}

struct Container {
    inner: Netns,
    wire: Veth,
    name: &'static str,
}

impl Container {
    fn new(world: &World, name: &'static str) -> Self {
        let inner = Netns::new();
        let wire = Veth::between(&inner, &world.ns);
        Self { inner, wire, name }
    }

    fn dial(&self, cgroup: &Cgroup, count: u64) -> u64 {
        let to = SocketAddr::new(self.wire.far.v4.into(), 25);
        Dial::to(to).cgroup(cgroup).netns(&self.inner).count(count).run().ok()
    }

    fn counted(&self, world: &World) -> u64 {
        world.counted(&format!("container:{}", self.name), "allowed")
    }
}

#[test]
fn a_container_goes_on_with_its_limit_after_a_reboot_under_its_cgroups_path() {
    let mut boots = Boots::with("[plan.standard]\nper_hour = 50\nsoft_percent = 100\n", |sink| sink);
    let [early, late] = ["early", "late"].map(|name| Container::new(&boots.world, name));
    let cgroup = |world: &World, one: &Container| world.cgroup().child(one.name);
    let [first, second] = [&early, &late].map(|one| cgroup(&boots.world, one));
    assert_eq!((early.dial(&first, 48), late.dial(&second, 49)), (48, 49));
    eventually(SOON, "both have their names", || early.counted(&boots.world) == 48 && late.counted(&boots.world) == 49);
    let number = first.id();

    // One that is there when the agent starts, under another number, and one that is not.
    let mut there = None;
    boots.reboot(|world| {
        drop((first, second));
        there = Some(cgroup(world, &early));
    });
    let first = there.must("a cgroup");
    assert_ne!(first.id(), number);
    assert_eq!(early.counted(&boots.world), 48);
    assert_eq!(early.dial(&first, 5), 2, "exact from the first connection on");
    assert_eq!(early.counted(&boots.world), 50);

    // In the next boot the one is where it was, and the other still not there.
    let said = boots.world.agent.cli(&["allow", "--container", "early"]);
    said.expect_ok("allow");
    boots.reboot(|_| {});
    eventually(SOON, "what was said of it holds", || early.dial(&first, 1) == 1);
    let second = cgroup(&boots.world, &late);
    assert_eq!(late.counted(&boots.world), 49, "nobody has forgotten it");
    let mut passed = 0;
    eventually(SOON, "it is named and has what it had", || {
        let got = late.dial(&second, 1);
        passed += got;
        got == 0
    });
    assert!(passed < 50, "{passed} is a limit of its own");
    assert_eq!(late.counted(&boots.world), 49 + passed, "and shown under the same name");

    // Those that were charged before it was named are charged to the same from here on.
    boots.reboot(|_| {});
    assert_eq!(late.dial(&second, 3), 0);
    assert_eq!(late.counted(&boots.world), 49 + passed);
}

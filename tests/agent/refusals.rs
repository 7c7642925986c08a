//! Hosts and files with which the agent cannot start: a code, a sentence, and nothing left behind.

use crate::{
    bpf,
    host::{self, capability},
    scene::{assert_has, failed_start, names_in, refused_start},
};
use smtp_tests::{Agent, Must, cgroup, scratch};
use std::{fs, net::TcpListener, path::Path};

const ORDINARY: u32 = smtp_tests::uid::SENDER;

#[test]
fn a_metrics_port_in_use_is_named_before_anything_is_attached() {
    let agent = Agent::builder().stopped();
    let _taken = TcpListener::bind(agent.metrics_address()).must("the port was free");
    let output = refused_start(&agent, |_| {});
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &[&agent.metrics_address(), "[metrics] listen", "in use"]);
}

#[test]
fn a_metrics_address_of_another_host_is_named() {
    let agent = Agent::builder().config(|c| c.set("metrics.listen", "192.0.2.1:9725")).stopped();
    let output = refused_start(&agent, |_| {});
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["192.0.2.1:9725"]);
}

#[test]
fn a_run_directory_that_cannot_be_written_is_named() {
    let agent = Agent::builder().stopped();
    let view = host::read_only(agent.run_dir());
    let output = refused_start(&agent, |command| view.enter(command));
    assert_eq!(output.code, 77, "{output:?}");
    assert_has(&output.stderr, &["control.sock", "Read-only", "[paths]"]);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = scratch::dir();
    let state = dir.path().join("state").display().to_string();
    let agent = Agent::builder().config(|c| c.set("paths.state", state.clone())).stopped();
    let view = host::read_only(dir.path().into());
    let output = refused_start(&agent, |command| view.enter(command));
    assert_eq!(output.code, 77, "{output:?}");
    assert_has(&output.stderr, &[&state, "Read-only", "[paths]"]);
}

#[test]
fn a_file_in_the_place_of_a_directory_is_named() {
    let dir = scratch::dir();
    let file = dir.path().join("file");
    fs::write(&file, "").must("cannot write");
    for key in ["run", "state"] {
        let agent = Agent::builder().config(|c| c.set(&format!("paths.{key}"), file.display().to_string())).stopped();
        let output = refused_start(&agent, |_| {});
        assert_eq!(output.code, 69, "{output:?}");
        assert_has(&output.stderr, &[&format!("[paths] {key}"), &file.display().to_string()]);
    }
}

#[test]
fn an_ordinary_user_is_told_to_be_root() {
    let agent = Agent::builder().stopped();
    let output = agent.cli_as(ORDINARY, ORDINARY, &["run"]);
    assert_eq!(output.code, 77, "{output:?}");
    assert_has(&output.stderr, &["run as root", "CAP_BPF"]);
    assert!(!agent.pins_dir().exists());
}

#[test]
fn an_ordinary_user_is_not_told_that_a_gate_he_may_not_see_is_absent() {
    let agent = Agent::builder().start();
    for command in [&["status"][..], &["explain", "--user", "root"], &["detach"], &["events"], &["reload"]] {
        let output = agent.cli_as(ORDINARY, ORDINARY, command);
        assert_eq!(output.code, 77, "{command:?}: {output:?}");
        assert_has(&output.stderr, &["root"]);
        assert_eq!(output.stdout, "", "{command:?}");
    }
    assert_eq!(agent.cli(&["status"]).code, 0, "nothing was harmed");
}

#[test]
fn root_without_capabilities_is_told_which() {
    let agent = Agent::builder().stopped();
    let all = &[capability::BPF, capability::SYS_ADMIN, capability::PERFMON, capability::NET_ADMIN];
    let output = refused_start(&agent, |command| host::without_capabilities(command, all));
    assert_eq!(output.code, 77, "{output:?}");
    assert_has(&output.stderr, &["Operation not permitted", "CAP_BPF", "CAP_NET_ADMIN"]);
}

#[test]
fn a_kernel_without_btf_is_told_apart_and_advised() {
    let agent = Agent::builder().stopped();
    let view = host::empty("/sys/kernel/btf");
    let output = refused_start(&agent, |command| view.enter(command));
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn a_kernel_that_is_too_old_is_told_what_is_needed() {
    let agent = Agent::builder().stopped();
    let output = refused_start(&agent, host::old_kernel);
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["this kernel is 2.6.", "5.10"]);
}

#[test]
fn a_container_that_hides_bpf_is_told_apart() {
    let agent = Agent::builder().stopped();
    let output = refused_start(&agent, host::no_bpf);
    assert_eq!(output.code, 69, "{output:?}");
    assert_has(&output.stderr, &["no bpf(2)", "seccomp", "CONFIG_BPF_SYSCALL"]);
}

#[test]
fn pins_outside_a_bpf_filesystem_are_a_mistake_of_the_configuration() {
    let dir = scratch::dir();
    let pins = dir.path().join("pins");
    let agent = Agent::builder().config(|c| c.set("paths.pins", pins.display().to_string())).stopped();
    let output = refused_start(&agent, |_| {});
    assert_eq!(output.code, 2, "{output:?}");
    assert_has(&output.stderr, &[&pins.display().to_string(), "[paths] pins", "/sys/fs/bpf"]);
    assert_eq!(names_in(dir.path()), [""; 0], "nothing is left");
}

#[test]
fn what_lay_in_a_directory_that_cannot_hold_pins_is_left_alone() {
    let dir = scratch::dir();
    fs::write(dir.path().join("precious"), "data").must("cannot write");
    let agent = Agent::builder().config(|c| c.set("paths.pins", dir.path().display().to_string())).stopped();
    let output = failed_start(&agent, |_| {});
    assert_eq!(output.code, 2, "{output:?}");
    assert_eq!(agent.cli(&["detach"]).code, 0);
    assert_eq!(names_in(dir.path()), ["precious"]);
}

#[test]
fn a_cgroup_that_does_not_exist_or_is_none_is_named() {
    let dir = scratch::dir();
    let shown = |path: &Path| path.display().to_string();
    for (path, code, said) in [
        (shown(&cgroup::root().join("no-such-cgroup")), 69, "No such file"),
        (shown(dir.path()), 2, "not in the cgroup v2 hierarchy"),
    ] {
        let agent = Agent::builder().config(|c| c.set("kernel.cgroup", path.clone())).stopped();
        let output = refused_start(&agent, |_| {});
        assert_eq!(output.code, code, "{output:?}");
        assert_has(&output.stderr, &[&path, said, "[kernel] cgroup"]);
    }
}

#[test]
fn a_program_that_tolerates_none_beside_it_is_told_from_missing_rights() {
    let agent = Agent::builder().stopped();
    bpf::attach_foreign_program(agent.cgroup(), 2599, bpf::Others::ShutOut);
    let output = failed_start(&agent, |_| {});
    assert_eq!(output.code, 69, "{output:?}");
    let cgroup = agent.cgroup().path().display().to_string();
    assert_has(&output.stderr, &["connect4", &cgroup, "none beside it", "bpftool cgroup"]);
    assert!(!output.stderr.contains("run as root"), "{output:?}");
    assert!(!agent.pins_dir().exists());
    assert_eq!(bpf::attached(agent.cgroup()), 1, "theirs alone");
}

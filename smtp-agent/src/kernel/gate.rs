//! Loading the probe, hanging it on the cgroup, and taking over from an agent that went before.
//!
//! The order makes a gap or a double count impossible: maps are made or adopted, the policy is in force in
//! them, and only then programs are attached. On a take-over the new programs use the same maps and are put
//! behind the pinned links one by one, each in one step.

mod ahead;
mod failure;

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    programs::{Program, ProgramFd},
};
use aya_log::EbpfLogger;
use aya_obj::generated::bpf_attach_type;
use smtp_common::{
    names::{global, map, program},
    rule::Policy,
};

use failure::{attach_failure, broken_build, load_failure, program_failure};

use super::{
    cgroup::Hierarchy,
    host::Host,
    maps::Maps,
    pins::{Pins, State},
    sys,
};
use crate::{
    accounts::netns,
    config::Level,
    exit::{Failure, Result},
};

static PROBE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smtp-ebpf"));

/// A loaded probe. Dropping it leaves attached programs attached: their links are pinned.
pub struct Gate {
    ebpf: Ebpf,
    pins: Pins,
    /// Number of this load.
    instance: u64,
    /// Why this kernel does not let executions be counted.
    untraceable: Option<Failure>,
}

/// What a policy needs besides the gate itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Sessions are followed.
    pub messages: bool,
    /// Connections are led to the local MTA.
    pub redirects: bool,
}

impl Needs {
    pub fn of(policy: &Policy) -> Self {
        Self { messages: policy.sessions != 0, redirects: policy.redirects != 0 }
    }
}

/// What was done with the link of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// Attached where nothing was.
    Newly,
    /// Put in the place of the program that was there.
    Replaced,
    /// Attached to another cgroup than before; the old link was removed after.
    Moved,
}

impl Gate {
    /// Loads the probe with the pinned maps, making those that are not there. Fresh pins are removed again when
    /// loading fails.
    pub fn load(pins: &Pins, host: &Host, hierarchy: &Hierarchy, probe_log: Option<Level>) -> Result<Self> {
        let state = pins.state()?;
        match state {
            State::Absent | State::Ours => {}
            State::Unfinished => {
                let removed = pins.remove_contents()?;
                tracing::info!(removed, "a start before this one was cut off; its pins were removed");
            }
            other => return Err(pins.refusal(other)),
        }
        Self::load_with(pins, host, hierarchy, probe_log).inspect_err(|_| {
            if state != State::Ours {
                // Best effort: the error that led here is the one to tell.
                let _ = pins.remove();
            }
        })
    }

    fn load_with(pins: &Pins, host: &Host, hierarchy: &Hierarchy, probe_log: Option<Level>) -> Result<Self> {
        let paths = map::ALL.map(|name| (name, pins.map(name)));
        let has_set_retval = host.has_set_retval as u8;
        // The numbers of aya-log's levels are those of `log`; 0 keeps every message out of the program.
        let level = probe_log.map_or(0, |level| level as u8 + 1);
        // The boot clock: no two loads have the same.
        let instance = sys::boot_nanos();
        let host_netns = netns::cookie_of(Path::new("/proc/1/ns/net")).unwrap_or(0);
        let mut loader = EbpfLoader::new();
        for (name, offset) in &host.offsets.0 {
            loader.override_global(name, offset, true);
        }
        loader
            .override_global(global::HOST_NETNS, &host_netns, true)
            .override_global(global::INSTANCE, &instance, true)
            .override_global(global::ROOT_CGROUP, &hierarchy.root_id, true)
            .override_global(global::HAS_SET_RETVAL, &has_set_retval, true)
            .override_global(aya_log::LEVEL, &level, false);
        for (name, path) in &paths {
            loader.map_pin_path(name, path);
        }
        if !host.allocates_anywhere {
            ahead::make(pins)?;
        }
        let mut ebpf = loader.load(PROBE).map_err(|e| load_failure(&e))?;
        let btf = Btf::from_sys_fs()
            .map_err(|e| Failure::unavailable(format!("{} cannot be read: {e}", super::btf::VMLINUX)))?;
        let mut untraceable = None;
        for name in program::ALL {
            if program::TRACERS.contains(&name) && !host.allocates_anywhere {
                untraceable.get_or_insert_with(|| Failure::unavailable("the counters would be made on demand"));
                continue;
            }
            let program = ebpf.program_mut(name).ok_or_else(|| broken_build(name))?;
            match program {
                Program::CgroupSockAddr(program) => program.load(),
                Program::CgroupSkb(program) => program.load(),
                Program::SockOps(program) => program.load(),
                Program::BtfTracePoint(program) => program.load(tracepoint(name), &btf),
                Program::RawTracePoint(program) => program.load(),
                _ => return Err(broken_build(name)),
            }
            .map_err(|e| program_failure(name, &e))
            .or_else(|failure| match program::TRACERS.contains(&name) && !host.must_trace {
                true => {
                    untraceable.get_or_insert(failure);
                    Ok(())
                }
                false => Err(failure),
            })?;
        }
        Ok(Self { ebpf, pins: pins.clone(), instance, untraceable })
    }

    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    pub fn maps(&self) -> Result<Maps> {
        Maps::open(&self.pins)
    }

    /// The probe's own log messages.
    pub fn logger(&mut self) -> Result<EbpfLogger<&'static dyn log::Log>> {
        EbpfLogger::init(&mut self.ebpf)
            .map_err(|e| Failure::unavailable(format!("the probe's log messages cannot be read: {e}")))
    }

    /// Puts every program in force that the policy needs: those that follow sessions only where it counts messages, and
    /// those that answer for redirected connections only where it redirects. On an error, links made by this call are
    /// removed again.
    pub fn attach(&mut self, hierarchy: &Hierarchy, needs: Needs) -> Result<Vec<(&'static str, Attached)>> {
        let mut done = Vec::new();
        // The others come first: a session that is noted at its connect() is followed from its first packet.
        let redirectors = program::REDIRECTORS.iter().filter(|_| needs.redirects);
        let followers = program::FOLLOWERS.iter().filter(|_| needs.messages);
        for name in redirectors.chain(followers).chain(&program::GATE) {
            match self.attach_one(name, hierarchy) {
                Ok(how) => done.push((*name, how)),
                Err(e) => {
                    for (name, how) in done {
                        if how == Attached::Newly {
                            let _ = std::fs::remove_file(self.pins.link(name));
                        }
                    }
                    return Err(e);
                }
            }
        }
        Ok(done)
    }

    /// Has the programs follow cgroups as they come and go, in the place of those of an agent before.
    pub fn attach_watchers(&mut self) -> Result<()> {
        self.attach_raw(program::WATCHERS.into_iter().zip(["cgroup_mkdir", "cgroup_rmdir"]))
    }

    /// Has the programs remember who executes what and who forks whom, likewise.
    pub fn attach_witnesses(&mut self) -> Result<()> {
        self.attach_raw(program::WITNESSES.into_iter().zip(["sched_process_exec", "sched_process_fork"]))
    }

    /// Programs whose work may be done twice: while one takes over from another, both do it for a moment.
    fn attach_raw(&mut self, programs: impl Iterator<Item = (&'static str, &'static str)>) -> Result<()> {
        for (name, tracepoint) in programs {
            let link = sys::attach_to_tracepoint(self.program(name)?.as_fd(), Some(tracepoint)).map_err(|e| {
                Failure::from_io(&e, format!("the program {name} cannot be attached to the tracepoint {tracepoint}"))
            })?;
            self.pin_instead(name, &link)?;
        }
        Ok(())
    }

    /// Pins a link in the place of the one that was there.
    fn pin_instead(&self, name: &str, link: &OwnedFd) -> Result<()> {
        let path = self.pins.link(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::from_io(&e, format!("the old link {path:?} cannot be unpinned")));
            }
            _ => {}
        }
        sys::pin(link.as_fd(), &path)
            .map_err(|e| Failure::from_io(&e, format!("the link of {name} cannot be pinned at {path:?}")))
    }

    /// Hangs the programs on their tracepoints that count executions, in the place of those of an agent before. A tracepoint
    /// cannot pass from one program to another in one step: both hang there for a moment, and the map says whose turn it
    /// is.
    pub fn attach_tracers(&mut self, maps: &mut Maps) -> Result<()> {
        if let Some(why) = &self.untraceable {
            tracing::warn!("executions of sendmail are neither counted nor limited: that needs Linux 6.1 or newer");
            tracing::debug!("{why}");
            return Ok(());
        }
        let mut links = Vec::new();
        for name in program::TRACERS {
            let link = sys::attach_to_tracepoint(self.program(name)?.as_fd(), None).map_err(|e| {
                Failure::from_io(&e, format!("the program {name} cannot be attached to its tracepoint"))
            })?;
            links.push((name, link));
        }
        maps.set_turn(self.instance)?;
        for (name, link) in links {
            self.pin_instead(name, &link)?;
        }
        Ok(())
    }

    /// Takes these programs away again.
    pub fn detach_tracers(&mut self, maps: &mut Maps) -> Result<()> {
        maps.set_turn(0)?;
        self.unpin(&program::TRACERS)
    }

    pub fn detach_watchers(&mut self) -> Result<()> {
        self.unpin(&program::WATCHERS)
    }

    fn unpin(&self, programs: &[&str]) -> Result<()> {
        for name in programs {
            match std::fs::remove_file(self.pins.link(name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::from_io(&e, format!("{name} cannot be detached")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes programs away from the cgroup: those that follow sessions, or those that answer for redirected connections.
    /// Returns those that were there.
    pub fn detach(&mut self, programs: &[&'static str]) -> Result<Vec<&'static str>> {
        let mut done = Vec::new();
        for &name in programs {
            let path = self.pins.link(name);
            let link = match sys::open_pin(&path) {
                Ok(link) => link,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Failure::from_io(&e, format!("the pinned link {path:?} cannot be opened"))),
            };
            sys::detach_link(link.as_fd())
                .and_then(|()| std::fs::remove_file(&path))
                .map_err(|e| Failure::from_io(&e, format!("{name} cannot be detached")))?;
            done.push(name);
        }
        Ok(done)
    }

    fn attach_one(&mut self, name: &'static str, hierarchy: &Hierarchy) -> Result<Attached> {
        let path = self.pins.link(name);
        let pinned = match sys::open_pin(&path) {
            Ok(link) => Some(link),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(Failure::from_io(&e, format!("the pinned link {path:?} cannot be opened"))),
        };
        let Some(link) = pinned else {
            self.attach_new(name, hierarchy)?;
            return Ok(Attached::Newly);
        };
        let at = sys::cgroup_of_link(link.as_fd())
            .map_err(|e| Failure::from_io(&e, format!("the pinned link {path:?} cannot be asked for its cgroup")))?;
        if at == Some(hierarchy.attach_id()?) {
            sys::replace_program(link.as_fd(), self.program(name)?.as_fd())
                .map_err(|e| Failure::from_io(&e, format!("{name} cannot take over from the program before it")))?;
            return Ok(Attached::Replaced);
        }
        self.move_link(name, hierarchy, link)?;
        Ok(Attached::Moved)
    }

    /// Attaches at the new cgroup first, so that no connect goes unguarded; until the old link is gone, one that
    /// both cgroups see is counted by both.
    fn move_link(&mut self, name: &'static str, hierarchy: &Hierarchy, old: OwnedFd) -> Result<()> {
        let path = self.pins.link(name);
        std::fs::remove_file(&path)
            .map_err(|e| Failure::from_io(&e, format!("the old link {path:?} cannot be unpinned")))?;
        self.attach_new(name, hierarchy)?;
        sys::detach_link(old.as_fd())
            .map_err(|e| Failure::from_io(&e, format!("{name} cannot be detached from the cgroup it was attached to")))
    }

    fn attach_new(&mut self, name: &'static str, hierarchy: &Hierarchy) -> Result<()> {
        let cgroup: File = hierarchy.open_attach()?;
        let link = sys::attach_to_cgroup(self.program(name)?.as_fd(), cgroup.as_fd(), hook(name))
            .map_err(|e| attach_failure(name, &hierarchy.attach, &e))?;
        let path = self.pins.link(name);
        // The pin holds the link from here on; the descriptor goes, so that removing the pin detaches.
        sys::pin(link.as_fd(), &path)
            .map_err(|e| Failure::from_io(&e, format!("the link of {name} cannot be pinned at {path:?}")))
    }

    fn program(&self, name: &str) -> Result<&ProgramFd> {
        let program = self.ebpf.program(name).ok_or_else(|| broken_build(name))?;
        program.fd().map_err(|e| program_failure(name, &e))
    }
}

/// Where a program hangs.
fn hook(name: &str) -> bpf_attach_type {
    match name {
        program::CONNECT4 => bpf_attach_type::BPF_CGROUP_INET4_CONNECT,
        program::CONNECT6 => bpf_attach_type::BPF_CGROUP_INET6_CONNECT,
        program::SESSION => bpf_attach_type::BPF_CGROUP_SOCK_OPS,
        program::SENT => bpf_attach_type::BPF_CGROUP_INET_EGRESS,
        program::PEER4 => bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME,
        program::PEER6 => bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME,
        _ => bpf_attach_type::BPF_CGROUP_INET_INGRESS,
    }
}

fn tracepoint(name: &str) -> &'static str {
    if name == program::FORK { "sched_process_fork" } else { "sched_process_exec" }
}

/// Whether the link of a program is pinned and still hangs on a living cgroup. (Of a tracepoint's link the pin is enough:
/// nothing but its end takes it away.)
pub fn is_attached(pins: &Pins, program: &str) -> bool {
    let hangs = |link: OwnedFd| matches!(sys::cgroup_of_link(link.as_fd()), Ok(Some(_)));
    let tracepoints = [program::TRACERS, program::WATCHERS, program::WITNESSES];
    let traces = tracepoints.iter().any(|programs| programs.contains(&program));
    sys::open_pin(&pins.link(program)).is_ok_and(|link| traces || hangs(link))
}

/// Whether all of these programs are attached: [`program::GATE`], which decides connections, [`program::FOLLOWERS`] and so
/// on.
pub fn are_attached(pins: &Pins, programs: &[&str]) -> bool {
    programs.iter().all(|program| is_attached(pins, program))
}

/// Whether the gate is in force.
pub fn stands(pins: &Pins) -> bool {
    are_attached(pins, &program::GATE)
}

//! Whose programs hang on a cgroup besides ours: asked of the kernel, which also tells the order they run in.

use std::{
    fs::File,
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use aya_obj::generated::{
    BPF_F_ALLOW_MULTI, BPF_F_ALLOW_OVERRIDE, BPF_F_QUERY_EFFECTIVE, bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info,
    bpf_prog_info,
};
use smtp_common::names::program;

use super::{
    cgroup::Hierarchy,
    pins::Pins,
    sys::{bpf, open_pin, zeroed},
};
use crate::{
    accounts::label::{printable, printable_until_nul},
    exit::{Failure, Result},
};

/// Where a program that matters to SMTP can hang on a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    Connect4,
    Connect6,
    PeerName4,
    PeerName6,
    Egress,
    Ingress,
}

impl Hook {
    pub const ALL: [Self; 6] =
        [Self::Connect4, Self::Connect6, Self::PeerName4, Self::PeerName6, Self::Egress, Self::Ingress];

    /// As bpftool(8) writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect4 => "cgroup_inet4_connect",
            Self::Connect6 => "cgroup_inet6_connect",
            Self::PeerName4 => "cgroup_inet4_getpeername",
            Self::PeerName6 => "cgroup_inet6_getpeername",
            Self::Egress => "cgroup_inet_egress",
            Self::Ingress => "cgroup_inet_ingress",
        }
    }

    const fn attach_type(self) -> bpf_attach_type {
        match self {
            Self::Connect4 => bpf_attach_type::BPF_CGROUP_INET4_CONNECT,
            Self::Connect6 => bpf_attach_type::BPF_CGROUP_INET6_CONNECT,
            Self::PeerName4 => bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME,
            Self::PeerName6 => bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME,
            Self::Egress => bpf_attach_type::BPF_CGROUP_INET_EGRESS,
            Self::Ingress => bpf_attach_type::BPF_CGROUP_INET_INGRESS,
        }
    }
}

/// What a program lets others do at the place where it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Others may hang beside it (`BPF_F_ALLOW_MULTI`).
    Tolerated,
    /// One in a cgroup below takes its place there (`BPF_F_ALLOW_OVERRIDE`).
    GivesWay,
    /// None may be attached beside or below it.
    ShutOut,
}

/// When a program runs, against ours on the same hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Before,
    After,
}

/// A program of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    pub id: u32,
    /// Up to 15 bytes, chosen by whoever loaded it; may be empty.
    pub name: String,
    pub hook: Hook,
    /// Where it hangs: the attach cgroup or one above, from the root of the hierarchy.
    pub cgroup: String,
    /// It hangs in a cgroup above the one that ours hang on.
    pub above: bool,
    pub company: Company,
    pub turn: Turn,
    /// Ours hangs on the same hook already.
    pub beside_ours: bool,
}

/// Programs of others on the hooks of the attach cgroup and those above. Ours are told by their pins.
pub fn foreign(pins: &Pins, hierarchy: &Hierarchy) -> Result<Vec<Foreign>> {
    let ours = program::ALL.iter().filter_map(|name| id_behind(&pins.link(name))).collect::<Vec<_>>();
    let mut found = Vec::new();
    for hook in Hook::ALL {
        on_hook(hook, hierarchy, &ours, &mut found)
            .map_err(|e| Failure::from_io(&e, "the programs on the cgroup's hooks cannot be listed"))?;
    }
    Ok(found)
}

fn on_hook(hook: Hook, hierarchy: &Hierarchy, ours: &[u32], found: &mut Vec<Foreign>) -> io::Result<()> {
    let attach = File::open(&hierarchy.attach)?;
    // In the order they run in: those of the cgroup itself first, in the order they were attached, then those of each
    // cgroup above (`compute_effective_progs`, kernel/bpf/cgroup.c).
    let effective = match query(attach.as_fd(), hook, BPF_F_QUERY_EFFECTIVE) {
        Ok(effective) => effective.ids,
        // A kernel without this hook.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
        Err(e) => return Err(e),
    };
    let our_turn = effective.iter().position(|id| ours.contains(id));
    for dir in from_bottom_to_root(hierarchy) {
        let above = dir != hierarchy.attach;
        let direct = query(File::open(&dir)?.as_fd(), hook, 0)?;
        for id in direct.ids.into_iter().filter(|id| !ours.contains(id)) {
            let turn = match (our_turn, effective.iter().position(|e| *e == id)) {
                (Some(ours), Some(theirs)) if theirs > ours => Turn::After,
                // Ours will be attached behind what hangs there, and before what hangs above.
                (None, _) if above => Turn::After,
                _ => Turn::Before,
            };
            found.push(Foreign {
                id,
                // It may be gone by now.
                name: name_of(id).unwrap_or_default(),
                hook,
                cgroup: shown(&dir, &hierarchy.root),
                above,
                company: direct.company,
                turn,
                beside_ours: our_turn.is_some(),
            });
        }
    }
    Ok(())
}

fn from_bottom_to_root(hierarchy: &Hierarchy) -> impl Iterator<Item = PathBuf> {
    hierarchy.attach.ancestors().take_while(|dir| dir.starts_with(&hierarchy.root)).map(Path::to_path_buf)
}

fn shown(dir: &Path, root: &Path) -> String {
    let below = dir.strip_prefix(root).unwrap_or(dir);
    printable(Path::new("/").join(below).as_os_str().as_encoded_bytes())
}

struct Answer {
    ids: Vec<u32>,
    company: Company,
}

/// `BPF_PROG_QUERY` (`__cgroup_bpf_query`, Linux 4.15).
fn query(cgroup: BorrowedFd<'_>, hook: Hook, flags: u32) -> io::Result<Answer> {
    // More than 64 are refused at one cgroup (`BPF_CGROUP_MAX_PROGS`); a few levels of them fit to begin with.
    let mut room = 256;
    loop {
        let mut ids = vec![0u32; room];
        let mut attr = zeroed();
        attr.query.__bindgen_anon_1.target_fd = cgroup.as_raw_fd() as u32;
        attr.query.attach_type = hook.attach_type() as u32;
        attr.query.query_flags = flags;
        attr.query.prog_ids = ids.as_mut_ptr() as u64;
        attr.query.__bindgen_anon_2.prog_cnt = ids.len() as u32;
        match bpf(bpf_cmd::BPF_PROG_QUERY, &mut attr) {
            Err(e) if e.raw_os_error() == Some(libc::ENOSPC) && room < 1 << 16 => room *= 4,
            Err(e) => return Err(e),
            Ok(_) => {
                let (count, company) = answered(&attr);
                ids.truncate(count);
                return Ok(Answer { ids, company });
            }
        }
    }
}

fn answered(attr: &bpf_attr) -> (usize, Company) {
    // SAFETY: the variant the query was made with; the kernel has written both numbers.
    let (count, flags) = unsafe { (attr.query.__bindgen_anon_2.prog_cnt, attr.query.attach_flags) };
    let company = match flags {
        flags if flags & BPF_F_ALLOW_MULTI != 0 => Company::Tolerated,
        flags if flags & BPF_F_ALLOW_OVERRIDE != 0 => Company::GivesWay,
        _ => Company::ShutOut,
    };
    (count as usize, company)
}

/// Number of the program behind a pinned link, where there is one.
fn id_behind(pin: &Path) -> Option<u32> {
    let link = open_pin(pin).ok()?;
    // SAFETY: plain integers, for which zero is valid.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    describe(link.as_fd(), &raw mut info as u64, size_of::<bpf_link_info>()).ok()?;
    Some(info.prog_id)
}

fn name_of(id: u32) -> io::Result<String> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    let fd = bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: plain integers, for which zero is valid; with no room named, no list of the program is asked for.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    describe(program.as_fd(), &raw mut info as u64, size_of::<bpf_prog_info>())?;
    Ok(printable_until_nul(&info.name.map(|c| c as u8)))
}

/// `BPF_OBJ_GET_INFO_BY_FD` into a structure at `info`, which the caller keeps alive.
fn describe(object: BorrowedFd<'_>, info: u64, len: usize) -> io::Result<()> {
    let mut attr = zeroed();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = len as u32;
    attr.info.info = info;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

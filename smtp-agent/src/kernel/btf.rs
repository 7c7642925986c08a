//! Offsets of the running kernel's structures, read from its BTF.
//!
//! The probe reads some fields of kernel structures; where they lie differs from build to build, so they
//! are looked up here and written into the probe before it is loaded. The format is that of
//! Documentation/bpf/btf.rst: a header, a section of types, a section of strings.

use std::{fs, path::Path};

use smtp_common::names::global;

/// Where the kernel shows its own BTF (`CONFIG_DEBUG_INFO_BTF`).
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    #[error(
        "{VMLINUX} cannot be read ({0}): this kernel was built without CONFIG_DEBUG_INFO_BTF; install a kernel with BTF (every Debian, Ubuntu and RHEL kernel of the last years has it)"
    )]
    Absent(String),
    #[error("{VMLINUX} is not BTF as Documentation/bpf/btf.rst describes it ({0})")]
    Malformed(&'static str),
    #[error("struct {0} of this kernel has no field {1}")]
    NoField(&'static str, &'static str),
}

/// A constant of the probe, and the field whose offset it is: of a structure, of one in that, and so on. Of several names
/// that stand for one field, each was its name in some version.
type Wanted = (&'static str, &'static [(&'static str, &'static [&'static str])]);

const WANTED: [Wanted; 59] = [
    (global::TASK_FLAGS, &[("task_struct", &["flags"])]),
    (global::TASK_THREAD_PID, &[("task_struct", &["thread_pid"])]),
    (global::PID_LEVEL, &[("pid", &["level"])]),
    (global::SOCK_ADDR_SK, &[("bpf_sock_addr_kern", &["sk"])]),
    // `possible_net_t` holds the pointer and nothing before it.
    (global::SOCK_NET, &[("sock", &["__sk_common"]), ("sock_common", &["skc_net"])]),
    // A bit of the byte at this offset.
    (global::SOCK_V6ONLY, &[("sock", &["__sk_common"]), ("sock_common", &["skc_ipv6only"])]),
    (global::TCP_IS_MPTCP, &[("tcp_sock", &["is_mptcp"])]),
    (global::NET_USER_NS, &[("net", &["user_ns"])]),
    (global::USER_NS_LEVEL, &[("user_namespace", &["level"])]),
    (global::USER_NS_OWNER, &[("user_namespace", &["owner"])]),
    (global::NET_COOKIE, &[("net", &["net_cookie"])]),
    (global::SOCK_ERR, &[("sock", &["sk_err"])]),
    (global::SOCK_OPS_SK, &[("bpf_sock_ops_kern", &["sk"])]),
    (global::SKB_SK, &[("sk_buff", &["sk"])]),
    (global::BPRM_FILE, &[("linux_binprm", &["file"])]),
    (global::FILE_INODE, &[("file", &["f_inode"])]),
    (global::INODE_INO, &[("inode", &["i_ino"])]),
    (global::INODE_SB, &[("inode", &["i_sb"])]),
    (global::SB_DEV, &[("super_block", &["s_dev"])]),
    (global::TASK_TGID, &[("task_struct", &["tgid"])]),
    (global::TASK_CRED, &[("task_struct", &["cred"])]),
    (global::CRED_EUID, &[("cred", &["euid"])]),
    (global::TASK_START, &[("task_struct", &["start_boottime"])]),
    (global::TASK_NSPROXY, &[("task_struct", &["nsproxy"])]),
    (global::NSPROXY_NET, &[("nsproxy", &["net_ns"])]),
    (global::CGROUP_KN, &[("cgroup", &["kn"])]),
    (global::CGROUP_ROOT, &[("cgroup", &["root"])]),
    (global::ROOT_HIERARCHY, &[("cgroup_root", &["hierarchy_id"])]),
    (global::KN_ID, &[("kernfs_node", &["id"])]),
    // Renamed in 6.15.
    (global::KN_PARENT, &[("kernfs_node", &["__parent", "parent"])]),
    (global::TASK_CGROUPS, &[("task_struct", &["cgroups"])]),
    (global::CSS_SET_LINKS, &[("css_set", &["cgrp_links"])]),
    (global::LINK_CGROUP, &[("cgrp_cset_link", &["cgrp"])]),
    (global::LINK_NEXT, &[("cgrp_cset_link", &["cgrp_link"])]),
    (global::TASK_PID, &[("task_struct", &["pid"])]),
    (global::TASK_LEADER, &[("task_struct", &["group_leader"])]),
    (global::TASK_PARENT, &[("task_struct", &["real_parent"])]),
    (global::TASK_COMM, &[("task_struct", &["comm"])]),
    (global::TASK_MM, &[("task_struct", &["mm"])]),
    (global::TASK_FS, &[("task_struct", &["fs"])]),
    (global::TASK_LOGIN_UID, &[("task_struct", &["loginuid"])]),
    (global::TASK_SESSION, &[("task_struct", &["sessionid"])]),
    (global::CRED_UID, &[("cred", &["uid"])]),
    (global::MM_EXE_FILE, &[("mm_struct", &["exe_file"])]),
    (global::MM_ARG_START, &[("mm_struct", &["arg_start"])]),
    (global::MM_ARG_END, &[("mm_struct", &["arg_end"])]),
    (global::FILE_PATH, &[("file", &["f_path"])]),
    (global::FS_PWD, &[("fs_struct", &["pwd"])]),
    (global::PATH_MNT, &[("path", &["mnt"])]),
    (global::PATH_DENTRY, &[("path", &["dentry"])]),
    (global::DENTRY_PARENT, &[("dentry", &["d_parent"])]),
    (global::DENTRY_NAME, &[("dentry", &["d_name"]), ("qstr", &["name"])]),
    (global::DENTRY_HASHED, &[("dentry", &["d_hash"]), ("hlist_bl_node", &["pprev"])]),
    (global::MNT_ROOT, &[("vfsmount", &["mnt_root"])]),
    (global::MOUNT_MNT, &[("mount", &["mnt"])]),
    (global::MOUNT_PARENT, &[("mount", &["mnt_parent"])]),
    (global::MOUNT_POINT, &[("mount", &["mnt_mountpoint"])]),
    (global::BPRM_FILENAME, &[("linux_binprm", &["filename"])]),
    (global::BPRM_INTERP, &[("linux_binprm", &["interp"])]),
];

/// Fields that not every kernel has (`CONFIG_MPTCP`, `CONFIG_AUDIT`): 0 stands for none.
const OPTIONAL: [&str; 3] = [global::TCP_IS_MPTCP, global::TASK_LOGIN_UID, global::TASK_SESSION];

/// Constants of the probe, each an offset in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets(pub [(&'static str, u32); WANTED.len()]);

/// What the running kernel tells of itself.
pub struct Told {
    pub offsets: Offsets,
    /// Hash tables can make entries in whatever context a program runs (`struct bpf_htab` has its own allocator, Linux 6.1).
    pub allocates_anywhere: bool,
}

impl Told {
    pub fn by_this_kernel() -> Result<Self, BtfError> {
        let data = fs::read(Path::new(VMLINUX)).map_err(|e| BtfError::Absent(e.to_string()))?;
        let btf = Btf::parse(&data)?;
        Ok(Self { offsets: Offsets::of(&btf)?, allocates_anywhere: btf.offset("bpf_htab", "ma").is_ok() })
    }
}

impl Offsets {
    fn of(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let mut found = WANTED.map(|(name, _)| (name, 0));
        for ((name, offset), (_, path)) in found.iter_mut().zip(WANTED) {
            *offset = match path.iter().map(|(structure, names)| btf.offset_of_one(structure, names)).sum() {
                Err(BtfError::NoField(..)) if OPTIONAL.contains(name) => 0,
                other => other?,
            };
        }
        Ok(Self(found))
    }
}

struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

fn word(data: &[u8], at: usize) -> Result<u32, BtfError> {
    let bytes = data.get(at..at + 4).ok_or(BtfError::Malformed("cut short"))?;
    Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

impl<'a> Btf<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        if data.get(..2) != Some(&MAGIC.to_ne_bytes()) {
            return Err(BtfError::Malformed("wrong magic"));
        }
        let header = word(data, 4)? as usize;
        let section = |at: usize| {
            let start = header.checked_add(word(data, at)? as usize).ok_or(BtfError::Malformed("overflow"))?;
            let end = start.checked_add(word(data, at + 4)? as usize).ok_or(BtfError::Malformed("overflow"))?;
            data.get(start..end).ok_or(BtfError::Malformed("a section past the end"))
        };
        Ok(Self { types: section(8)?, strings: section(16)? })
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }

    /// Offset of the field that has one of these names.
    fn offset_of_one(&self, structure: &'static str, names: &[&'static str]) -> Result<u32, BtfError> {
        let mut failure = BtfError::NoField(structure, "");
        for name in names {
            match self.offset(structure, name) {
                Err(BtfError::NoField(..)) => failure = BtfError::NoField(structure, name),
                other => return other,
            }
        }
        Err(failure)
    }

    /// Offset of a field of a struct, looking through its anonymous members.
    fn offset(&self, structure: &'static str, field: &'static str) -> Result<u32, BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let (name, info, next) = self.type_at(at)?;
            if info >> 24 & 0x1f == KIND_STRUCT && info & 0xffff != 0 && self.name_is(name, structure) {
                return match self.field(at, field, 0)? {
                    Some(bits) => Ok(bits / 8),
                    None => Err(BtfError::NoField(structure, field)),
                };
            }
            at = next;
        }
        Err(BtfError::NoField(structure, field))
    }

    /// Name offset and info word of the type at a position, and the position of the next type.
    fn type_at(&self, at: usize) -> Result<(u32, u32, usize), BtfError> {
        let info = word(self.types, at + 4)?;
        let entries = (info & 0xffff) as usize;
        // Sizes of what follows the 12 bytes common to all kinds, by kind number.
        let extra = match info >> 24 & 0x1f {
            1 | 14 | 17 => 4,
            3 => 12,
            KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * entries,
            6 | 13 => 8 * entries,
            0 | 2 | 7..=12 | 16 | 18 => 0,
            _ => return Err(BtfError::Malformed("an unknown kind of type")),
        };
        Ok((word(self.types, at)?, info, at + 12 + extra))
    }

    fn field(&self, at: usize, field: &str, depth: u32) -> Result<Option<u32>, BtfError> {
        let (_, info, _) = self.type_at(at)?;
        for member in 0..(info & 0xffff) as usize {
            let base = at + 12 + member * 12;
            let (name, id, offset) =
                (word(self.types, base)?, word(self.types, base + 4)?, word(self.types, base + 8)?);
            // With the kind flag set the upper byte is a bit field's width.
            let bits = if info >> 31 == 1 { offset & 0x00ff_ffff } else { offset };
            if self.name_is(name, field) {
                return Ok(Some(bits));
            }
            let inner = if self.name_is(name, "") && depth < 8 { self.find(id)? } else { None };
            if let Some(inner) = inner
                && let Some(more) = self.field(inner, field, depth + 1)?
            {
                return Ok(Some(bits + more));
            }
        }
        Ok(None)
    }

    /// Position of a struct or union by type id (ids count from 1).
    fn find(&self, id: u32) -> Result<Option<usize>, BtfError> {
        let mut at = 0;
        for _ in 1..id {
            at = self.type_at(at)?.2;
        }
        let kind = self.type_at(at)?.1 >> 24 & 0x1f;
        Ok((kind == KIND_STRUCT || kind == KIND_UNION).then_some(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `struct outer { int a; struct { int deep; }; }` and nothing else.
    fn sample() -> Vec<u8> {
        let strings = b"\0outer\0a\0deep\0";
        let types: [u32; 25] = [
            0,
            1 << 24,
            4,
            0x0100_0020, // 1: int
            1,
            KIND_STRUCT << 24 | 2,
            8,
            7,
            1,
            0,
            0,
            3,
            32, // 2: outer
            0,
            KIND_STRUCT << 24 | 1,
            4,
            9,
            1,
            0, // 3: anonymous
            0,
            1 << 24,
            4,
            0x0100_0020,
            0,
            0,
        ];
        let types = &types[..19];
        let mut out = Vec::new();
        out.extend(MAGIC.to_ne_bytes());
        out.extend([1, 0]);
        for n in [24, 0, types.len() as u32 * 4, types.len() as u32 * 4, strings.len() as u32] {
            out.extend(n.to_ne_bytes());
        }
        types.iter().for_each(|n| out.extend(n.to_ne_bytes()));
        out.extend(strings);
        out
    }

    #[test]
    fn fields_are_found_through_anonymous_members() {
        let data = sample();
        let btf = Btf::parse(&data).unwrap();
        assert_eq!(btf.offset("outer", "a"), Ok(0));
        assert_eq!(btf.offset("outer", "deep"), Ok(4));
        assert_eq!(btf.offset_of_one("outer", &["renamed", "a"]), Ok(0));
        assert_eq!(btf.offset("outer", "absent"), Err(BtfError::NoField("outer", "absent")));
        assert_eq!(btf.offset("absent", "a"), Err(BtfError::NoField("absent", "a")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut data in Just(sample()), at in 0usize..100, byte: u8, cut in 0usize..200) {
            let at = at % data.len();
            data[at] = byte;
            data.truncate(cut);
            let _ = Btf::parse(&data).and_then(|btf| Offsets::of(&btf));
        }
    }
}

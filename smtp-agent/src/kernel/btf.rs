//! Offsets of the running kernel's structures, read from its BTF.
//!
//! The probe reads three fields of kernel structures; where they lie differs from build to build, so they
//! are looked up here and written into the probe before it is loaded. The format is that of
//! Documentation/bpf/btf.rst: a header, a section of types, a section of strings.

use std::{fs, path::Path};

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

/// Offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub task_flags: u32,
    pub task_thread_pid: u32,
    pub pid_level: u32,
    pub sock_addr_sk: u32,
    pub sock_net: u32,
    pub net_user_ns: u32,
    pub user_ns_level: u32,
    pub user_ns_owner: u32,
    pub net_cookie: u32,
    pub sock_err: u32,
    pub sock_ops_sk: u32,
    pub skb_sk: u32,
    pub bprm_file: u32,
    pub file_inode: u32,
    pub inode_ino: u32,
    pub inode_sb: u32,
    pub sb_dev: u32,
    pub task_tgid: u32,
    pub task_cred: u32,
    pub cred_euid: u32,
    pub task_start: u32,
    pub task_nsproxy: u32,
    pub nsproxy_net: u32,
}

impl Offsets {
    /// Reads them from the running kernel.
    pub fn of_this_kernel() -> Result<Self, BtfError> {
        let data = fs::read(Path::new(VMLINUX)).map_err(|e| BtfError::Absent(e.to_string()))?;
        Self::parse(&data)
    }

    fn parse(data: &[u8]) -> Result<Self, BtfError> {
        let btf = Btf::parse(data)?;
        Ok(Self {
            task_flags: btf.offset("task_struct", "flags")?,
            task_thread_pid: btf.offset("task_struct", "thread_pid")?,
            pid_level: btf.offset("pid", "level")?,
            sock_addr_sk: btf.offset("bpf_sock_addr_kern", "sk")?,
            // `possible_net_t` holds the pointer and nothing before it.
            sock_net: btf.offset("sock", "__sk_common")? + btf.offset("sock_common", "skc_net")?,
            net_user_ns: btf.offset("net", "user_ns")?,
            user_ns_level: btf.offset("user_namespace", "level")?,
            user_ns_owner: btf.offset("user_namespace", "owner")?,
            net_cookie: btf.offset("net", "net_cookie")?,
            sock_err: btf.offset("sock", "sk_err")?,
            sock_ops_sk: btf.offset("bpf_sock_ops_kern", "sk")?,
            skb_sk: btf.offset("sk_buff", "sk")?,
            bprm_file: btf.offset("linux_binprm", "file")?,
            file_inode: btf.offset("file", "f_inode")?,
            inode_ino: btf.offset("inode", "i_ino")?,
            inode_sb: btf.offset("inode", "i_sb")?,
            sb_dev: btf.offset("super_block", "s_dev")?,
            task_tgid: btf.offset("task_struct", "tgid")?,
            task_cred: btf.offset("task_struct", "cred")?,
            cred_euid: btf.offset("cred", "euid")?,
            task_start: btf.offset("task_struct", "start_boottime")?,
            task_nsproxy: btf.offset("task_struct", "nsproxy")?,
            nsproxy_net: btf.offset("nsproxy", "net_ns")?,
        })
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
        assert_eq!(btf.offset("outer", "absent"), Err(BtfError::NoField("outer", "absent")));
        assert_eq!(btf.offset("absent", "a"), Err(BtfError::NoField("absent", "a")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut data in Just(sample()), at in 0usize..100, byte: u8, cut in 0usize..200) {
            let at = at % data.len();
            data[at] = byte;
            data.truncate(cut);
            let _ = Offsets::parse(&data);
        }
    }
}

//! The memory of a process, where it is safe to look at.
//!
//! Whoever maps a file of a file system that he serves himself (FUSE) can have every reader of that mapping wait for ever,
//! and nobody can end the reader then (`request_wait_answer`, fs/fuse/dev.c). Anonymous memory is served by the kernel, and a
//! file that we could open by its file system.

use std::{
    fs::File,
    io::Read,
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
};

use nix::sys::stat::makedev;

use super::living::Living;

/// Octets of /proc/PID/maps that are looked at: a PHP has some hundred lines.
pub(super) const LARGEST: u64 = 1 << 20;

/// What is mapped where, as /proc/PID/maps says. A name that is no UTF-8 does not hide the rest.
pub(super) fn maps(living: &Living) -> Option<String> {
    begin_of(File::open(living.path("maps")).ok()?)
}

/// What the bound cuts off has no name, or not its own.
pub(super) fn begin_of(list: impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    list.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping<'a> {
    pub(super) addresses: Range<u64>,
    /// As in `rw-s`.
    pub(super) permissions: &'a str,
    /// Device and inode, both 0 of anonymous memory.
    pub(super) device: u64,
    inode: u64,
    pub(super) offset: u64,
    /// Nothing for anonymous memory, `[heap]` and the like for some.
    pub(super) name: &'a str,
}

impl<'a> Mapping<'a> {
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let hex = |text| u64::from_str_radix(text, 16).ok();
        // Exactly five fields, and the name with whatever blanks it has.
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let permissions = fields.next()?;
        let offset = hex(fields.next()?)?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let inode = fields.next()?.parse().ok()?;
        Some(Self {
            addresses: hex(start)?..hex(end)?,
            permissions,
            device: makedev(hex(major)?, hex(minor)?),
            inode,
            offset,
            name: fields.next().unwrap_or_default().trim_start(),
        })
    }

    fn is_anonymous(&self) -> bool {
        self.file() == (0, 0)
    }

    fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

pub(super) struct Memory {
    file: File,
    /// In order, and none touches the next.
    safe: Vec<Range<u64>>,
}

impl Memory {
    /// All that is anonymous, and what is mapped of a file that we have open.
    pub(super) fn of(living: &Living, maps: &str, of_file: &File) -> Option<Self> {
        let about = of_file.metadata().ok()?;
        Some(Self { file: File::open(living.path("mem")).ok()?, safe: safe(maps, (about.dev(), about.ino())) })
    }

    /// Fills it from an address on. Nothing of other mappings is ever touched.
    pub(super) fn read(&self, bytes: &mut [u8], at: u64) -> Option<()> {
        let end = at.checked_add(bytes.len() as u64)?;
        let is_safe = self.safe.iter().any(|range| range.start <= at && end <= range.end);
        if is_safe { self.file.read_exact_at(bytes, at).ok() } else { None }
    }
}

fn safe(maps: &str, file: (u64, u64)) -> Vec<Range<u64>> {
    let mut safe: Vec<Range<u64>> = Vec::new();
    for mapping in maps.lines().filter_map(Mapping::parse).filter(|one| one.is_anonymous() || one.file() == file) {
        match safe.last_mut() {
            Some(last) if last.end == mapping.addresses.start => last.end = mapping.addresses.end,
            _ => safe.push(mapping.addresses),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAPS: &str = "\
1000-2000 r--p 00000000 08:01 17                         /usr/lib/apache2/modules/libphp8.2.so
2000-3000 rw-p 00001000 08:01 17                         /usr/lib/apache2/modules/libphp8.2.so
3000-5000 rw-p 00000000 00:00 0
5000-6000 rw-p 00000000 00:31 17                         /tmp/fuse/libphp8.2.so
6000-7000 rw-p 00000000 00:00 0                          [heap]
7000-8000 rw-s 00000000 00:01 1034                       /dev/zero (deleted)
garbage
";

    #[test]
    fn only_what_the_kernel_or_a_known_file_serves_is_touched() {
        assert_eq!(safe(MAPS, (makedev(8, 1), 17)), [0x1000..0x5000, 0x6000..0x7000]);
        assert_eq!(safe(MAPS, (makedev(0, 0x31), 99)), [0x3000..0x5000, 0x6000..0x7000]);
        let line = MAPS.lines().nth(5).unwrap();
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.name, mapping.permissions, mapping.offset), ("/dev/zero (deleted)", "rw-s", 0));
        let memory = Memory { file: tempfile::tempfile().unwrap(), safe: safe(MAPS, (makedev(8, 1), 17)) };
        memory.file.set_len(0x9000).unwrap();
        let read = |at, length| memory.read(&mut vec![0; length], at).is_some();
        assert!(read(0x1000, 0x4000) && read(0x6fff, 1));
        assert!(!read(0x4fff, 2) && !read(0x5000, 1) && !read(0xfff, 1) && !read(u64::MAX, 2));
    }

    #[test]
    fn our_own_memory_is_read_and_a_file_of_another_is_not() {
        let own = std::process::id();
        let start = std::fs::read("/proc/self/stat").unwrap();
        let living = Living::from_before(own, u64::MAX).unwrap();
        assert!(!start.is_empty());
        let maps = maps(&living).unwrap();
        let secret = Box::new(*b"anonymous");
        let exe = File::open("/proc/self/exe").unwrap();
        let memory = Memory::of(&living, &maps, &exe).unwrap();
        let mut bytes = [0; 9];
        memory.read(&mut bytes, secret.as_ptr() as u64).unwrap();
        assert_eq!(&bytes, b"anonymous");
        static CONSTANT: [u8; 9] = *b"constants";
        memory.read(&mut bytes, CONSTANT.as_ptr() as u64).unwrap();
        assert_eq!(&bytes, b"constants");
        let library = maps.lines().filter_map(Mapping::parse).find(|one| one.name.contains("libc.so")).unwrap();
        assert!(memory.read(&mut bytes, library.addresses.start).is_none());
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line: String) {
            let _ = Mapping::parse(&line);
        }
    }
}

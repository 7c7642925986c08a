//! The BPF file system, where the agent pins what outlives it.

use crate::{Must, scratch};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use std::{fs::File, path::Path};

pub const MOUNT: &str = "/sys/fs/bpf";

/// Mounts the BPF file system where every distribution has it, unless it is there.
///
/// It stays mounted: other tests may be using it by then.
#[track_caller]
pub fn ensure() {
    // Two test programs that both find it missing would mount it twice, and the second would hide the
    // pins of the first.
    let lock = std::env::temp_dir().join("smtp-tests-bpffs.lock");
    let lock = File::create(&lock).must(format_args!("cannot make {}", lock.display()));
    lock.lock().must("cannot take the lock on mounting bpffs");
    if !is_mounted() {
        mount(Some("bpf"), MOUNT, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .must(format_args!("cannot mount bpffs at {MOUNT}; tests need root"));
    }
}

pub fn is_mounted() -> bool {
    statfs(MOUNT).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

/// Removes the pins of tests that were killed: they keep programs and maps in the kernel.
pub fn sweep(prefix: &str) {
    let Ok(entries) = std::fs::read_dir(MOUNT) else { return };
    for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        if name.starts_with(prefix) && scratch::is_orphan(&name) {
            // Another test program may be sweeping too.
            let _ = std::fs::remove_dir_all(Path::new(MOUNT).join(name));
        }
    }
}

//! Names and directories that no other test uses.

use crate::Must;
use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;

/// A number that this process gives out once.
pub fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// `PREFIX-PID-NUMBER`: unique among living processes, and [`owner`] tells whose it was.
pub fn name(prefix: &str) -> String {
    format!("{prefix}-{}-{}", std::process::id(), number())
}

/// The process that made up a name, whatever its prefix.
pub fn owner(name: &str) -> Option<u32> {
    let mut parts = name.rsplit('-');
    let _number: u32 = parts.next()?.parse().ok()?;
    parts.next()?.parse().ok()
}

/// True for names whose process has ended without cleaning up (killed, or out of power).
pub fn is_orphan(name: &str) -> bool {
    owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// A directory of its own that every user may enter.
#[track_caller]
pub fn dir() -> TempDir {
    tempfile::Builder::new()
        .prefix("smtp-test-")
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .must("cannot make a temporary directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner_and_an_orphan_is_known() {
        let name = name("a-b");
        assert_eq!(owner(&name), Some(std::process::id()));
        assert!(!is_orphan(&name));
        // Larger than any pid (PID_MAX_LIMIT is 2^22).
        assert!(is_orphan("a-b-4194305-0"));
        assert!(!is_orphan("somebody-else"));
    }
}

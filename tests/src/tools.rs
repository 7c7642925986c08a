//! Where the real programs are that tests use: Prometheus, and a Debian root with mail servers.

use crate::Must;
use std::path::PathBuf;

/// The tools directory: `$SMTP_TEST_TOOLS`, or `target/test-tools` beside the running test.
#[track_caller]
pub fn dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("SMTP_TEST_TOOLS") {
        return dir.into();
    }
    let exe = std::env::current_exe().must("cannot tell the path of the running test");
    exe.ancestors()
        .map(|dir| dir.join("test-tools"))
        .find(|dir| dir.is_dir())
        .must("no test-tools directory in target/: run `cargo xtask setup`, or set SMTP_TEST_TOOLS")
}

/// One file or directory in it.
#[track_caller]
pub fn find(path: &str) -> PathBuf {
    let full = dir().join(path);
    assert!(full.exists(), "{} is missing: run `cargo xtask setup`", full.display());
    full
}

/// A program of this workspace: the path in `$variable`, or the file of that name beside the running test.
#[track_caller]
pub fn program(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let exe = std::env::current_exe().must("cannot tell the path of the running test");
    // target/PROFILE/deps/test-HASH: programs lie one directory up.
    exe.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .must(format_args!("{name} is not built beside {}: build it, or set {variable}", exe.display()))
}

//! Files of others, which may be anything: read whole, but never more than a bound, and never a FIFO or a device.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::accounts::label::printable;

/// Larger than any of these files is where it is in use.
const LARGEST: u64 = 4 << 20;
/// Longest piece of a file or rule that is shown.
const SHOWN: usize = 160;
/// More files than anybody keeps in one directory of configuration.
const MOST: usize = 200;

/// A file of somebody else, as text.
pub(crate) struct Text {
    /// As its owner knows it, without the root it was read below.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Text {
    /// Reads `path` (absolute) below `root`; `None` where there is no such file.
    pub(crate) fn read(root: &Path, path: &Path) -> Option<Result<Self, String>> {
        let full = root.join(path.strip_prefix("/").unwrap_or(path));
        match bytes(&full, LARGEST) {
            Ok(bytes) => Some(Ok(Self { path: path.into(), text: String::from_utf8_lossy(&bytes).into_owned() })),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
            Err(e) => Some(Err(format!("{}: {e}", path.display()))),
        }
    }

    /// `file:line: text` of the line with this number, counted from 1.
    pub(crate) fn line(&self, number: usize) -> String {
        let line = self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
        format!("{}:{number}: {}", printable(self.path.as_os_str().as_encoded_bytes()), shown(line))
    }
}

/// Whether anything is there.
pub(super) fn exists(root: &Path, path: &str) -> bool {
    root.join(path.trim_start_matches('/')).exists()
}

/// Files in a directory (absolute) below `root` whose names end so, in the order of their names.
pub(super) fn in_directory(root: &Path, directory: &str, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root.join(directory.trim_start_matches('/'))) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut paths: Vec<_> = names.filter(|n| n.ends_with(end)).map(|n| Path::new(directory).join(n)).collect();
    paths.sort();
    paths.truncate(MOST);
    paths
}

/// A regular file as a whole, if it has no more octets than `largest`.
pub(crate) fn bytes(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    // A FIFO without a writer would keep us waiting.
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::other(format!("it is larger than {} MiB", largest >> 20)));
    }
    Ok(bytes)
}

/// A text of others on one harmless line of bounded length.
pub(crate) fn shown(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", printable(&text.as_bytes()[..cut])),
        None => printable(text.as_bytes()),
    }
}

/// "25, 465 and 587"
pub(super) fn listed<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    match items.pop() {
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
        None => String::new(),
    }
}

/// "port 25", "ports 25 and 587"
pub(super) fn ports(ports: &[u16]) -> String {
    let plural = if ports.len() == 1 { "" } else { "s" };
    format!("port{plural} {}", listed(ports))
}

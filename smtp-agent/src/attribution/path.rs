//! Paths as the kernel keeps them, as text.

use smtp_common::portrait::{Walked, walked};

/// A path, absolute in the mount namespace of its process. One with more names than were told begins with `…`, which no
/// path of a process does; one of which something could not be read is not known.
pub(super) fn of(walked: &Walked) -> Option<Vec<u8>> {
    if walked.flags & walked::UNREADABLE != 0 {
        return None;
    }
    let names: Vec<_> = walked.names().collect();
    let mut path = Vec::new();
    if walked.flags & walked::CUT != 0 {
        path.extend("…".as_bytes());
    }
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend(*name);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Some(path)
}

pub(super) fn is_deleted(walked: &Walked) -> bool {
    walked.flags & walked::DELETED != 0
}

/// `path` as a process in `directory` means it. `None` where the directory is not known and matters.
///
/// The directory is the kernel's, without symbolic links, so `..` at the beginning leads upwards from it. Behind a name `..`
/// is left as it stands: the name may be a link's, and it leads to where that points.
pub(super) fn resolve(directory: Option<&[u8]>, path: &[u8]) -> Option<Vec<u8>> {
    let directory = match path.first() {
        Some(b'/') => b"",
        _ => directory.filter(|directory| directory.starts_with(b"/"))?,
    };
    let said = |name: &&[u8]| !matches!(*name, b"" | b".");
    let mut names: Vec<&[u8]> = directory.split(|b| *b == b'/').filter(said).collect();
    let mut rest = path.split(|b| *b == b'/').filter(said).peekable();
    while rest.next_if(|name| *name == b"..").is_some() {
        names.pop();
    }
    names.extend(rest);
    Some(names.iter().flat_map(|name| [b"/", *name].concat()).collect())
}

/// The last component.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

/// What is before the last component; `/` for what lies in the root.
pub(super) fn directory(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|b| *b == b'/') {
        Some(0) => b"/",
        Some(at) => &path[..at],
        None => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smtp_common::portrait::{NAME_ROOM, NAMES_LEN};

    fn walked(names: &[&str], flags: u32) -> Walked {
        let mut walked = Walked { len: 0, flags, names: [0xff; NAMES_LEN + NAME_ROOM] };
        for name in names {
            let at = walked.len as usize;
            walked.names[at..at + name.len()].copy_from_slice(name.as_bytes());
            walked.names[at + name.len()] = 0;
            walked.len += name.len() as u32 + 1;
        }
        walked
    }

    #[test]
    fn names_from_the_leaf_upwards_are_a_path() {
        assert_eq!(of(&walked(&["perl", "bin", "usr"], 0)).unwrap(), b"/usr/bin/perl");
        assert_eq!(of(&walked(&[], 0)).unwrap(), b"/");
        assert_eq!(of(&walked(&["x", "deep"], walked::CUT)).unwrap(), "…/deep/x".as_bytes());
        assert_eq!(of(&walked(&["x"], walked::UNREADABLE)), None);
        assert!(is_deleted(&walked(&["x"], walked::DELETED)));
    }

    #[test]
    fn a_relative_path_needs_the_directory_it_was_meant_in() {
        let resolved = |dir: Option<&str>, path: &str| {
            resolve(dir.map(str::as_bytes), path.as_bytes()).map(|path| String::from_utf8(path).unwrap())
        };
        assert_eq!(resolved(None, "/a/./b/../c.php").as_deref(), Some("/a/b/../c.php"));
        assert_eq!(resolved(Some("/home/shop"), "../x/./bot.pl").as_deref(), Some("/home/x/bot.pl"));
        assert_eq!(resolved(Some("/home/shop"), ".././../bot.pl").as_deref(), Some("/bot.pl"));
        // `x` is a link to another directory, from which `..` leads elsewhere.
        let behind_a_link = resolved(Some("/home/bot"), "x/../../victim/index.pl");
        assert_eq!(behind_a_link.as_deref(), Some("/home/bot/x/../../victim/index.pl"));
        assert_eq!(resolved(None, "bot.pl"), None);
        assert_eq!(resolved(Some("…/cut"), "bot.pl"), None);
        assert_eq!(resolved(Some("/"), "../../etc/passwd").as_deref(), Some("/etc/passwd"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_some_path_or_none(len: u32, flags in 0u32..8, bytes: Vec<u8>) {
            let mut walked = walked(&[], flags);
            walked.len = len;
            let n = bytes.len().min(walked.names.len());
            walked.names[..n].copy_from_slice(&bytes[..n]);
            let _ = of(&walked);
            let _ = resolve(Some(b"/x"), &bytes);
        }
    }
}

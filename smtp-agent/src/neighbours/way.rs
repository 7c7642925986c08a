//! What is passed from a path to where it leads, link by link, below a root: whoever can change any of it can put something
//! else in the place of its end.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    path::{Component, Path, PathBuf},
};

/// Links in a row, as the kernel counts them (path_resolution(7)).
const MOST_LINKS: usize = 40;

pub(crate) struct Way {
    /// The path, and what each link makes of it; the last is that of the end.
    pub(crate) paths: Vec<PathBuf>,
    /// Every directory, link and file, each with the directory it is in. None of these paths has a link on it.
    pub(crate) places: Vec<Place>,
    pub(crate) end: Metadata,
}

pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) entry: PathBuf,
    /// Of the entry itself.
    pub(crate) found: Metadata,
}

impl Way {
    /// Follows a path; links are those of the root. Too many in a row are `ELOOP`, as the kernel has it.
    pub(crate) fn follow(root: &Path, path: &Path) -> io::Result<Self> {
        let (mut paths, mut places) = (vec![path.to_owned()], Vec::new());
        // Up to here there is no link any more.
        let mut here = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = parts(path).collect();
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                here.pop();
                continue;
            }
            let next = here.join(&part);
            let found = within(root, &next).symlink_metadata()?;
            if found.is_symlink() {
                if paths.len() > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let target = fs::read_link(within(root, &next))?;
                places.push(Place { directory: here.clone(), entry: next, found });
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                rest = parts(&target).chain(rest).collect();
                paths.push(plain(&here.join(rest.iter().collect::<PathBuf>())));
            } else {
                places.push(Place { directory: here, entry: next.clone(), found });
                here = next;
            }
        }
        // What was met last may be left again by way of `..`.
        let end = within(root, &here).symlink_metadata()?;
        Ok(Self { paths, places, end })
    }

    /// Where it ends.
    pub(crate) fn last(&self) -> &Path {
        self.paths.last().map_or(Path::new("/"), PathBuf::as_path)
    }
}

/// A path below a root.
pub(crate) fn within(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Names and `..` of a path.
fn parts(path: &Path) -> impl Iterator<Item = OsString> + use<> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>().into_iter()
}

/// The same path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

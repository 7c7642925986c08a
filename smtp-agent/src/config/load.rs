//! The files on disk: which ones, and whether they are fit to be parsed.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    place::{Place, Source},
    problem::{Problem, Problems},
    render::escape,
};

/// Larger than any configuration, smaller than anything that hurts to read.
const MAX_SIZE: usize = 4 << 20;
/// A file for each account of a large host, and then some.
const MAX_FILES: usize = 20_000;
/// All files together.
const MAX_TOTAL: usize = 64 << 20;

/// The main file, then `conf.d/*.toml` beside it in the order of their names.
pub(super) fn read_all(path: &Path, problems: &mut Problems) -> Vec<Arc<Source>> {
    let Some(main) = read(path, false, 0, problems) else {
        return Vec::new();
    };
    let mut total = main.text().len();
    let mut sources = vec![main];
    for DropIn { path, is_file } in drop_ins(path, problems) {
        let source = read(&path, is_file, sources.len(), problems);
        total += source.as_ref().map_or(0, |source| source.text().len());
        if total > MAX_TOTAL {
            let message = format!("up to {} and the files before it are larger than 64 MiB together", shown(&path));
            problems.push(Problem::error(message).hint("no configuration is: the rest was not read"));
            break;
        }
        sources.extend(source);
    }
    sources
}

struct DropIn {
    path: PathBuf,
    /// Known to be a regular file.
    is_file: bool,
}

fn shown(path: &Path) -> String {
    escape(&path.display().to_string()).into_owned()
}

fn drop_ins(main: &Path, problems: &mut Problems) -> Vec<DropIn> {
    let directory = main.with_file_name("conf.d");
    let listing = match fs::read_dir(&directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            let message = format!("cannot read the directory {}: {}", shown(&directory), reason(&error));
            problems.push(Problem::error(message).hint("make it a readable directory, or remove it"));
            return Vec::new();
        }
    };
    let mut names = Vec::new();
    for entry in listing {
        match entry {
            Ok(entry) => names.push((entry.file_name(), entry.file_type().is_ok_and(|kind| kind.is_file()))),
            Err(error) => {
                problems.push(Problem::error(format!("cannot list {}: {}", shown(&directory), reason(&error))));
            }
        }
    }
    names.retain(|(name, _)| {
        Path::new(name).extension().is_some_and(|extension| extension == "toml")
            && !name.as_encoded_bytes().starts_with(b".")
    });
    if names.len() > MAX_FILES {
        let message = format!("{} has {} files, and up to {MAX_FILES} are read", shown(&directory), names.len());
        problems.push(Problem::error(message).hint("join some of them"));
        return Vec::new();
    }
    names.sort_unstable();
    names.into_iter().map(|(name, is_file)| DropIn { path: directory.join(name), is_file }).collect()
}

fn read(path: &Path, is_file: bool, order: usize, problems: &mut Problems) -> Option<Arc<Source>> {
    match read_bytes(path, is_file) {
        Ok((bytes, mode)) => {
            if mode & 0o002 != 0 {
                let message = format!("{} can be changed by every user of this host", shown(path));
                problems.push(Problem::warning(message).hint(format!("run: chmod o-w {}", shown(path))));
            }
            accept(&path.display().to_string(), bytes, order, problems)
        }
        Err(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let hint = if missing && order == 0 {
                "create it, or name another file with --config PATH"
            } else if missing {
                "it is a link to nothing: mend or remove it"
            } else {
                "smtp-agent must be able to read it; run as root"
            };
            let problem = Problem::error(format!("cannot read {}: {}", shown(path), reason(&error)));
            problems.push(match error.kind() {
                io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput => problem,
                _ => problem.hint(hint),
            });
            None
        }
    }
}

/// The content, up to one byte more than is allowed, and the permission bits.
fn read_bytes(path: &Path, is_file: bool) -> io::Result<(Vec<u8>, u32)> {
    let regular = |metadata: &Metadata| match metadata {
        metadata if metadata.is_file() => Ok(()),
        metadata if metadata.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    };
    // Asked before opening, which does something to some devices, but not again where the directory has told.
    if !is_file {
        regular(&fs::metadata(path)?)?;
    }
    // Should it have become a FIFO since, opening it would wait for a writer.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(MAX_SIZE) + 1;
    let mut bytes = vec![0; length];
    // One call is enough for nearly every file, and a directory may hold thousands.
    let first = file.read(&mut bytes)?;
    bytes.truncate(first);
    if first + 1 != length || first == 0 {
        file.take((MAX_SIZE + 1).saturating_sub(first) as u64).read_to_end(&mut bytes)?;
    }
    Ok((bytes, metadata.permissions().mode()))
}

/// The error in words, without the number that `io::Error` adds for those of the system.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = words.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// A text of acceptable size and encoding, or the problem with it.
pub(super) fn accept(name: &str, bytes: Vec<u8>, order: usize, problems: &mut Problems) -> Option<Arc<Source>> {
    if bytes.len() > MAX_SIZE {
        problems.push(Problem::error(format!("{} is larger than 4 MiB, which no configuration is", escape(name))));
        return None;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(Source::new(name, text, order)),
        Err(error) => {
            let (at, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            // Up to the fault the replaced text is the same, so the offset still holds.
            let source = Source::new(name, String::from_utf8_lossy(bytes), order);
            let place = Place::new(&source, at..at + 1);
            let problem = Problem::error(format!("byte 0x{:02x} is not UTF-8", bytes[at])).at(place);
            problems.push(problem.hint("save the file as UTF-8"));
            None
        }
    }
}

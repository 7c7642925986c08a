//! The files on disk: which ones, and whether they are fit to be parsed.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    place::{Place, Source},
    problem::{Problem, Problems},
    render::escape,
};

/// Larger than any configuration, smaller than anything that hurts to read.
const MAX_SIZE: usize = 1 << 20;

/// The main file, then `conf.d/*.toml` beside it in the order of their names.
pub(super) fn read_all(path: &Path, problems: &mut Problems) -> Vec<Arc<Source>> {
    let Some(main) = read(path, 0, problems) else {
        return Vec::new();
    };
    let mut sources = vec![main];
    for drop_in in drop_ins(path, problems) {
        let order = sources.len();
        sources.extend(read(&drop_in, order, problems));
    }
    sources
}

fn shown(path: &Path) -> String {
    escape(&path.display().to_string()).into_owned()
}

fn drop_ins(main: &Path, problems: &mut Problems) -> Vec<PathBuf> {
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
            Ok(entry) => names.push(entry.file_name()),
            Err(error) => {
                problems.push(Problem::error(format!("cannot list {}: {}", shown(&directory), reason(&error))));
            }
        }
    }
    names.retain(|name| {
        Path::new(name).extension().is_some_and(|extension| extension == "toml")
            && !name.as_encoded_bytes().starts_with(b".")
    });
    names.sort();
    names.into_iter().map(|name| directory.join(name)).collect()
}

fn read(path: &Path, order: usize, problems: &mut Problems) -> Option<Arc<Source>> {
    match read_bytes(path) {
        Ok((bytes, mode)) => {
            if mode & 0o002 != 0 {
                let message = format!("{} can be changed by every user of this host", shown(path));
                problems.push(Problem::warning(message).hint(format!("run: chmod o-w {}", shown(path))));
            }
            accept(&path.display().to_string(), &bytes, order, problems)
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
fn read_bytes(path: &Path) -> io::Result<(Vec<u8>, u32)> {
    // Asked before opening: opening a FIFO would wait for a writer.
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes)?;
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
pub(super) fn accept(name: &str, bytes: &[u8], order: usize, problems: &mut Problems) -> Option<Arc<Source>> {
    if bytes.len() > MAX_SIZE {
        problems.push(Problem::error(format!("{} is larger than 1 MiB, which no configuration is", escape(name))));
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Source::new(name, text, order)),
        Err(error) => {
            let at = error.valid_up_to();
            // Up to the fault the replaced text is the same, so the offset still holds.
            let source = Source::new(name, String::from_utf8_lossy(bytes), order);
            let place = Place::new(&source, at..at + 1);
            let problem = Problem::error(format!("byte 0x{:02x} is not UTF-8", bytes[at])).at(place);
            problems.push(problem.hint("save the file as UTF-8"));
            None
        }
    }
}

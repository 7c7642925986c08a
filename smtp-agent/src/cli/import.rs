//! `smtp-agent import`: a configuration from the limits of a panel.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::output;
use crate::{
    exit::{Code, Failure, Result},
    import::{self, Imported, Panel},
};

pub(super) fn import(panel: Panel, root: &Path, output: Option<&Path>, as_json: bool) -> Result<Code> {
    let imported = import::import(panel, root)?;
    if let Some(file) = output {
        write(file, &imported)?;
    } else if !as_json && !imported.drop_ins.is_empty() {
        return Err(Failure::config(format!(
            "the result takes {} files: write them with --output FILE, then the rules go into conf.d beside it",
            imported.drop_ins.len() + 1
        )));
    }
    if as_json {
        output::json(&shown(panel, root, output, &imported))?;
        return Ok(Code::Fine);
    }
    if output.is_none() {
        output::text(&imported.main)?;
    }
    for line in imported.report.lines() {
        eprintln!("{line}");
    }
    if let Some(file) = output {
        let file = file.display();
        eprintln!("Written: {file}. Next: smtp-agent --config {file} check");
    }
    Ok(Code::Fine)
}

/// The files of the result and where they go.
fn files<'i>(file: &Path, imported: &'i Imported) -> Vec<(PathBuf, &'i str)> {
    let drop_ins = imported.drop_ins.iter();
    let drop_ins = drop_ins.map(|(name, text)| (file.with_file_name("conf.d").join(name), text.as_str()));
    // The main file last: without it the others are not read.
    drop_ins.chain([(file.to_owned(), imported.main.as_str())]).collect()
}

fn write(file: &Path, imported: &Imported) -> Result<()> {
    let files = files(file, imported);
    if let Some((taken, _)) = files.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
        return Err(exists(taken));
    }
    if !imported.drop_ins.is_empty() {
        let directory = file.with_file_name("conf.d");
        fs::create_dir_all(&directory).map_err(|e| failed(&directory, &e))?;
    }
    let mut written: Vec<&Path> = Vec::new();
    for (path, text) in &files {
        let result = create(path).and_then(|mut new| {
            written.push(path);
            new.write_all(text.as_bytes()).and_then(|()| new.sync_all())
        });
        if let Err(e) = result {
            // Half a configuration is worse than none.
            for path in written {
                let _ = fs::remove_file(path);
            }
            return Err(if e.kind() == io::ErrorKind::AlreadyExists { exists(path) } else { failed(path, &e) });
        }
    }
    Ok(())
}

/// Fails where anything is in the way, a dangling link included.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)
}

fn exists(path: &Path) -> Failure {
    let path = path.display();
    Failure::config(format!("{path} exists and is not overwritten; move it away, or name another file with --output"))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot write {}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::not_permitted(format!("{message}; run as root")),
        io::ErrorKind::NotFound => Failure::config(format!("{message}; name a file in a directory that is there")),
        _ => Failure::unavailable(message),
    }
}

fn shown(panel: Panel, root: &Path, output: Option<&Path>, imported: &Imported) -> Value {
    let files: Vec<_> = match output {
        Some(file) => files(file, imported).into_iter().map(|(path, _)| json!({ "path": path })).collect(),
        None => files(Path::new("config.toml"), imported)
            .into_iter()
            .map(|(path, text)| json!({ "path": path, "text": text }))
            .collect(),
    };
    let report = &imported.report;
    let notes = |notes: &import::Notes| json!(notes.iter().collect::<Vec<_>>());
    json!({
        "panel": panel.name(), "root": root, "files": files,
        "no_equivalent": notes(&report.no_equivalent), "not_understood": notes(&report.not_understood),
        "left_out": report.no_equivalent.left_out() + report.not_understood.left_out(),
        "read": report.read, "missing": report.missing,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::import::Report;

    fn imported(drop_ins: &[&str]) -> Imported {
        let drop_ins = drop_ins.iter().map(|name| ((*name).to_owned(), "# a rule\n".to_owned())).collect();
        Imported { main: "mode = \"observe\"\n".to_owned(), drop_ins, report: Report::default() }
    }

    #[test]
    fn a_file_that_is_there_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let file = dir.path().join("config.toml");
        write(&file, &imported(&[])).expect("a new file");
        fs::write(&file, "mine").expect("a change");
        let failure = write(&file, &imported(&[])).expect_err("the file is there");
        assert_eq!(failure.code, Code::Usage, "{failure}");
        assert!(failure.message.contains("not overwritten; move it away"), "{failure}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), "mine");

        let link = dir.path().join("link.toml");
        symlink(dir.path().join("nowhere"), &link).expect("a link");
        assert_eq!(write(&link, &imported(&[])).expect_err("a link is there").code, Code::Usage);
        assert!(!dir.path().join("nowhere").exists(), "a link was followed");
    }

    #[test]
    fn rules_without_room_go_into_conf_d_unless_something_is_there() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let file = dir.path().join("config.toml");
        let names = ["50-import-0001.toml", "50-import-0002.toml"];
        write(&file, &imported(&names)).expect("new files");
        for path in [file.clone(), dir.path().join("conf.d").join(names[1])] {
            assert!(path.exists(), "{}", path.display());
            fs::remove_file(path).expect("the file was there");
        }
        // The first of them is still there, so that none may be written.
        let failure = write(&file, &imported(&names)).expect_err("one is there");
        assert!(failure.message.contains("conf.d/50-import-0001.toml exists"), "{failure}");
        assert!(!file.exists() && !dir.path().join("conf.d").join(names[1]).exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_wrong_argument() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let failure = write(&dir.path().join("absent/config.toml"), &imported(&[])).expect_err("no directory");
        assert_eq!(failure.code, Code::Usage, "{failure}");
    }
}

//! Whether a program is root's alone to change: it is run as root.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

use crate::neighbours::way::Way;

const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Why a program is not to be run, and what to type. Looks at the file and at everything on the way to it, by which
/// another could be put in its place.
pub(super) fn fault(path: &Path) -> Option<String> {
    let (way, root) = match Way::follow(Path::new("/"), path).and_then(|way| Ok((way, fs::symlink_metadata("/")?))) {
        Ok(found) => found,
        Err(e) => return Some(format!("{}: {e}", path.display())),
    };
    if !way.end.is_file() {
        return Some(format!("{} is not a program", path.display()));
    }
    if way.end.mode() & 0o111 == 0 {
        return Some(format!("{} is not executable: run chmod 755 {}", path.display(), path.display()));
    }
    let steps = way.places.iter().map(|place| (place.entry.as_path(), &place.found));
    std::iter::once((Path::new("/"), &root)).chain(steps).find_map(|(step, found)| open_to_others(step, found))
}

fn open_to_others(path: &Path, found: &Metadata) -> Option<String> {
    let shown = path.display();
    let what = if found.is_dir() { "the directory" } else { "the program" };
    if found.uid() != 0 {
        let link = if found.is_symlink() { "chown -h" } else { "chown" };
        return Some(format!(
            "{shown} belongs to uid {}, who could have anything run as root: run {link} root {shown}",
            found.uid()
        ));
    }
    // The mode of a link says nothing. In a sticky directory nobody replaces what is root's, which the next step is asked.
    if found.is_symlink() || found.is_dir() && found.mode() & STICKY != 0 {
        return None;
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Some(format!("{what} {shown} can be changed by every user of this host: run chmod go-w {shown}"));
    }
    if found.mode() & GROUP_WRITES != 0 && found.gid() != 0 {
        return Some(format!("{what} {shown} can be changed by the group {}: run chmod g-w {shown}", found.gid()));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        os::unix::fs::{PermissionsExt, chown, symlink},
        path::PathBuf,
    };

    /// Needs root, as the tests of this crate do that give files away.
    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new() -> Self {
            let scene = Self(tempfile::tempdir().unwrap());
            scene.mode("", 0o755);
            fs::create_dir(scene.at("bin")).unwrap();
            fs::write(scene.at("bin/tell"), "#!/bin/sh\n").unwrap();
            scene.mode("bin", 0o755);
            scene.mode("bin/tell", 0o755);
            scene
        }

        fn at(&self, path: &str) -> PathBuf {
            if path.is_empty() { self.0.path().to_owned() } else { self.0.path().join(path) }
        }

        fn mode(&self, path: &str, mode: u32) {
            fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
        }

        #[track_caller]
        fn says(&self, path: &str, said: &[&str]) {
            let fault = fault(&self.at(path)).expect("a fault");
            for part in said {
                assert!(fault.contains(part), "{part:?} is not in {fault:?}");
            }
        }
    }

    #[test]
    fn a_program_of_root_s_is_run_and_a_sticky_directory_on_the_way_does_no_harm() {
        let scene = Scene::new();
        assert_eq!(fault(&scene.at("bin/tell")), None);
        assert_eq!(fault(Path::new("/bin/sh")), None, "by way of links");
        scene.mode("bin", 0o1777);
        assert_eq!(fault(&scene.at("bin/tell")), None);
        symlink(scene.at("bin/tell"), scene.at("link")).unwrap();
        assert_eq!(fault(&scene.at("link")), None);
        // A group that is root's own.
        scene.mode("bin/tell", 0o775);
        assert_eq!(fault(&scene.at("bin/tell")), None);
    }

    #[test]
    fn a_program_that_another_can_change_is_not_run() {
        let scene = Scene::new();
        scene.mode("bin/tell", 0o757);
        scene.says("bin/tell", &["can be changed by every user of this host", "run chmod go-w ", "bin/tell"]);
        scene.mode("bin/tell", 0o775);
        chown(scene.at("bin/tell"), None, Some(61_001)).unwrap();
        scene.says("bin/tell", &["can be changed by the group 61001", "run chmod g-w "]);
        scene.mode("bin/tell", 0o755);
        chown(scene.at("bin/tell"), Some(61_001), None).unwrap();
        scene.says("bin/tell", &["belongs to uid 61001", "run chown root "]);
        // The sticky bit keeps nobody from what is his own.
        scene.mode("bin", 0o1777);
        scene.says("bin/tell", &["belongs to uid 61001"]);
    }

    #[test]
    fn a_program_in_the_place_of_which_another_can_put_one_is_not_run() {
        let scene = Scene::new();
        scene.mode("bin", 0o777);
        scene.says("bin/tell", &["the directory ", "/bin can be changed by every user", "run chmod go-w "]);
        scene.mode("bin", 0o775);
        chown(scene.at("bin"), None, Some(61_001)).unwrap();
        scene.says("bin/tell", &["/bin can be changed by the group 61001"]);
        chown(scene.at("bin"), Some(61_001), Some(0)).unwrap();
        scene.says("bin/tell", &["/bin belongs to uid 61001"]);
        // The way leads through it, wherever the link stands.
        symlink(scene.at("bin/tell"), scene.at("link")).unwrap();
        scene.says("link", &["/bin belongs to uid 61001"]);
        scene.says("bin/../bin/tell", &["/bin belongs to uid 61001"]);
    }

    #[test]
    fn a_link_of_another_s_is_not_followed() {
        let scene = Scene::new();
        symlink("/bin/true", scene.at("link")).unwrap();
        std::os::unix::fs::lchown(scene.at("link"), Some(61_001), None).unwrap();
        scene.says("link", &["link belongs to uid 61001", "run chown -h root "]);
        symlink("loop", scene.at("loop")).unwrap();
        scene.says("loop", &["loop: Too many levels"]);
    }

    #[test]
    fn what_is_no_program_is_said_to_be_none() {
        let scene = Scene::new();
        scene.says("gone", &["gone: No such file"]);
        scene.says("bin", &["bin is not a program"]);
        scene.says("bin/tell/..", &["is not a program"]);
        scene.mode("bin/tell", 0o644);
        scene.says("bin/tell", &["bin/tell is not executable"]);
        assert!(fault(Path::new("/")).is_some());
    }
}

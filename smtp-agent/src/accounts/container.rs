//! What a container is called: by its cgroup where that tells, else by its network namespace.

use std::path::Path;

use super::label::printable;

/// Longest part of a container id that is shown; runtimes print twelve digits too.
const ID_DIGITS: usize = 12;

/// The name a cgroup path gives its container. `None` for the root, which says nothing.
///
/// Known shapes: docker, podman, CRI (containerd, CRI-O) scopes of the systemd driver; `/docker/ID` and
/// `/kubepods/…/ID` of the cgroupfs driver; lxc; systemd-nspawn. Anything else is called by its last component,
/// a unit's suffix included.
pub fn name_of_cgroup(path: &str) -> Option<String> {
    let components: Vec<_> = path.split('/').filter(|c| !c.is_empty()).collect();
    components.iter().enumerate().find_map(|(at, component)| known(&components[..at], component)).or_else(|| {
        let last = components.last()?;
        Some(printable(last.as_bytes()))
    })
}

/// True when the path has the shape of a container runtime's cgroup.
pub fn is_container(path: &str) -> bool {
    let components: Vec<_> = path.split('/').filter(|c| !c.is_empty()).collect();
    components.iter().enumerate().any(|(at, component)| known(&components[..at], component).is_some())
}

fn known(above: &[&str], component: &str) -> Option<String> {
    if let Some(stem) = component.strip_suffix(".scope") {
        for runtime in ["docker", "libpod", "cri-containerd", "crio", "containerd"] {
            if let Some(id) = stem.strip_prefix(runtime).and_then(|rest| rest.strip_prefix('-'))
                && is_id(id)
            {
                return Some(format!("{runtime}-{}", &id[..ID_DIGITS]));
            }
        }
        if let Some(machine) = stem.strip_prefix("machine-") {
            return Some(printable(machine.as_bytes()));
        }
    }
    if let Some(machine) = component.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service")) {
        return Some(printable(machine.as_bytes()));
    }
    if let Some(name) = component.strip_prefix("lxc.payload.").or_else(|| component.strip_prefix("lxc.payload/")) {
        return Some(printable(name.as_bytes()));
    }
    let below = |parent: &str| above.iter().any(|c| *c == parent || c.starts_with(&format!("{parent}-")));
    if is_id(component) {
        for runtime in ["docker", "kubepods", "libpod_parent", "lxc"] {
            if below(runtime) {
                let shown = if runtime == "kubepods" { "pod" } else { runtime.split('_').next().unwrap_or(runtime) };
                return Some(format!("{shown}-{}", &component[..ID_DIGITS]));
            }
        }
    }
    None
}

fn is_id(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The unit of systemd that a cgroup path belongs to: the outermost service or scope, else the innermost slice
/// (`cg_path_get_unit`, systemd). What is beneath it was named by whoever the unit is of. Units of a user's own manager are
/// told with the path from that on, as in `user@1001.service/app.slice/bot.service`.
pub fn unit_of_cgroup(path: &str) -> Option<&str> {
    let is_unit = |component: &str| component.ends_with(".service") || component.ends_with(".scope");
    let mut manager = None;
    let mut slice = None;
    let mut at = 0;
    for component in path.split('/') {
        let (from, to) = (at, at + component.len());
        at = to + 1;
        match manager {
            None if component.starts_with("user@") && component.ends_with(".service") => manager = Some((from, to)),
            None if is_unit(component) => return Some(component),
            None if component.ends_with(".slice") => slice = Some(component),
            Some((begin, _)) if is_unit(component) => return Some(&path[begin..to]),
            _ => {}
        }
    }
    manager.map(|(from, to)| &path[from..to]).or(slice)
}

/// A cgroup path from /proc/PID/cgroup (cgroups(7)): the v2 line where it says something, else systemd's v1
/// hierarchy, which names services on hybrid hosts.
pub fn path_from_proc(text: &str) -> Option<String> {
    let of = |prefix: &str| text.lines().find_map(|line| line.split_once(prefix).filter(|(n, _)| !n.contains(':')));
    let v2 = of("::").map(|(_, path)| path);
    let v1 = of(":name=systemd:").map(|(_, path)| path);
    v2.filter(|path| *path != "/").or(v1).or(v2).map(|path| printable(Path::new(path).to_string_lossy().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f2c1d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e";

    #[test]
    fn containers_are_called_as_their_runtimes_call_them() {
        for (path, name) in [
            (format!("/system.slice/docker-{ID}.scope"), "docker-4f2c1d9e8b7a"),
            (format!("/system.slice/docker-{ID}.scope/init.scope"), "docker-4f2c1d9e8b7a"),
            (format!("/docker/{ID}"), "docker-4f2c1d9e8b7a"),
            (format!("/machine.slice/libpod-{ID}.scope/container"), "libpod-4f2c1d9e8b7a"),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope"
                ),
                "cri-containerd-4f2c1d9e8b7a",
            ),
            (format!("/kubepods/besteffort/pod1/{ID}"), "pod-4f2c1d9e8b7a"),
            ("/lxc.payload.web".into(), "web"),
            ("/machine.slice/systemd-nspawn@mail.service/payload".into(), "mail"),
            ("/machine.slice/machine-mail.scope".into(), "mail"),
            ("/mybox".into(), "mybox"),
            ("/system.slice/vpn.service".into(), "vpn.service"),
            ("/evil\nname".into(), "evil\\nname"),
        ] {
            assert_eq!(name_of_cgroup(&path).as_deref(), Some(name), "{path}");
        }
        assert_eq!(name_of_cgroup("/"), None);
        assert!(is_container(&format!("/docker/{ID}")) && !is_container("/system.slice/vpn.service"));
    }

    #[test]
    fn services_are_named_on_unified_and_hybrid_hosts() {
        let unified = "0::/system.slice/php8.2-fpm.service\n";
        let hybrid = "9:name=systemd:/system.slice/cron.service\n4:memory:/x\n0::/\n";
        assert_eq!(path_from_proc(unified).as_deref(), Some("/system.slice/php8.2-fpm.service"));
        assert_eq!(path_from_proc(hybrid).as_deref(), Some("/system.slice/cron.service"));
        assert_eq!(path_from_proc("0::/\n").as_deref(), Some("/"));
        assert_eq!(path_from_proc(""), None);
        assert_eq!(unit_of_cgroup("/user.slice/user-0.slice/session-1.scope"), Some("session-1.scope"));
        assert_eq!(unit_of_cgroup("/system.slice/cron.service/sub"), Some("cron.service"));
        assert_eq!(unit_of_cgroup("/system.slice/cron.service/ssh.service"), Some("cron.service"), "a name of its own");
        let docker = format!("/system.slice/docker-{ID}.scope/system.slice/postfix.service");
        assert_eq!(unit_of_cgroup(&docker), Some(&docker[14..14 + 77]));
        let user = "/user.slice/user-1001.slice/user@1001.service";
        assert_eq!(unit_of_cgroup(user), Some("user@1001.service"));
        assert_eq!(unit_of_cgroup(&format!("{user}/init.scope")), Some("user@1001.service/init.scope"));
        let own = "user@1001.service/app.slice/ssh.service";
        assert_eq!(unit_of_cgroup(&format!("/user.slice/user-1001.slice/{own}/x.scope")), Some(own));
        assert_eq!(unit_of_cgroup("/a.slice/b.slice"), Some("b.slice"));
        assert_eq!(unit_of_cgroup("/"), None);
    }
}

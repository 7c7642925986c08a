//! Names of containers and pods, from the files their runtimes keep.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::culprit::{Container, Pod};
use crate::{accounts::label::printable, neighbours::files};

/// How long nothing found is believed: a runtime may write its files after the container's first connection.
const RETRY: Duration = Duration::from_secs(10);

/// Files of runtimes are small; `containers.json` has all of podman's containers.
const LARGEST: u64 = 16 << 20;

/// Containers that are remembered.
const MANY: usize = 4096;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub container: Option<String>,
    pub pod: Option<Pod>,
}

/// What the runtimes of a host say.
pub struct Runtimes {
    root: PathBuf,
    known: Mutex<HashMap<String, (Instant, Names)>>,
}

impl Runtimes {
    /// `root` is `/`, but for tests.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), known: Mutex::default() }
    }

    /// The container that a cgroup belongs to, and its pod.
    pub fn of_cgroup(&self, path: &str) -> (Option<Container>, Option<Pod>) {
        let Some((above, id)) = id_of_cgroup(path) else { return (None, None) };
        if is_users_own(above) {
            return (Some(Container { id: id.to_owned(), name: None }), None);
        }
        let names = self.names(id);
        let pod = names.pod.or_else(|| {
            // Without the runtime's word the path still has the pod's number.
            let uid = pod_uid(above)?;
            Some(Pod { namespace: None, name: uid, container: None })
        });
        (Some(Container { id: id.to_owned(), name: names.container }), pod)
    }

    fn names(&self, id: &str) -> Names {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, names)) = known.get(id)
            && (*names != Names::default() || at.elapsed() < RETRY)
        {
            return names.clone();
        }
        let names = self.ask(id);
        if known.len() >= MANY {
            known.clear();
        }
        known.insert(id.to_owned(), (Instant::now(), names.clone()));
        names
    }

    fn ask(&self, id: &str) -> Names {
        self.docker(id).or_else(|| self.podman(id)).or_else(|| self.cri(id)).unwrap_or_default()
    }

    fn read(&self, path: &str) -> Option<Value> {
        serde_json::from_slice(&files::bytes(&self.root.join(path), LARGEST).ok()?).ok()
    }

    fn docker(&self, id: &str) -> Option<Names> {
        let config = self.read(&format!("var/lib/docker/containers/{id}/config.v2.json"))?;
        let labels = &config["Config"]["Labels"];
        let pod = text(&labels["io.kubernetes.pod.name"]).map(|name| Pod {
            namespace: text(&labels["io.kubernetes.pod.namespace"]),
            name,
            container: text(&labels["io.kubernetes.container.name"]),
        });
        let container = text(&config["Name"]).map(|name| name.trim_start_matches('/').to_owned());
        Some(Names { container, pod })
    }

    fn podman(&self, id: &str) -> Option<Names> {
        for dir in ["overlay-containers", "vfs-containers", "btrfs-containers"] {
            let all = self.read(&format!("var/lib/containers/storage/{dir}/containers.json"));
            let found = all.as_ref().and_then(Value::as_array).into_iter().flatten().find(|one| one["id"] == id);
            if let Some(container) = found.and_then(|one| text(&one["names"][0])) {
                let spec = self.read(&format!("var/lib/containers/storage/{dir}/{id}/userdata/config.json"));
                let pod = spec.and_then(|spec| pod_of_annotations(&spec["annotations"]));
                return Some(Names { container: Some(container), pod });
            }
        }
        None
    }

    /// containerd and CRI-O: annotations of the OCI bundle.
    fn cri(&self, id: &str) -> Option<Names> {
        let bundles = [
            format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/config.json"),
            format!("run/containerd/io.containerd.runtime.v2.task/default/{id}/config.json"),
            format!("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/config.json"),
            format!("run/containers/storage/overlay-containers/{id}/userdata/config.json"),
        ];
        let spec = bundles.iter().find_map(|bundle| self.read(bundle))?;
        let annotations = &spec["annotations"];
        let container = text(&annotations["io.kubernetes.cri.container-name"])
            .or_else(|| text(&annotations["io.kubernetes.container.name"]))
            .or_else(|| text(&annotations["nerdctl/name"]));
        Some(Names { container, pod: pod_of_annotations(annotations) })
    }
}

fn pod_of_annotations(annotations: &Value) -> Option<Pod> {
    let one = |names: [&str; 2]| names.into_iter().find_map(|name| text(&annotations[name]));
    Some(Pod {
        name: one(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"])?,
        namespace: one(["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
        container: one(["io.kubernetes.cri.container-name", "io.kubernetes.container.name"]),
    })
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(|text| printable(text.as_bytes()))
}

/// The id in a cgroup path, and what is above it: 64 hexadecimal digits, alone or between a runtime's name and `.scope`. The
/// outermost counts: what is below it was named in the container.
fn id_of_cgroup(path: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    path.split('/').find_map(|component| {
        let above = &path[..from];
        from += component.len() + 1;
        let stem = component.strip_suffix(".scope").unwrap_or(component);
        let id = stem.rsplit(['-', ':']).next()?;
        (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some((above, id))
    })
}

/// Whether the cgroup was named by a user, in what systemd gives his own manager. There are rootless containers, of which the
/// host's runtimes know nothing, and whatever else he likes.
fn is_users_own(path: &str) -> bool {
    path.split('/').any(|component| component.starts_with("user@") && component.ends_with(".service"))
}

/// `kubepods-burstable-pod1b2c_….slice` and `pod1b2c-…`: the pod's uid.
fn pod_uid(path: &str) -> Option<String> {
    let component =
        path.split('/').find(|c| c.starts_with("pod") || c.starts_with("kubepods-") && c.contains("-pod"))?;
    let (_, uid) = component
        .split_once("pod")
        .filter(|_| component.starts_with("pod"))
        .or_else(|| component.rsplit_once("-pod"))?;
    let uid = uid.strip_suffix(".slice").unwrap_or(uid).replace('_', "-");
    (uid.len() == 36 || uid.len() == 32).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const ID: &str = "4f2c1d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e";

    fn runtimes(path: &str, text: &str) -> (tempfile::TempDir, Runtimes) {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        let runtimes = Runtimes::new(root.path());
        (root, runtimes)
    }

    #[test]
    fn each_runtime_names_its_containers() {
        let docker = format!("/system.slice/docker-{ID}.scope");
        let podman = format!("/machine.slice/libpod-{ID}.scope/container");
        let cri = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice/cri-containerd-{ID}.scope"
        );
        let annotations = r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.container-name":"php"}}"#;
        let pod = Pod { namespace: Some("shop".into()), name: "web-0".into(), container: Some("php".into()) };
        for (cgroup, file, text, name, pod) in [
            (
                &docker,
                format!("var/lib/docker/containers/{ID}/config.v2.json"),
                r#"{"Name":"/shop_php_1"}"#.to_owned(),
                Some("shop_php_1"),
                None,
            ),
            (
                &podman,
                "var/lib/containers/storage/overlay-containers/containers.json".into(),
                format!(r#"[{{"id":"x"}},{{"id":"{ID}","names":["shop"]}}]"#),
                Some("shop"),
                None,
            ),
            (
                &cri,
                format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
                annotations.into(),
                Some("php"),
                Some(pod),
            ),
            (
                &cri,
                "x".into(),
                String::new(),
                None,
                Some(Pod { name: "0a1b2c3d-1111-2222-3333-444455556666".into(), ..Pod::default() }),
            ),
            (&docker, format!("var/lib/docker/containers/{ID}/config.v2.json"), "{ broken".into(), None, None),
        ] {
            let (_root, runtimes) = runtimes(&file, &text);
            let (container, found) = runtimes.of_cgroup(cgroup);
            assert_eq!(container.as_ref().map(|c| c.id.as_str()), Some(ID));
            assert_eq!((container.unwrap().name.as_deref(), found), (name, pod), "{cgroup}");
        }
    }

    #[test]
    fn nobody_passes_for_a_container_of_the_host() {
        let config = format!("var/lib/docker/containers/{ID}/config.v2.json");
        let (_root, runtimes) = runtimes(&config, r#"{"Name":"/victim"}"#);
        let pod = "kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice";
        let own = format!("/user.slice/user-1000.slice/user@1000.service/{pod}/docker-{ID}.scope");
        let (container, found) = runtimes.of_cgroup(&own);
        assert_eq!((container.unwrap(), found), (Container { id: ID.into(), name: None }, None));
        // Made inside another container.
        let other = ID.replace('4', "5");
        let (container, _) = runtimes.of_cgroup(&format!("/system.slice/docker-{other}.scope/docker-{ID}.scope"));
        assert_eq!(container.unwrap(), Container { id: other.clone(), name: None });
        let (_, found) = runtimes.of_cgroup(&format!("/system.slice/docker-{other}.scope/{pod}/x"));
        assert_eq!(found, None);
        // A container with a systemd and users of its own.
        let (container, _) = runtimes.of_cgroup(&format!("/docker/{ID}/user.slice/user@0.service/app.slice"));
        assert_eq!(container.unwrap().name.as_deref(), Some("victim"));
    }

    #[test]
    fn other_cgroups_are_no_containers() {
        let runtimes = Runtimes::new("/nonexistent");
        assert_eq!(runtimes.of_cgroup("/system.slice/cron.service"), (None, None));
        assert_eq!(runtimes.of_cgroup("/"), (None, None));
    }
}

//! The agent under test: the real binary with files, pins and a cgroup of its own.

mod config;
mod metrics;

use crate::{
    Cgroup, Etc, Must, bpffs, http,
    mountns::MountNs,
    poll, port,
    process::{self, Output, Running},
    scratch, tools,
};
pub use config::Config;
pub use metrics::{Metrics, Series};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};
use std::{
    fs,
    os::unix::{net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// All our pin directories begin with this.
const PINS: &str = "smtp-agent-test";
/// How long the agent may take to get ready, to end, and to answer a command.
const PATIENCE: Duration = Duration::from_secs(20);

/// An agent to be started; [`Agent::builder`] begins one.
pub struct Builder {
    config: Config,
    own_cgroup: Option<Cgroup>,
    view: Option<MountNs>,
    notify: bool,
    environment: Vec<(String, String)>,
    binary: Option<PathBuf>,
    dir: TempDir,
    pins: PathBuf,
    port: u16,
}

impl Builder {
    /// Changes the configuration. It has already what keeps agents apart: `[paths]`, `[kernel] cgroup`
    /// and `[metrics] listen`.
    pub fn config(mut self, change: impl FnOnce(&mut Config) -> &mut Config) -> Self {
        change(&mut self.config);
        self
    }

    /// Attaches to a cgroup of the test instead of one of the agent's own.
    pub fn cgroup(mut self, cgroup: &Cgroup) -> Self {
        self.own_cgroup = None;
        self.config.set("kernel.cgroup", cgroup.path().display().to_string());
        self
    }

    /// Lets the agent and its commands see these users. `etc` must outlive the agent.
    pub fn etc(mut self, etc: &Etc) -> Self {
        self.view = Some(etc.view().clone());
        self
    }

    /// Lets the agent and its commands live in this mount namespace.
    pub fn view(mut self, view: &MountNs) -> Self {
        self.view = Some(view.clone());
        self
    }

    /// Gives the agent a NOTIFY_SOCKET, as systemd does for `Type=notify`.
    pub fn notify(mut self) -> Self {
        self.notify = true;
        self
    }

    /// Runs another program than the `smtp-agent` of this build (`$SMTP_AGENT_BIN`).
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts the agent and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Agent {
        let mut agent = self.stopped();
        agent.start();
        agent
    }

    /// Everything but the running process: for `check`, for configurations that cannot start, and for
    /// tests that prepare something first.
    #[track_caller]
    pub fn stopped(self) -> Agent {
        let socket = self.notify.then(|| {
            let socket = UnixDatagram::bind(self.dir.path().join("notify.sock")).must("cannot make a notify socket");
            socket.set_nonblocking(true).must("cannot set up the notify socket");
            socket
        });
        let agent = Agent {
            running: None,
            binary: self.binary.unwrap_or_else(|| tools::program("smtp-agent", "SMTP_AGENT_BIN")),
            base: self.config,
            own_cgroup: self.own_cgroup,
            view: self.view,
            notify: socket,
            environment: self.environment,
            dir: self.dir,
            pins: self.pins,
            port: self.port,
        };
        agent.rewrite_config("");
        agent
    }
}

/// The agent, and everything it leaves behind, until `Drop`.
pub struct Agent {
    running: Option<Running>,
    binary: PathBuf,
    base: Config,
    own_cgroup: Option<Cgroup>,
    view: Option<MountNs>,
    notify: Option<UnixDatagram>,
    environment: Vec<(String, String)>,
    dir: TempDir,
    pins: PathBuf,
    port: u16,
}

impl Agent {
    #[track_caller]
    pub fn builder() -> Builder {
        bpffs::ensure();
        bpffs::sweep(PINS);
        let dir = scratch::dir();
        let pins = Path::new(bpffs::MOUNT).join(scratch::name(PINS));
        let cgroup = Cgroup::new("agent");
        let port = port::free();
        let mut config = Config::default();
        config
            .set("paths.pins", pins.display().to_string())
            .set("paths.state", dir.path().join("state").display().to_string())
            .set("paths.run", dir.path().join("run").display().to_string())
            .set("kernel.cgroup", cgroup.path().display().to_string())
            .set("metrics.listen", format!("127.0.0.1:{port}"));
        for name in ["state", "run"] {
            fs::create_dir(dir.path().join(name)).must(format_args!("cannot make the {name} directory"));
        }
        Builder {
            config,
            own_cgroup: Some(cgroup),
            view: None,
            notify: false,
            environment: Vec::new(),
            binary: None,
            dir,
            pins,
            port,
        }
    }

    /// Starts the agent (again, after [`Self::kill9`] or [`Self::stop`]) and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) {
        self.spawn();
        let mut last = String::new();
        let ready = poll::holds_within(PATIENCE, || {
            if self.has_ended() {
                return true;
            }
            match self.get("/-/ready") {
                Ok((200, _)) => return true,
                Ok((status, body)) => last = format!("/-/ready says {status}: {body}"),
                Err(error) => last = error,
            }
            false
        });
        assert!(!self.has_ended(), "the agent ended instead of getting ready:\n{}", self.stderr_so_far());
        assert!(ready, "the agent was not ready within {PATIENCE:?}; {last}\n{}", self.stderr_so_far());
    }

    /// Starts the agent without waiting for anything.
    #[track_caller]
    pub fn spawn(&mut self) {
        assert!(self.has_ended(), "the agent is running already");
        let mut command = self.command(&["run"]);
        if self.notify.is_some() {
            command.env("NOTIFY_SOCKET", self.dir.path().join("notify.sock"));
        }
        self.running = Some(Running::start_logged(&mut command, &self.log()));
    }

    /// Waits until the agent has ended by itself and returns its exit code.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> i32 {
        let status = self.process().wait(deadline);
        let status = status.must(format_args!("the agent did not end within {deadline:?}"));
        self.running = None;
        process::code(status)
    }

    #[track_caller]
    pub fn pid(&mut self) -> i32 {
        self.process().pid().as_raw()
    }

    /// Ends the agent as a crash would.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.process().signal(Signal::SIGKILL);
        let code = self.wait(PATIENCE);
        assert_eq!(code, 128 + Signal::SIGKILL as i32, "the agent ended before it was killed");
    }

    /// Ends the agent as systemd does, and returns its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        self.process().signal(Signal::SIGTERM);
        self.wait(PATIENCE)
    }

    /// Tells the agent to read its configuration again.
    #[track_caller]
    pub fn sighup(&mut self) {
        self.process().signal(Signal::SIGHUP);
    }

    /// Writes the configuration anew: that of the builder with `text` (TOML) laid over it.
    #[track_caller]
    pub fn rewrite_config(&self, text: &str) {
        let mut config = self.base.clone();
        self.rewrite_config_verbatim(&config.merge(text).to_string());
    }

    /// Writes exactly this as the configuration, be it valid or not.
    #[track_caller]
    pub fn rewrite_config_verbatim(&self, text: &str) {
        fs::write(self.config_path(), text).must("cannot write the configuration");
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    pub fn pins_dir(&self) -> &Path {
        &self.pins
    }

    /// The agent's own cgroup, to which it is attached: connections made in it or below are its business.
    #[track_caller]
    pub fn cgroup(&self) -> &Cgroup {
        self.own_cgroup.as_ref().must("this agent is attached to a cgroup of the test")
    }

    /// Host and port of /metrics, for a Prometheus to scrape.
    pub fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// HTTP GET: status and body.
    pub fn get(&self, path: &str) -> Result<(u16, String), String> {
        http::get(&format!("http://{}{path}", self.metrics_address()), &[])
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.get("/metrics").must("the agent does not answer");
        assert_eq!(status, 200, "/metrics: {text}");
        Metrics::parse(&text).must("/metrics is not in Prometheus's text format")
    }

    /// Runs a command of the agent as root, with the same configuration.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        process::output(self.command(arguments).stdin(Stdio::null()), PATIENCE)
    }

    /// Runs a command of the agent as an ordinary user without any group but his own.
    #[track_caller]
    pub fn cli_as(&self, uid: u32, gid: u32, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let drop = move || {
            setgroups(&[])?;
            setresgid(gid, gid, gid)?;
            Ok(setresuid(uid, uid, uid)?)
        };
        // SAFETY: the closure makes three system calls and allocates nothing.
        unsafe { command.pre_exec(drop) };
        process::output(command.stdin(Stdio::null()), PATIENCE)
    }

    /// The command line of the agent, in its view of the file system; for what [`Self::cli`] does not do.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(self.config_path()).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(view) = &self.view {
            view.enter(&mut command);
        }
        command
    }

    /// What every run of the agent so far has written to standard output and error.
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    /// What has come through the NOTIFY_SOCKET since the last call.
    #[track_caller]
    pub fn notifications(&self) -> Vec<String> {
        let socket = self.notify.as_ref().must("the agent was built without notify()");
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned()))
            .collect()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("agent.log")
    }

    fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|running| running.ended().is_some())
    }

    #[track_caller]
    fn process(&mut self) -> &mut Running {
        self.running.as_mut().must("the agent is not running")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the agent has written:\n{}", self.stderr_so_far());
        }
        if let Some(mut running) = self.running.take()
            && running.ended().is_none()
        {
            // It may end in this moment; `Running` kills what does not.
            let _ = kill(running.pid(), Signal::SIGTERM);
            running.wait(Duration::from_secs(5));
        }
        // The programs outlive the agent by design: they must be told to go.
        match process::try_output(self.command(&["detach"]).stdin(Stdio::null()), PATIENCE) {
            Ok(output) if output.code == 0 => {}
            Ok(output) => eprintln!("smtp-agent detach: exit code {}: {}{}", output.code, output.stdout, output.stderr),
            Err(error) => eprintln!("smtp-agent detach: {error}"),
        }
        if self.pins.exists()
            && let Err(error) = fs::remove_dir_all(&self.pins)
        {
            eprintln!("cannot remove {}: {error}", self.pins.display());
        }
    }
}

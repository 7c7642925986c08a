//! The host of a page: a root of its own in memory, with the paths, users and programs that pages speak of.
//!
//! Its /usr is that of this machine with the mail server of the test tools below, /etc and /var are the tools', and
//! nothing written in it stays. Its cgroup hierarchy is the cgroup of the test, its BPF file system is empty. Only the
//! network is this machine's, since in another network namespace all would be one container.

use super::{
    doing::Doing,
    lines,
    root::{cgroup_namespace, make_root, uid},
};
use crate::{
    Cgroup, Dial, Home, Mailer, Must, Netns, Sink, Veth, http,
    mountns::MountNs,
    netns, poll, port,
    process::{self, Running},
    scratch, tools,
};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{SigHandler, Signal, killpg, signal},
};
use std::{
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

/// The mail server outside that everybody sends to, and another one.
const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 25), Ipv4Addr::new(198, 51, 100, 25)];
const PORTS: [u16; 3] = [25, 465, 587];
/// Where processes are, below the root of the hierarchy.
const UNITS: [&str; 4] = ["smtp-agent.service", "php8.2-fpm.service", "cron.service", "ssh.service"];
/// Where who types behind `$ ` and `# ` is.
const SHELL: &str = "ssh.service";
/// As a page names it.
const METRICS: &str = "127.0.0.1:9725";
const PATIENCE: Duration = Duration::from_secs(20);
/// Lines of an output that is not the page's, in the message of the failed test.
const ENOUGH: usize = 60;
/// What `meanwhile USER runs FILE` runs: a script as it is found in a broken website, but for what it would send.
const SCRIPT: &str = "use IO::Socket::INET;\nwhile (1) {\n    \
    my $server = IO::Socket::INET->new(PeerAddr => '203.0.113.25:25', Timeout => 5);\n    \
    select undef, undef, undef, 0.1;\n}\n";

pub struct Host {
    agent: Option<Running>,
    mail_server: Option<(Running, Home)>,
    view: MountNs,
    namespace: Arc<File>,
    units: Vec<(&'static str, Cgroup)>,
    _root: Cgroup,
    _sinks: Vec<Sink>,
    _veth: Veth,
    _ns: Netns,
    dir: TempDir,
    port: u16,
    _turn: File,
}

impl Host {
    /// A host on which nothing is configured and no agent runs.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it takes its turn and makes mounts")]
    pub fn new() -> Self {
        let turn = turn();
        let ns = Netns::new();
        let veth = Veth::between_host_and(&ns);
        for server in SERVERS {
            ns.ip(&format!("addr add {server}/32 dev lo"));
            // Goes with the veth.
            netns::ip(&format!("route add {server}/32 via {} dev {}", veth.far.v4, veth.name())).must("no route");
        }
        let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let sinks = PORTS.into_iter().map(|port| Sink::at(any(port)).netns(&ns).obedient().start()).collect();

        let root = Cgroup::new("howto");
        let slice = root.child("system.slice");
        let units = UNITS.map(|unit| (unit, slice.child(unit))).into();
        // Its children are removed with the root.
        std::mem::forget(slice);
        let namespace = Arc::new(cgroup_namespace(&root));
        let dir = scratch::dir();
        let (top, agent) = (dir.path().to_path_buf(), tools::program("smtp-agent", "SMTP_AGENT_BIN"));
        let inside = Arc::clone(&namespace);
        let view = MountNs::new(move || {
            setns(&*inside, CloneFlags::CLONE_NEWCGROUP).must("cannot enter a cgroup namespace");
            make_root(&top, &agent);
        });
        Self {
            agent: None,
            mail_server: None,
            view,
            namespace,
            units,
            _root: root,
            _sinks: sinks,
            _veth: veth,
            _ns: ns,
            dir,
            port: port::free(),
            _turn: turn,
        }
    }

    /// Lays files into the host's root, as a page finds them.
    #[track_caller]
    pub fn copy(&self, from: &Path, to: &str) {
        let mut command = Command::new("cp");
        let fd = File::open(from).must(format_args!("cannot open {}", from.display()));
        // By descriptor: the path is not to be seen from inside.
        command.arg("-HrT").arg(format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())).arg(to);
        self.view.enter(&mut command);
        process::output(&mut command, PATIENCE).expect_ok("cp");
    }

    #[track_caller]
    pub(super) fn write(&self, path: &str, text: &str) {
        let path = Path::new(path);
        self.view.run(|| {
            fs::create_dir_all(path.parent().unwrap_or(path)).must("cannot make a directory");
            fs::write(path, text).must(format_args!("cannot write {}", path.display()));
        });
        self.keep_metrics_apart();
    }

    /// Adds `[metrics] listen` to the configuration, whoever has written it.
    #[track_caller]
    fn keep_metrics_apart(&self) {
        self.view.run(|| {
            let path = "/etc/smtp-agent/config.toml";
            let Ok(text) = fs::read_to_string(path) else { return };
            if !text.contains("\n[metrics]\n") {
                let listen = format!("\n[metrics]\nlisten = \"127.0.0.1:{}\"\n", self.port);
                fs::write(path, text + &listen).must("cannot write the configuration");
            }
        });
    }

    /// Runs a command as root or as this user and compares what it says. The error is a text for people.
    #[track_caller]
    pub(super) fn run(
        &self,
        user: Option<&str>,
        text: &str,
        shown: &[String],
        meanwhile: Option<&Doing>,
    ) -> Result<(), String> {
        let _meanwhile = meanwhile.map(|doing| self.begin(doing));
        let ours = format!("127.0.0.1:{}", self.port);
        let mut command = self.command(user, SHELL, &["bash", "-c", &text.replace(METRICS, &ours)]);
        let log = self.dir.path().join(scratch::name("said"));
        let mut running = Running::start_logged(command.process_group(0), &log);
        let said = |running: &Running| -> Vec<String> {
            running.log().replace(&ours, METRICS).lines().map(str::to_owned).collect()
        };
        let compared = match shown.split_last() {
            Some((last, shown)) if last == "^C" => {
                let mut compared = Ok(());
                poll::holds_within(PATIENCE, || {
                    compared = lines::compare(shown, &said(&running));
                    compared.is_ok() || running.ended().is_some()
                });
                // It may have ended by itself.
                let _ = killpg(running.pid(), Signal::SIGINT);
                running.wait(PATIENCE).must(format_args!("^C does not end {text:?}"));
                compared
            }
            _ => {
                running.wait(PATIENCE).must(format_args!("did not end: {text}\n{}", running.log()));
                lines::compare(shown, &said(&running))
            }
        };
        self.keep_metrics_apart();
        compared.map_err(|error| {
            let said = said(&running);
            let more = said.len().saturating_sub(ENOUGH);
            let more = if more > 0 { format!("\n(and {more} lines)") } else { String::new() };
            format!("{error}; it says:\n{}{more}\n", said[..said.len().min(ENOUGH)].join("\n"))
        })
    }

    #[track_caller]
    pub(super) fn act(&mut self, doing: &Doing) {
        match doing {
            Doing::AgentStarts => self.start_agent(),
            Doing::MailServerStarts => self.start_mail_server(),
            Doing::Sends { user, messages, each, rejected, unit } => {
                let mailer = || Mailer::to(server()).uid(uid(user)).cgroup(self.unit(unit)).each(*each);
                mailer().messages(messages - rejected).run();
                if *rejected > 0 {
                    mailer().messages(*rejected).sender_tag("+body550").run();
                }
            }
            Doing::Connects { user, times, unit } => {
                Dial::to(server()).uid(uid(user)).cgroup(self.unit(unit)).count(*times).run();
            }
            Doing::HandsIn { user, messages } => {
                for n in 1..=*messages {
                    let text = format!("printf 'Subject: {n}\\n\\nhello\\n' | sendmail -odf -oi you@example.com");
                    let mut command = self.command(Some(user), "php8.2-fpm.service", &["bash", "-c", &text]);
                    process::output(command.stdin(Stdio::null()), PATIENCE).expect_ok("sendmail");
                }
            }
            Doing::Written { user } => {
                let knows = poll::holds_within(PATIENCE, || {
                    let mut who = self.command(None, SHELL, &["smtp-agent", "who", "--user", user, "--json"]);
                    process::output(who.stdin(Stdio::null()), PATIENCE).stdout.contains("\"script\"")
                });
                assert!(knows, "the history does not know what {user} runs");
            }
            Doing::As(_) | Doing::Meanwhile { .. } => unreachable!("the page itself knows what to do"),
        }
    }

    #[track_caller]
    fn begin(&self, doing: &Doing) -> Running {
        let Doing::Meanwhile { user, file } = doing else { unreachable!("only scripts run meanwhile") };
        self.write(file, SCRIPT);
        let mut command = self.command(Some(user), "php8.2-fpm.service", &["perl", file]);
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()))
    }

    #[track_caller]
    fn start_agent(&mut self) {
        let mut command = self.command(None, "smtp-agent.service", &["smtp-agent", "run"]);
        let mut running = Running::start_logged(&mut command, &self.dir.path().join("agent.log"));
        let ready = format!("http://127.0.0.1:{}/-/ready", self.port);
        let is_ready = poll::holds_within(PATIENCE, || {
            running.ended().is_some() || matches!(http::get(&ready, &[]), Ok((200, _)))
        });
        assert!(is_ready && running.ended().is_none(), "the agent does not get ready:\n{}", running.log());
        self.agent = Some(running);
    }

    #[track_caller]
    fn start_mail_server(&mut self) {
        let home = Home::take();
        let mut command = self.command(None, SHELL, &["exim4", "-bdf"]);
        let running = Running::start_logged(&mut command, &self.dir.path().join("exim.log"));
        let listens = poll::holds_within(PATIENCE, || TcpStream::connect(Home::V4).is_ok());
        assert!(listens, "exim does not listen:\n{}", running.log());
        self.mail_server = Some((running, home));
    }

    /// A program on the host. All is done between fork and exec.
    #[track_caller]
    fn command(&self, user: Option<&str>, unit: &str, arguments: &[&str]) -> Command {
        let mut all: Vec<&str> = Vec::new();
        let (reuid, regid) = (format!("--reuid={}", user.unwrap_or_default()), user.unwrap_or_default());
        let regid = format!("--regid={regid}");
        if user.is_some() {
            all.extend(["setpriv", &reuid, &regid, "--init-groups", "--"]);
        }
        all.extend(arguments);
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C.UTF-8");
        self.unit(unit).enter(&mut command);
        let namespace = Arc::clone(&self.namespace);
        let join = move || {
            // Who started the tests in the background of a shell has them ignore ^C, and all that they start.
            // SAFETY: no handler is installed.
            unsafe { signal(Signal::SIGINT, SigHandler::SigDfl) }?;
            // SAFETY: `namespace` lives as long as this closure.
            let fd = unsafe { BorrowedFd::borrow_raw(namespace.as_raw_fd()) };
            Ok(setns(fd, CloneFlags::CLONE_NEWCGROUP)?)
        };
        // SAFETY: the closure makes two system calls and allocates nothing.
        unsafe { command.pre_exec(join) };
        self.view.enter(&mut command);
        command
    }

    #[track_caller]
    fn unit(&self, name: &str) -> &Cgroup {
        let found = self.units.iter().find(|(unit, _)| *unit == name);
        &found.must(format_args!("the host of the pages has no {name}")).1
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(agent) = &self.agent
        {
            eprintln!("the agent has written:\n{}", agent.log());
        }
        self.agent = None;
        // Without it the programs stay until the namespace goes, which is soon.
        let mut command = self.command(None, SHELL, &["smtp-agent", "detach"]);
        match process::try_output(command.stdin(Stdio::null()), PATIENCE) {
            Ok(output) if output.code == 0 => {}
            other => eprintln!("smtp-agent detach: {other:?}"),
        }
    }
}

/// One host at a time: the addresses of the servers are routed to one place.
#[track_caller]
fn turn() -> File {
    let path = env::temp_dir().join("smtp-test-howto.lock");
    let turn = File::options().create(true).append(true).open(&path).must(format_args!("{}", path.display()));
    turn.lock().must(format_args!("cannot lock {}", path.display()));
    turn
}

pub(super) fn server() -> SocketAddr {
    SocketAddr::new(SERVERS[0].into(), PORTS[0])
}

//! The script behind an attempt, with the real PHP and cron of Debian.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use smtp_tests::{Listener, World, mta::Web, poll, uid};
use std::time::Duration;

/// The history is written each second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// PHP that opens a connection, and lives on for as long as a script that sends does.
fn mail_php(world: &World) -> String {
    let to = world.veth.far.v4;
    format!("<?php $s = @fsockopen('{to}', 25, $e, $m, 5); echo $s ? 'sent' : 'refused'; usleep(300000);\n")
}

fn mail_pl(world: &World) -> String {
    let to = world.veth.far.v4;
    format!("use Socket; socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(25, inet_aton('{to}')));\n")
}

#[track_caller]
fn host(files: &[(&str, u32, String)]) -> Web {
    Web::with(&[("shop", uid::SENDER), ("blog", uid::OTHER)], files)
}

#[track_caller]
fn culprit(listener: &Listener) -> Value {
    listener.wait_for("connect", 1)[0]["culprit"].clone()
}

/// What happens while the agent, which has this number, cannot look: it is stopped.
#[track_caller]
fn unseen(agent: i32, f: impl FnOnce()) {
    let agent = Pid::from_raw(agent);
    kill(agent, Signal::SIGSTOP).expect("a signal");
    f();
    kill(agent, Signal::SIGCONT).expect("a signal");
}

#[test]
fn a_script_that_php_fpm_runs_is_named_by_its_scoreboard() {
    let world = World::with("");
    let web = host(&[
        ("/srv/shop/contact/send.php", uid::SENDER, mail_php(&world)),
        ("/srv/shop/index.php", uid::SENDER, "<?php include 'contact/send.php';\n".into()),
    ]);
    let _fpm = web.fpm("shop-pool", "shop", world.cgroup());
    let listener = Listener::start(&world);
    let page = web.request("/srv/shop/contact/send.php", world.cgroup());
    assert!(page.stdout.ends_with("sent"), "{page:?}");
    let culprit = culprit(&listener);
    assert_eq!(culprit["script"]["path"], "/srv/shop/contact/send.php", "{culprit}");
    assert_eq!(culprit["script"]["how"], "fpm");
    assert_eq!(culprit["cwd"], format!("{}/srv/shop/contact", web.path().display()));
    assert_eq!((&culprit["origin"]["kind"], &culprit["origin"]["name"]), (&"web".into(), &"shop-pool".into()));
    // A front controller is what was asked for, whatever it includes.
    web.request("/srv/shop/index.php", world.cgroup());
    let second = &listener.wait_for("connect", 2)[1]["culprit"];
    assert_eq!(second["script"]["path"], "/srv/shop/index.php", "{second}");
}

#[test]
fn a_script_that_php_fpm_has_done_with_is_told_by_its_directory() {
    let mut world = World::with("");
    let quick = mail_php(&world).replace("usleep(300000);", "");
    let web = host(&[("/srv/shop/wp-content/x.php", uid::SENDER, quick)]);
    let _fpm = web.fpm("www", "shop", world.cgroup());
    let listener = Listener::start(&world);
    let agent = world.agent.pid();
    web.put("/srv/shop/idle.php", uid::SENDER, "<?php echo 1;\n");
    unseen(agent, || {
        web.request("/srv/shop/wp-content/x.php", world.cgroup());
        // The next request takes the same slot: what stands there now is not what connected.
        for _ in 0..4 {
            web.request("/srv/shop/idle.php", world.cgroup());
        }
    });
    let culprit = culprit(&listener);
    assert_eq!(culprit["script"]["path"], format!("{}/srv/shop/wp-content/", web.path().display()), "{culprit}");
    assert_eq!(culprit["script"]["how"], "directory");
}

#[test]
fn a_script_that_apache_runs_is_named_by_the_php_in_it() {
    let world = World::with("");
    let web = host(&[
        ("/srv/shop/contact/send.php", uid::SENDER, mail_php(&world)),
        ("/srv/shop/index.php", uid::SENDER, "<?php include 'contact/send.php';\n".into()),
    ]);
    let service = world.cgroup().child("apache2.service");
    let apache = web.apache("shop", "/srv/shop", "", &service);
    let listener = Listener::start(&world);
    assert_eq!(apache.get("/contact/send.php"), "sent");
    let culprit = culprit(&listener);
    assert_eq!(culprit["script"]["path"], "/srv/shop/contact/send.php", "{culprit}");
    assert_eq!(culprit["script"]["how"], "php");
    assert_eq!(culprit["exe"], format!("{}/usr/sbin/apache2", web.path().display()));
    assert_eq!(culprit["cwd"], format!("{}/srv/shop/contact", web.path().display()));
    let origin = &culprit["origin"];
    assert_eq!((&origin["kind"], &origin["name"]), (&"service".into(), &"apache2.service".into()), "{culprit}");
    assert_eq!(culprit["lineage"][0]["tgid"], apache.pid().as_raw(), "{culprit}");
    // A front controller is what was asked for, whatever it includes.
    apache.get("/index.php");
    let second = &listener.wait_for("connect", 2)[1]["culprit"];
    assert_eq!(second["script"]["path"], "/srv/shop/index.php", "{second}");
    // Afterwards the history tells it.
    let told = who(&world, uid::SENDER);
    assert_eq!(told["actors"][0]["culprit"]["script"]["how"], "php", "{told:#}");
    let answer = world.agent.cli(&["who", "--user", &uid::SENDER.to_string()]).expect_ok("who").stdout;
    for part in ["/usr/sbin/apache2", "(php)", "service apache2.service", "the script: "] {
        assert!(answer.contains(part), "{part} is missing in:\n{answer}");
    }
}

#[test]
fn a_script_that_apache_has_done_with_is_told_by_its_directory() {
    let mut world = World::with("");
    let quick = mail_php(&world).replace("usleep(300000);", "");
    let late = format!("<?php register_shutdown_function(function () {{ {} }});\n", quick.replace("<?php", ""));
    let elsewhere = format!("<?php chdir('/srv'); {}", mail_php(&world).replace("<?php", ""));
    let web = host(&[
        ("/srv/shop/wp-content/x.php", uid::SENDER, quick),
        ("/srv/shop/wp-content/late.php", uid::SENDER, late),
        ("/srv/shop/wp-content/elsewhere.php", uid::SENDER, elsewhere),
        ("/srv/shop/wp-content/idle.php", uid::SENDER, "<?php echo 1;\n".into()),
    ]);
    let apache = web.apache("shop", "/srv/shop", "", world.cgroup());
    let listener = Listener::start(&world);
    let agent = world.agent.pid();
    unseen(agent, || {
        apache.get("/wp-content/x.php");
        // What the worker serves next is not what connected, in the same directory or not.
        apache.get("/wp-content/idle.php");
    });
    let first = culprit(&listener);
    assert_eq!(first["script"]["path"], format!("{}/srv/shop/wp-content/", web.path().display()), "{first}");
    assert_eq!(first["script"]["how"], "directory");
    // PHP has left the directory before it runs what was registered for the end.
    apache.get("/wp-content/late.php");
    let second = &listener.wait_for("connect", 2)[1]["culprit"];
    assert_eq!(second["cwd"], web.path().display().to_string());
    assert_eq!(second["script"], Value::Null, "{second}");
    // A script may go elsewhere: no more than where it was is claimed.
    apache.get("/wp-content/elsewhere.php");
    let third = &listener.wait_for("connect", 3)[2]["culprit"];
    assert_eq!(third["script"]["path"], format!("{}/srv/", web.path().display()), "{third}");
    assert_eq!(third["script"]["how"], "directory");
}

/// A sendmail of Debian's that connects by itself, as whoever runs it.
fn msmtp(world: &World) -> String {
    let to = world.sink_address();
    format!("/usr/bin/msmtp --host={} --port={} --from=shop@client.test --timeout=9", to.ip(), to.port())
}

#[test]
fn mail_of_php_in_apache_leads_back_to_its_script() {
    let world = World::with("");
    let form = "<?php echo mail('a@far.test', 'x', 'x') ? 'mailed' : 'not';\n".to_owned();
    let web = host(&[("/srv/shop/form.php", uid::SENDER, form)]);
    let sendmail = format!("php_admin_value sendmail_path '{} -t'\n", msmtp(&world));
    let apache = web.apache("shop", "/srv/shop", &sendmail, world.cgroup());
    let listener = Listener::start(&world);
    assert_eq!(apache.get("/form.php"), "mailed");
    let culprit = culprit(&listener);
    assert_eq!(culprit["exe"], format!("{}/usr/bin/msmtp", web.path().display()), "{culprit}");
    let script = &culprit["script"];
    assert_eq!((&script["path"], &script["how"]), (&"/srv/shop/form.php".into(), &"php".into()), "{culprit}");
}

/// Two sites with one user between them, and a worker that has gone on when the bot of the first connects.
#[test]
fn what_a_script_leaves_running_is_not_laid_at_the_next_one() {
    let world = World::with("");
    let bot = format!("<?php exec(\"(sleep 1; {} a@far.test) </dev/null >/dev/null 2>&1 &\");\n", msmtp(&world));
    let slow = "<?php sleep(3); echo 'slow';\n".to_owned();
    let web = host(&[("/srv/sites/a/bot.php", uid::SENDER, bot), ("/srv/sites/b/slow.php", uid::SENDER, slow)]);
    let apache = web.apache("shop", "/srv/sites", "", world.cgroup());
    let listener = Listener::start(&world);
    apache.get("/a/bot.php");
    assert_eq!(apache.get("/b/slow.php"), "slow");
    let culprit = culprit(&listener);
    let worker = &culprit["lineage"][1];
    assert_eq!((&worker["comm"], &worker["uid"]), (&"apache2".into(), &uid::SENDER.into()), "{culprit}");
    assert_eq!(culprit["script"], Value::Null, "{culprit}");
}

#[test]
fn a_site_of_its_own_user_in_apache_is_told_with_its_user() {
    let world = World::with("");
    let web = host(&[("/srv/blog/post.php", uid::OTHER, mail_php(&world))]);
    let apache = web.apache_as_owner("blog", "/srv/blog", world.cgroup());
    let listener = Listener::start(&world);
    assert_eq!(apache.get("/post.php"), "sent");
    let event = &listener.wait_for("connect", 1)[0];
    assert_eq!(event["uid"], uid::OTHER, "{event}");
    let script = &event["culprit"]["script"];
    assert_eq!((&script["path"], &script["how"]), (&"/srv/blog/post.php".into(), &"php".into()), "{event}");
}

#[test]
fn php_on_the_command_line_and_as_cgi_is_named() {
    let mut world = World::with("");
    let web = host(&[("/srv/shop/send.php", uid::SENDER, mail_php(&world))]);
    let listener = Listener::start(&world);
    let ran = web.run("/usr/bin/php", &["-d", "memory_limit=64M", "/srv/shop/send.php"], uid::SENDER, world.cgroup());
    assert_eq!(ran.stdout, "sent", "{ran:?}");
    let first = &listener.wait_for("connect", 1)[0]["culprit"];
    assert_eq!((&first["script"]["path"], &first["script"]["how"]), (&"/srv/shop/send.php".into(), &"argument".into()));
    let page = web.cgi("/srv/shop/send.php", uid::SENDER, world.cgroup());
    assert!(page.stdout.ends_with("sent"), "{page:?}");
    let second = &listener.wait_for("connect", 2)[1]["culprit"];
    assert_eq!(second["script"]["path"], "/srv/shop/send.php", "{second}");
    assert_eq!(second["script"]["how"], "environment");
    // One that is gone before anybody could look: its environment went with it.
    let agent = world.agent.pid();
    unseen(agent, || drop(web.cgi("/srv/shop/send.php", uid::SENDER, world.cgroup())));
    let third = &listener.wait_for("connect", 3)[2]["culprit"];
    assert_eq!(third["script"]["path"], format!("{}/srv/shop/", web.path().display()), "{third}");
    assert_eq!(third["script"]["how"], "directory");
}

#[test]
fn a_cgi_that_serves_by_fastcgi_says_which_script() {
    let world = World::with("");
    let web = host(&[("/srv/shop/send.php", uid::SENDER, mail_php(&world))]);
    let _cgi = web.fastcgi(uid::SENDER, world.cgroup());
    let listener = Listener::start(&world);
    let page = web.request_by_fastcgi("/srv/shop/send.php", world.cgroup());
    assert!(page.stdout.ends_with("sent"), "{page:?}");
    let script = &culprit(&listener)["script"];
    assert_eq!((&script["path"], &script["how"]), (&"/srv/shop/send.php".into(), &"php".into()), "{script}");
}

#[test]
fn a_cron_job_is_told_with_its_user_and_its_line() {
    let world = World::with("");
    let web = host(&[("/home/blog/nightly.pl", uid::OTHER, mail_pl(&world))]);
    let listener = Listener::start(&world);
    let _cron = web.cron("@reboot blog cd /home/blog && perl nightly.pl; sleep 1\n", world.cgroup());
    let culprit = culprit(&listener);
    assert_eq!(culprit["script"]["path"], format!("{}/home/blog/nightly.pl", web.path().display()), "{culprit}");
    let origin = &culprit["origin"];
    assert_eq!((&origin["kind"], &origin["name"]), (&"cron".into(), &uid::OTHER.to_string().into()), "{culprit}");
    let above = culprit["lineage"].to_string();
    assert!(above.contains("cd /home/blog && perl nightly.pl; sleep 1"), "{culprit}");
}

/// A user of his own for each who is planted.
mod planted {
    pub(super) const SITE: u32 = 61_011;
    pub(super) const COMMAND: u32 = 61_012;
    pub(super) const JOB: u32 = 61_013;
    pub(super) const BOT: u32 = 61_014;
    pub(super) const BOXED: u32 = 61_015;
    pub(super) const ORDINARY: u32 = 61_016;
}

const BOX: &str = "docker-4f2c1d9e8b7a6f5e4d3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e.scope";

/// What `who` says of a user, once it says anything.
#[track_caller]
fn who(world: &World, user: u32) -> Value {
    let name = user.to_string();
    poll::eventually_some(PATIENCE, "the history knows him", || {
        let output = world.agent.cli(&["who", "--user", &name, "--json"]);
        let told: Value = serde_json::from_str(&output.stdout).ok()?;
        let actor = &told["culprits"][0]["actors"][0];
        (!actor.is_null()).then(|| told["culprits"][0].clone())
    })
}

/// The whole of it: those who send too much among those who do not, each named by one command.
#[test]
fn who_names_each_of_those_who_were_planted() {
    use planted::{BOT, BOXED, COMMAND, JOB, ORDINARY, SITE};
    let world = World::with("");
    let users =
        [("site", SITE), ("command", COMMAND), ("job", JOB), ("bot", BOT), ("boxed", BOXED), ("ordinary", ORDINARY)];
    let bot = format!(
        "unlink $0; chdir '/'; $0 = '/usr/sbin/httpd'; fork and exit; {}for (1..12) {{ {} select undef, undef, undef, 0.05 }}\n",
        "use Socket; ",
        mail_pl(&world).replace("use Socket; ", "")
    );
    let web = Web::with(
        &users,
        &[
            ("/srv/site/contact.php", SITE, mail_php(&world)),
            ("/home/command/newsletter.php", COMMAND, mail_php(&world)),
            ("/home/job/nightly.pl", JOB, mail_pl(&world)),
            ("/tmp/.ICE/bot.pl", BOT, bot),
            ("/app/worker.pl", BOXED, mail_pl(&world)),
            ("/home/ordinary/hello.pl", ORDINARY, mail_pl(&world)),
        ],
    );
    let root = web.path().display().to_string();
    let cgroup = world.cgroup();
    let boxed = cgroup.child(BOX);
    let _fpm = web.fpm("site", "site", cgroup);
    let _cron = web.cron("@reboot job cd /home/job && perl nightly.pl; sleep 1\n", cgroup);
    for _ in 0..3 {
        web.request("/srv/site/contact.php", cgroup);
        web.run("/usr/bin/perl", &["/home/ordinary/hello.pl"], ORDINARY, cgroup);
    }
    web.run("/usr/bin/php", &["/home/command/newsletter.php"], COMMAND, cgroup);
    web.run("/usr/bin/perl", &["/tmp/.ICE/bot.pl"], BOT, cgroup);
    web.run("/usr/bin/perl", &["/app/worker.pl"], BOXED, &boxed);
    world.dial().uid(uid::DENIED).run();

    let script = |user| {
        let told = who(&world, user);
        let culprit = &told["actors"][0]["culprit"];
        (culprit["script"]["path"].as_str().unwrap_or("unknown").to_owned(), culprit["script"]["how"].clone(), told)
    };
    let (path, how, told) = script(SITE);
    assert_eq!((path.as_str(), &how), ("/srv/site/contact.php", &"fpm".into()), "{told:#}");
    assert_eq!(told["actors"][0]["culprit"]["origin"]["name"], "site", "the pool: {told:#}");
    let (path, how, told) = script(COMMAND);
    assert_eq!((path.as_str(), &how), ("/home/command/newsletter.php", &"argument".into()), "{told:#}");
    let (path, _, told) = script(JOB);
    assert_eq!(path, format!("{root}/home/job/nightly.pl"), "{told:#}");
    assert_eq!(told["actors"][0]["culprit"]["origin"]["kind"], "cron", "{told:#}");
    let (path, _, told) = script(BOT);
    assert_eq!(path, "/tmp/.ICE/bot.pl", "{told:#}");
    assert!(!web.has("/tmp/.ICE/bot.pl"), "it has removed itself");
    let culprit = &told["actors"][0]["culprit"];
    assert!(culprit["command"][0].as_str().is_some_and(|word| word.starts_with("/usr/sbin/httpd")), "{told:#}");
    assert_eq!(culprit["started_as"][0], "/usr/bin/perl", "{told:#}");
    let (_, _, told) = script(BOXED);
    let container = &told["actors"][0]["culprit"]["container"]["id"];
    assert!(BOX.contains(container.as_str().expect("a container")), "{told:#}");
    let (_, _, told) = script(uid::DENIED);
    assert_eq!(told["numbers"]["refused"], 1, "{told:#}");
    assert!(told["actors"][0]["process"].as_str().is_some_and(|exe| exe.ends_with("smtp-dial")), "{told:#}");
    // The one question of an administrator who knows nothing yet.
    let answer = world.agent.cli(&["who", "--top", "10"]).expect_ok("who").stdout;
    for part in ["contact.php", "newsletter.php", "nightly.pl", ".ICE/bot.pl", "to stop it: smtp-agent block"] {
        assert!(answer.contains(part), "{part} is missing in:\n{answer}");
    }
    if let Some(path) = std::env::var_os("SMTP_TEST_WHO") {
        std::fs::write(path, answer).expect("written");
    }
}

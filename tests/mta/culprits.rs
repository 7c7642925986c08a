//! The script behind an attempt, with the real PHP and cron of Debian.

use serde_json::Value;
use smtp_tests::{Listener, World, mta::Web, uid};

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
    let agent = nix::unistd::Pid::from_raw(world.agent.pid());
    let signal = |signal| nix::sys::signal::kill(agent, signal).expect("a signal");
    signal(nix::sys::signal::Signal::SIGSTOP);
    web.request("/srv/shop/wp-content/x.php", world.cgroup());
    // The next request takes the same slot: what stands there now is not what connected.
    web.put("/srv/shop/idle.php", uid::SENDER, "<?php echo 1;\n");
    for _ in 0..4 {
        web.request("/srv/shop/idle.php", world.cgroup());
    }
    signal(nix::sys::signal::Signal::SIGCONT);
    let culprit = culprit(&listener);
    assert_eq!(culprit["script"]["path"], format!("{}/srv/shop/wp-content/", web.path().display()), "{culprit}");
    assert_eq!(culprit["script"]["how"], "directory");
}

#[test]
fn php_on_the_command_line_and_as_cgi_is_named() {
    let world = World::with("");
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

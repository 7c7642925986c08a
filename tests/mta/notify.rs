//! Notices as mail, through the sendmail of a real MTA to where it delivers.

use smtp_tests::{Must, World, mountns::MountNs, mta::Exim, process, scratch};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// A sendmail of the host that is the one in the MTA's own root.
fn sendmail(dir: &Path, program: &Path) -> PathBuf {
    let inside = Path::new("/usr/sbin/exim4");
    let root = program.to_str().and_then(|path| path.strip_suffix("/usr/sbin/exim4")).must("a program in a root");
    let path = dir.join("sendmail");
    let script = format!("#!/bin/sh\nexec chroot {root} {} -odf \"$@\"\n", inside.display());
    fs::write(&path, script).must("cannot write a script");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).must("cannot make it executable");
    path
}

#[track_caller]
fn test_notice(world: &World, view: &MountNs) -> process::Output {
    let mut command = world.agent.command(&["notify", "test"]);
    view.enter(&mut command);
    process::output(command.stdin(Stdio::null()), Duration::from_secs(30))
}

#[test]
fn a_notice_is_a_mail_that_the_local_mta_delivers() {
    let world = World::stopped("");
    let exim = Exim::sending_to(world.sink_address()).start();
    let (view, program) = exim.program();
    let dir = scratch::dir();
    let sendmail = sendmail(dir.path(), &program);
    world.agent.rewrite_config(&format!(
        "[[notify.mail]]\nto = ['ops@far.test', 'root@far.test']\nfrom = 'agent@client.test'\nsendmail = '{}'\n\
         subject = 'Grüße von {{host}}: {{what}}'\n",
        sendmail.display()
    ));
    test_notice(&world, view).expect_ok("notify test");
    let messages = world.sink.messages();
    let [message] = &messages[..] else { panic!("{messages:?}\n{}", exim.mainlog()) };
    assert_eq!(
        (message.from.as_str(), message.to.join(",").as_str()),
        ("agent@client.test", "ops@far.test,root@far.test")
    );
    let (header, body) = message.text.split_once("\r\n\r\n").must("a header");
    for field in [
        "From: \"smtp-agent\" <agent@client.test>",
        "To: <ops@far.test>, <root@far.test>",
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
    ] {
        assert!(header.lines().any(|line| line == field), "{field} is missing in\n{header}");
    }
    for name in ["Date: ", "Message-ID: <test-"] {
        assert_eq!(header.lines().filter(|line| line.starts_with(name)).count(), 1, "{name}\n{header}");
    }
    assert!(header.contains("Subject: =?utf-8?"), "{header}");
    assert!(body.contains("this is a test of the notices") && body.contains("smtp-agent status"), "{body}");
    assert_eq!(exim.queue(), 0, "{}", exim.mainlog());
}

#[test]
fn a_mail_that_the_mta_does_not_take_is_told_in_its_words() {
    let world = World::stopped("");
    let exim = Exim::sending_to(world.sink_address()).main_option("message_size_limit = 1").start();
    let (view, program) = exim.program();
    let dir = scratch::dir();
    let sendmail = sendmail(dir.path(), &program);
    let text = format!("[[notify.mail]]\nto = 'ops@far.test'\nsendmail = '{}'\n", sendmail.display());
    world.agent.rewrite_config(&text);
    let output = test_notice(&world, view);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stdout.contains("mail: FAILED: ") && output.stdout.contains("exit status: 1"), "{output:?}");
    assert_eq!(world.sink.messages().len(), 0);
}

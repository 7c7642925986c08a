//! Nobody's ways out, and the mail servers that are found.

use std::time::SystemTime;

use super::{
    super::{mtas, nobody},
    *,
};

const DENIED: &str = "mode = \"enforce\"\n";

fn examine(host: &Host, config: Option<&Config>) -> Vec<Finding> {
    nobody::examine(host, config, SystemTime::now())
}

fn busy() -> Tree {
    let tree = Tree::new();
    tree.process(310, "php-cgi", 65_534, "/usr/bin/php-cgi");
    tree.process(311, "bash", 0, "/bin/bash");
    tree.program("/usr/sbin/sendmail", 0o755, "\x7fELF");
    tree.write(
        "/etc/apache2/mods-enabled/php8.2.load",
        "# PHP\nLoadModule php_module /usr/lib/apache2/modules/libphp8.2.so\n",
    );
    tree.write("/etc/apache2/envvars", "export APACHE_RUN_USER=www-data\n");
    tree.write("/etc/php/8.2/fpm/pool.d/www.conf", "[www]\n; user = other\nuser = nobody\n[shop]\nuser = shop\n");
    tree.write(
        "/proc/net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
         0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0 0 71 1 0000 100 0 0 10 0\n",
    );
    tree
}

#[test]
fn where_the_policy_denies_nobody_his_ways_are_closed() {
    let found = examine(&busy().host(), Some(&config(DENIED)));
    assert_eq!(of(&found, Level::Warning), [""; 0], "{found:#?}");
    assert_one(&found, Level::Ok, &["the policy refuses nobody everywhere"]);
    assert_one(&found, Level::Ok, &["1 process runs as nobody now", "php-cgi (pid 310)"]);
    // What all sites share is still worth knowing.
    assert_one(&found, Level::Note, &["mod_php runs PHP as www-data", "php8.2.load:2: LoadModule", "envvars:1"]);
}

#[test]
fn where_the_policy_does_not_deny_nobody_every_way_is_told() {
    let found = examine(&busy().host(), Some(&config("mode = \"enforce\"\n[deny]\nusers = []\n")));
    assert_one(&found, Level::Warning, &["the policy does not refuse nobody", "[deny]"]);
    assert_one(&found, Level::Warning, &["1 process runs as nobody", "php-cgi (pid 310)"]);
    assert_one(&found, Level::Warning, &["PHP-FPM (pool www) runs PHP as nobody", "www.conf:3: user = nobody"]);
    assert_one(&found, Level::Note, &["takes mail over loopback", "127.0.0.1:25"]);
    assert_one(&found, Level::Note, &["nobody may execute sendmail", "/usr/sbin/sendmail"]);
    assert!(!of(&found, Level::Warning).iter().any(|line| line.contains("pool shop")), "{found:#?}");
}

#[test]
fn a_policy_that_only_observes_or_cannot_be_read_promises_nothing() {
    let found = examine(&busy().host(), Some(&config("mode = \"observe\"\n")));
    assert_one(&found, Level::Note, &["would refuse nobody, but mode = \"observe\""]);
    let found = examine(&Tree::new().host(), None);
    assert_one(&found, Level::Note, &["whether it refuses nobody is not known", "smtp-agent check"]);
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn nobody_is_denied_by_number_as_well() {
    let found = examine(&Tree::new().host(), Some(&config("mode = \"enforce\"\n[deny]\nusers = [\"65534\"]\n")));
    assert_one(&found, Level::Ok, &["the policy refuses nobody everywhere"]);
}

#[test]
fn what_was_said_by_hand_comes_before_the_policy() {
    let entry = |whom: &str, says: &str, until: &str| {
        format!(
            r#"{{"whom":{whom},"says":"{says}","since":"2026-11-20T10:17:11Z","until":{until},"reason":null,"by":{{"uid":0,"user":"root"}}}}"#
        )
    };
    let said = |entries: &[String]| {
        let tree = busy();
        tree.write("/etc/group", "root:x:0:\nnogroup:x:65534:\nfree:x:70:shop,nobody\nshop:x:71:shop\n");
        let text = format!(r#"{{"version":1,"said":[{}]}}"#, entries.join(","));
        tree.write("/var/lib/smtp-agent/by-hand.json", text);
        examine(&tree.host(), Some(&config(DENIED)))
    };
    let later = r#""9000-01-01T00:00:00Z""#;
    for whom in [r#"{"user":"nobody"}"#, r#"{"user":"65534"}"#, r#"{"group":"nogroup"}"#, r#"{"group":"free"}"#] {
        let found = said(&[entry(whom, "allowed", later)]);
        let told = ["nobody was let out by hand", "said by hand: allowed", "until 9000-01-01", "smtp-agent release"];
        assert_one(&found, Level::Warning, &told);
        assert_one(&found, Level::Warning, &["1 process runs as nobody now"]);
    }
    let nobody = r#"{"user":"nobody"}"#;
    for fine in [
        vec![],
        vec![entry(nobody, "allowed", r#""2001-01-01T00:00:00Z""#)],
        vec![entry(r#"{"user":"www-data"}"#, "allowed", "null"), entry(r#"{"group":"shop"}"#, "allowed", "null")],
        vec![entry(nobody, "allowed", "null"), entry(nobody, "blocked", later)],
        vec![entry(nobody, "blocked", "null"), entry(r#"{"group":"free"}"#, "allowed", "null")],
    ] {
        let found = said(&fine);
        assert_eq!(of(&found, Level::Warning), [""; 0], "{fine:?}: {found:#?}");
    }
    // A block by hand is as good as a line in [deny].
    let tree = Tree::new();
    tree.write(
        "/var/lib/smtp-agent/by-hand.json",
        format!(r#"{{"version":1,"said":[{}]}}"#, entry(nobody, "blocked", later)),
    );
    let open = config("mode = \"enforce\"\n[deny]\nusers = []\n");
    assert_one(&examine(&tree.host(), Some(&open)), Level::Ok, &["the policy refuses nobody", "said by hand: blocked"]);
    tree.write("/var/lib/smtp-agent/by-hand.json", "broken");
    let found = examine(&tree.host(), Some(&config(DENIED)));
    assert_one(&found, Level::Note, &["what was said by hand cannot be read", "block --list"]);
}

#[test]
fn php_inside_the_web_server_of_cpanel_runs_as_nobody_unless_a_module_changes_that() {
    let tree = Tree::new();
    tree.write("/etc/cpanel/ea4/php.conf", "---\ndefault: ea-php81\nea-php80: suphp\nea-php81: dso\n");
    let open = config("[deny]\nusers = []\n");
    let found = examine(&tree.host(), Some(&open));
    assert_one(&found, Level::Warning, &["mod_php (DSO) runs PHP as nobody", "php.conf:4: ea-php81: dso"]);
    tree.write("/etc/apache2/conf.modules.d/400_mod_ruid2.conf", "");
    let found = examine(&tree.host(), Some(&open));
    assert!(!found.iter().any(|one| one.what.contains("mod_php")), "{found:#?}");
}

#[test]
fn processes_of_containers_are_not_this_hosts() {
    let tree = busy();
    tree.link("net:[1]", "/proc/self/ns/net");
    tree.link("net:[2]", "/proc/310/ns/net");
    let found = examine(&tree.host(), Some(&config("[deny]\nusers = []\n")));
    assert!(!found.iter().any(|one| one.what.contains("process")), "{found:#?}");
}

#[test]
fn mail_servers_are_found_by_program_process_and_listener() {
    let tree = busy();
    tree.program("/usr/sbin/exim4", 0o4755, "\x7fELF");
    tree.program("/usr/sbin/postfix", 0o755, "\x7fELF");
    tree.process(400, "exim4", 0, "/usr/sbin/exim4");
    let found = mtas::examine(&tree.host());
    assert_one(&found, Level::Ok, &["exim runs", "/usr/sbin/exim4", "exim4 (pid 400)"]);
    assert_one(&found, Level::Ok, &["postfix is installed and does not run"]);
    assert_one(&found, Level::Ok, &["from this host alone", "an unknown program on 127.0.0.1:25 as root"]);
    assert_eq!(of(&found, Level::Warning), [""; 0]);
    // Postfix's smtpd is not OpenSMTPD's.
    tree.process(500, "smtpd", 120, "/usr/lib/postfix/sbin/smtpd");
    let found = mtas::examine(&tree.host());
    assert_one(&found, Level::Warning, &["exim and postfix run at the same time"]);
    assert!(!found.iter().any(|one| one.what.contains("opensmtpd")), "{found:#?}");
    let found = mtas::examine(&Tree::new().host());
    assert_one(&found, Level::Ok, &["no mail server was found"]);
}

#[test]
fn a_name_alone_makes_no_mail_server_of_a_process() {
    let tree = Tree::new();
    tree.program("/usr/sbin/exim4", 0o4755, "\x7fELF");
    tree.program("/usr/lib/sm.bin/sendmail", 0o2755, "\x7fELF");
    tree.process(600, "exim4", 1001, "/usr/bin/sleep");
    tree.process(601, "sendmail", 1001, "/usr/bin/sleep");
    // What mail() of PHP starts where Exim is installed, and where Postfix is.
    tree.process(602, "sendmail", 1001, "/usr/sbin/exim4");
    tree.process(603, "sendmail", 0, "/usr/sbin/sendmail");
    let found = mtas::examine(&tree.host());
    assert_one(&found, Level::Ok, &["exim is installed and does not run"]);
    assert_one(&found, Level::Ok, &["sendmail is installed and does not run"]);
    assert_eq!(of(&found, Level::Warning), [""; 0], "{found:#?}");
    // Links are followed, and a program that was replaced is still its own.
    tree.link("/usr/lib/sm.bin/sendmail", "/usr/sbin/sendmail-mta");
    tree.process(604, "sendmail-mta", 0, "/usr/lib/sm.bin/sendmail (deleted)");
    assert_one(&mtas::examine(&tree.host()), Level::Ok, &["sendmail runs", "sendmail-mta (pid 604)"]);
}

#[test]
fn where_the_program_of_a_process_cannot_be_read_only_root_and_its_own_users_are_believed() {
    let tree = Tree::new();
    tree.write("/etc/passwd", format!("{PASSWD}postfix:x:120:120::/:/bin/false\n"));
    let hidden = |pid: u32, name: &str, uid: u32| {
        tree.process(pid, name, uid, "/nowhere");
        fs::remove_file(tree.path(&format!("/proc/{pid}/exe"))).expect("a link");
    };
    hidden(700, "exim4", 1001);
    hidden(701, "qmgr", 1001);
    assert_one(&mtas::examine(&tree.host()), Level::Ok, &["no mail server was found"]);
    hidden(702, "qmgr", 120);
    hidden(703, "exim4", 0);
    let found = mtas::examine(&tree.host());
    assert_one(&found, Level::Ok, &["postfix runs", "qmgr (pid 702)"]);
    assert_one(&found, Level::Ok, &["exim runs", "exim4 (pid 703)"]);
}

#[test]
fn a_mail_server_that_others_can_reach_is_worth_a_relay_check() {
    let tree = Tree::new();
    tree.write(
        "/proc/net/tcp",
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
         0: 00000000:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0 0 71 1 0000 100 0 0 10 0\n   \
         1: 0100007F:024B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0 0 72 1 0000 100 0 0 10 0\n   \
         2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0 0 73 1 0000 100 0 0 10 0\n",
    );
    let found = mtas::examine(&tree.host());
    assert_one(&found, Level::Ok, &["from other hosts", "0.0.0.0:25", "127.0.0.1:587", "relay-check"]);
    assert!(!found.iter().any(|one| one.evidence.iter().any(|line| line.contains(":80"))), "{found:#?}");
}

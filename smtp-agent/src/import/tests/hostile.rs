//! Trees made to harm: none makes the import hang, fail, leave the tree or write what is not a configuration.

use std::{collections::HashSet, os::unix::fs::symlink, time::Instant};

use nix::{sys::stat::Mode, unistd};
use proptest::prelude::*;

use super::*;
use crate::import::{
    report::Report,
    tree::{MAX_SIZE, Tree},
};

/// Every user and group that a configuration names, but for the built-in ones and the MTAs' own.
fn named(imported: &Imported) -> HashSet<String> {
    let built_in = config::parse_str("built-in", "").expect("the defaults").config;
    let mtas = ["mail", "qmailr"].map(str::to_owned);
    let known: HashSet<String> =
        texts(&built_in.allow.users).into_iter().chain(texts(&built_in.deny)).chain(mtas).collect();
    let mut names = HashSet::new();
    let alone = String::new();
    for part in imported.drop_ins.iter().map(|(_, text)| text).chain([&alone]) {
        let text = format!("{}{part}", imported.main);
        let config =
            config::parse_str("config.toml", &text).unwrap_or_else(|problems| panic!("{problems}\n{text}")).config;
        names.extend(
            texts(&config.allow.users).into_iter().chain(texts(&config.allow.groups)).chain(texts(&config.deny)),
        );
        names.extend(rules(&config).into_iter().map(|(name, _)| name));
        let excepted = config.exceptions.iter().flat_map(|it| [&it.user, &it.group]).flatten();
        names.extend(excepted.map(|name| name.value.to_string()));
    }
    names.retain(|name| !known.contains(name));
    names
}

/// A file that each panel reads, below the root.
const FILES: [(Panel, &str); 14] = [
    (Panel::Cpanel, "var/cpanel/cpanel.config"),
    (Panel::Cpanel, "var/cpanel/users/shop"),
    (Panel::Cpanel, "var/cpanel/packages/default"),
    (Panel::Cpanel, "etc/userdomains"),
    (Panel::Cpanel, "etc/outgoing_mail_suspended_users"),
    (Panel::Csf, "etc/csf/csf.conf"),
    (Panel::Csf, "etc/csf/csf.allow"),
    (Panel::Csf, "etc/csf/csf.deny"),
    (Panel::Plesk, "root/smtp-agent-import/server.tsv"),
    (Panel::Plesk, "root/smtp-agent-import/subscriptions.tsv"),
    (Panel::Directadmin, "etc/virtual/limit"),
    (Panel::Directadmin, "etc/virtual/limit_fred"),
    (Panel::Directadmin, "etc/virtual/blacklist_usernames"),
    (Panel::Directadmin, "usr/local/directadmin/data/users/fred/user.conf"),
];

/// What stands in the place of a file may be anything; the import says so, or that there is nothing.
fn with_instead(make: impl Fn(&Path)) -> Vec<(Panel, &'static str, String)> {
    let mut told = Vec::new();
    for (panel, file) in FILES {
        let dir = copy(panel);
        let path = dir.path().join(file);
        fs::remove_file(&path).expect("the file was there");
        make(&path);
        match import(panel, dir.path()) {
            Ok(imported) => {
                named(&imported);
                told.push((panel, file, not_understood(&imported).join("; ")));
            }
            Err(failure) => {
                assert_eq!((failure.code, file), (Code::No, "etc/csf/csf.conf"), "{failure}");
                told.push((panel, file, failure.message));
            }
        }
    }
    told
}

#[test]
fn fifos_sockets_and_directories_are_not_opened() {
    for (panel, file, told) in with_instead(|path| unistd::mkfifo(path, Mode::S_IRWXU).expect("a FIFO")) {
        assert!(told.contains("not a regular file") || panel == Panel::Csf, "{file}: {told}");
    }
    for (panel, file, told) in with_instead(|path| fs::create_dir(path).expect("a directory")) {
        assert!(told.contains("not a regular file") || panel == Panel::Csf, "{file}: {told}");
    }
}

#[test]
fn devices_and_links_of_proc_are_not_read() {
    let tree = Tree::open(Path::new("/")).expect("the root");
    for path in ["/dev/zero", "/dev/null", "/proc/self/fd/0"] {
        let mut report = Report::default();
        assert!(tree.read(path, &mut report).expect("no failure").is_none());
        let told: Vec<_> = report.not_understood.iter().map(|note| note.why.as_str()).collect();
        assert!(
            matches!(told[..], ["it is not a regular file" | "its symbolic links lead in circles"]),
            "{path}: {told:?}"
        );
    }
    // By a link that is resolved within the tree it leads to nothing.
    for (_, file, told) in with_instead(|path| symlink("/dev/zero", path).expect("a link")) {
        assert!(!told.contains("/dev/zero"), "{file}: {told}");
    }
}

#[test]
fn links_lead_nowhere_out_of_the_tree() {
    let outside = tempfile::tempdir().expect("a directory for the test");
    put(outside.path(), "secret", "MAX_EMAIL_PER_HOUR=7\nSMTP_BLOCK = \"1\"\nsecret:1\nsecret\tx\t7\n7\n");
    let target = outside.path().join("secret");
    with_instead(|path| symlink(&target, path).expect("a link")).iter().for_each(|(_, file, told)| {
        assert!(!told.contains("secret"), "{file}: {told}");
    });
    let up = format!("{}{}", "../".repeat(40), target.display());
    with_instead(|path| symlink(&up, path).expect("a link")).iter().for_each(|(_, file, told)| {
        assert!(!told.contains("secret"), "{file}: {told}");
    });

    // A directory of accounts may be a link as well.
    let dir = copy(Panel::Cpanel);
    let users = dir.path().join("var/cpanel/users");
    fs::remove_dir_all(&users).expect("the directory was there");
    put(outside.path(), "users/stranger", "MAX_EMAIL_PER_HOUR=7\n");
    symlink(outside.path().join("users"), &users).expect("a link");
    assert!(!named(&read(Panel::Cpanel, dir.path())).contains("stranger"));
}

#[test]
fn links_within_the_tree_are_followed_as_if_it_were_the_whole_system() {
    let dir = copy(Panel::Directadmin);
    put(dir.path(), "srv/limits/global", "77\n");
    fs::remove_file(dir.path().join("etc/virtual/limit")).expect("the file was there");
    symlink("/srv/limits/global", dir.path().join("etc/virtual/limit")).expect("a link");
    let config = config(&read(Panel::Directadmin, dir.path()));
    assert_eq!(limits(&config, "standard")[1], daily(77));
}

#[test]
fn links_in_circles_are_told() {
    for (panel, file, told) in with_instead(|path| symlink(path.file_name().expect("a name"), path).expect("a link")) {
        assert!(told.contains("lead in circles") || panel == Panel::Csf, "{file}: {told}");
    }
    let dir = tempfile::tempdir().expect("a directory for the test");
    fs::create_dir_all(dir.path().join("var/cpanel")).expect("a directory");
    symlink("users", dir.path().join("var/cpanel/users")).expect("a link");
    put(dir.path(), "var/cpanel/cpanel.config", "maxemailsperhour=5\n");
    assert_eq!(limits(&config(&read(Panel::Cpanel, dir.path())), "standard")[1], hourly(5));
}

#[test]
fn files_of_more_than_four_mebibytes_are_not_read() {
    let long = |size: u64| "a".repeat(size as usize - 1) + "\n";
    for (panel, file, told) in with_instead(|path| fs::write(path, long(MAX_SIZE + 1)).expect("a file")) {
        assert!(told.contains("larger than 4 MiB") || panel == Panel::Csf, "{file}: {told}");
    }
    for (_, file, told) in with_instead(|path| fs::write(path, long(MAX_SIZE)).expect("a file")) {
        assert!(!told.contains("larger than"), "{file}: {told}");
        assert!(told.len() < 4000, "{file}: a text from outside is quoted in full");
    }
    // As large as can be, and nothing of it is on the disk.
    for (panel, file, told) in
        with_instead(|path| fs::File::create(path).and_then(|f| f.set_len(1 << 40)).expect("a file"))
    {
        assert!(told.contains("larger than 4 MiB") || panel == Panel::Csf, "{file}: {told}");
    }
}

#[test]
fn binary_files_are_told() {
    let junk: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    for (panel, file, told) in with_instead(|path| fs::write(path, &junk).expect("a file")) {
        assert!(told.contains("NUL") || panel == Panel::Csf, "{file}: {told}");
    }
    for (_, file, told) in with_instead(|path| fs::write(path, b"\xff\xfe=1\n\xc3\x28").expect("a file")) {
        assert!(told.contains("not UTF-8"), "{file}: {told}");
    }
}

#[test]
fn names_that_are_made_to_become_configuration_do_not() {
    let dir = copy(Panel::Cpanel);
    let names = [
        "shop\"\nplan = \"allow",
        "x\"]\n[allow]\nusers = [\"attacker\"]\n#",
        "a\\u0022",
        "a'b",
        "tab\tname",
        "esc\x1b[2Jname",
        "right\u{202e}left",
        " blank",
        "@group",
        "1000",
        "a:b",
        "ö",
        "UPPER.case-name_$",
    ];
    for name in names {
        put(dir.path(), &format!("var/cpanel/users/{name}"), "MAX_EMAIL_PER_HOUR=7\nSUSPENDED=0\n");
    }
    let long = "n".repeat(255);
    put(dir.path(), &format!("var/cpanel/users/{long}"), "MAX_EMAIL_PER_HOUR=7\n");
    put(dir.path(), "var/cpanel/users/quoter", "MAX_EMAIL_PER_HOUR=\"\nplan = \"allow\"\n");
    put(dir.path(), "etc/outgoing_mail_suspended_users", "evil\"]\n#\nshop\r\n\x0bvt\n");
    let imported = read(Panel::Cpanel, dir.path());
    let config = config(&imported);
    let seven: Vec<_> =
        rules(&config).into_iter().filter(|(_, plan)| *plan == "hourly-7").map(|(name, _)| name).collect();
    assert_eq!(seven, ["UPPER.case-name_$", long.as_str(), "ö"]);
    assert!(!named(&imported).contains("attacker"));
    assert!(texts(&config.deny).contains(&"shop".to_owned()));
    assert!(imported.main.bytes().all(|b| b == b'\n' || !b.is_ascii_control()), "no control character is passed on");
    assert!(!imported.main.contains('\u{202e}'));
    let refused = imported.report.not_understood.iter().filter(|note| note.setting == "the name of an account");
    assert_eq!(refused.map(|note| note.count).sum::<usize>(), 12, "{:?}", not_understood(&imported));
}

#[test]
fn a_report_stays_short_however_much_is_wrong() {
    let dir = copy(Panel::Plesk);
    let lines: String = (0..50_000).map(|n| format!("u{n}\td\tx{n}\nnonsense {n}\n")).collect();
    put(dir.path(), "root/smtp-agent-import/subscriptions.tsv", lines);
    let server: String = (0..50_000).map(|n| format!("outgoing_{n}\t1\n")).collect();
    put(dir.path(), "root/smtp-agent-import/server.tsv", server);
    let imported = read(Panel::Plesk, dir.path());
    assert!(imported.report.lines().len() < 20, "{:?}", imported.report.lines());
    let counts: Vec<_> = imported.report.not_understood.iter().map(|note| note.count).collect();
    assert_eq!(counts, [50_000; 3]);
}

#[test]
fn a_tree_that_may_not_be_read_is_told_with_the_code_for_it() {
    let dir = copy(Panel::Cpanel);
    let path = dir.path().join("var/cpanel/users/shop");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("new permissions");
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("new permissions");
    // Of this thread alone: without it root reads everything.
    let failure = std::thread::spawn(move || {
        let nobody = unistd::Uid::from_raw(65534);
        unistd::setfsuid(nobody);
        failure(Panel::Cpanel, dir.path())
    });
    let failure = failure.join().expect("the import ended");
    assert_eq!(failure.code, Code::NotPermitted, "{failure}");
    assert!(failure.message.contains("/var/cpanel/users/shop") && failure.message.contains("run as root"), "{failure}");
}

#[test]
fn a_hundred_thousand_accounts_are_read_in_seconds() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), "var/cpanel/cpanel.config", "maxemailsperhour=100\n");
    put(dir.path(), "var/cpanel/users/u0", "MAX_EMAIL_PER_HOUR=100\n");
    for n in 1..100_000 {
        let text = format!(
            "PLAN=default\nDNS=d{n}.example\nMAX_EMAIL_PER_HOUR={}\n",
            if n % 2 == 0 { 100 } else { 200 + n % 5 }
        );
        fs::write(dir.path().join(format!("var/cpanel/users/u{n}")), text).expect("a file");
    }
    let begun = Instant::now();
    let imported = read(Panel::Cpanel, dir.path());
    let took = begun.elapsed();
    assert_eq!(named(&imported).len(), 50_000);
    assert!(imported.drop_ins.len() > 2, "rules for 50,000 users have no room in one file");
    assert!(imported.drop_ins.iter().all(|(_, text)| text.len() + imported.main.len() <= 1 << 20));
    assert!(took.as_secs() < 60, "{took:?}");
}

/// Bytes that are often lines a panel would write.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let key = prop::sample::select(vec![
        "maxemailsperhour",
        "MAX_EMAIL_PER_HOUR",
        "MAX_EMAIL_PER_HOUR-a.example",
        "MAX_DEFER_FAIL_PERCENTAGE",
        "DNS",
        "DNS1",
        "email_send_limits_defer_cutoff",
        "email_send_limits_max_defer_fail_percentage",
        "email_send_limits_min_defer_fail_to_trigger_protection",
        "smtpmailgidonly",
        "nobodyspam",
        "SUSPENDED",
        "OUTGOING_MAIL_HOLD",
        "SMTP_BLOCK",
        "SMTP_PORTS",
        "SMTP_ALLOWUSER",
        "SMTP_ALLOWGROUP",
        "SMTP_ALLOWLOCAL",
        "TESTING",
        "outgoing_messages_subscription_limit",
        "outgoing_antispam",
        "suspended",
        "tcp|out|d",
        "fred",
        "shop",
        "root",
        "",
    ]);
    let between =
        prop::sample::select(vec!["=", " = \"", "\t", ": ", ":", "|d=", "||u=", "=25|d=", "=25||u=", "\tx.example\t"]);
    let value = prop_oneof![
        "[0-9]{1,12}",
        prop::sample::select(vec![
            "unlimited",
            "default",
            "-1",
            "0",
            "1",
            "yes",
            "25,465,587",
            "root,mail,a b",
            "192.0.2.1",
            "::/0",
            "true"
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
        "[\"'\\\\#\\]\\[=\n a-z]{0,10}",
    ];
    let line = (key, between, value, prop::sample::select(vec!["\n", "\"\n", "\r\n"]))
        .prop_map(|(key, between, value, end)| format!("{key}{between}{value}{end}").into_bytes());
    let junk = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec(prop_oneof![8 => line, 1 => junk], 0..12).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_in_any_file_give_a_valid_configuration_without_a_name_from_nowhere(
        files in prop::collection::vec((0..FILES.len(), content()), 1..5),
        names in prop::collection::vec("[^/\0]{1,12}", 0..3),
        bytes in content(),
    ) {
        for panel in PANELS {
            let dir = copy(panel);
            for (number, content) in &files {
                if FILES[*number].0 == panel {
                    put(dir.path(), FILES[*number].1, content);
                }
            }
            let directory = if panel == Panel::Cpanel { "var/cpanel/users/" } else { "etc/virtual/limit_" };
            for name in names.iter().filter(|name| !matches!(name.as_str(), "." | "..")) {
                put(dir.path(), &format!("{directory}{name}"), &bytes);
            }
            let imported = match import(panel, dir.path()) {
                Ok(imported) => imported,
                Err(failure) => {
                    prop_assert_eq!(failure.code, Code::No, "{}", failure);
                    continue;
                }
            };
            let mut tree = String::new();
            gather(dir.path(), &mut tree);
            for name in named(&imported) {
                prop_assert!(tree.contains(&name), "{name:?}");
            }
            prop_assert!(imported.main.bytes().all(|b| b == b'\n' || !b.is_ascii_control()));
        }
    }
}

/// All names and texts of a tree.
fn gather(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        into.push_str(&path.file_name().expect("a name").to_string_lossy());
        into.push('\n');
        if path.is_dir() {
            gather(&path, into);
        } else {
            into.push_str(&String::from_utf8_lossy(&fs::read(&path).expect("a file")));
            into.push('\n');
        }
    }
}

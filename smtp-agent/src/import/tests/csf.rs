//! CSF's settings and what they become.

use super::*;

const CONFIG: &str = "etc/csf/csf.conf";

#[test]
fn the_sample_becomes_a_configuration_that_says_the_same() {
    let imported = read(Panel::Csf, &fixture(Panel::Csf));
    let config = config(&imported);
    assert_eq!(config.ports, [25, 465, 587, 2525]);
    assert_eq!((config.default_plan, config.plans.len(), config.rules.len()), (PlanRef::Deny, 0, 0));
    let users = ["root", "exim", "Debian-exim", "mailnull", "mailman", "list", "postfix", "cpanel", "backup"];
    assert_eq!(texts(&config.allow.users), users);
    assert_eq!(texts(&config.allow.groups), ["mail", "mailman"]);
    assert_eq!(config.deny, []);
    assert_eq!(
        exceptions(&config),
        [
            "- - 192.0.2.1/32 [25, 587] true",
            "- - 2001:db8:25::/48 [465] true",
            "1001 -  [25] true",
            "- newsletter  [587] true",
            "- - 198.51.100.25/32 [25] false",
        ]
    );
    assert!(line(&imported, "ports = [25, 465, 587, 2525]").ends_with("# /etc/csf/csf.conf:12: SMTP_PORTS"));
    assert!(line(&imported, "to = \"192.0.2.1\"").ends_with("# /etc/csf/csf.allow:5: tcp|out|d=25,587|d=192.0.2.1"));
    assert!(line(&imported, "\"backup\",").ends_with("# /etc/csf/csf.conf:13: SMTP_ALLOWUSER"));
}

#[test]
fn what_csf_does_and_smtp_agent_does_not_is_told() {
    let imported = read(Panel::Csf, &fixture(Panel::Csf));
    assert_eq!(
        no_equivalent(&imported),
        [
            "SMTP_ALLOWGROUP*1",
            "SMTP_REDIRECT*1",
            "an address without a port*1",
            "an address without a port*1",
            "LF_SCRIPT_LIMIT = 100*1",
            "RT_LOCALRELAY_LIMIT = 150*1",
            "RT_RELAY_LIMIT = 100*1",
            "LF_QUEUE_ALERT = 2000*1",
            "UID_LIMIT = 10*1",
            "RT_ACTION*1",
            "RT_…_BLOCK*1",
            "containers*1",
        ]
    );
    assert_eq!(not_understood(&imported), ["Include*1: files that are included are not read"]);
}

#[test]
fn without_smtp_block_nobody_is_stopped_and_nobody_exempt() {
    let dir = copy(Panel::Csf);
    edit(dir.path(), CONFIG, "SMTP_BLOCK = \"1\"", "SMTP_BLOCK = \"0\"");
    let config = config(&read(Panel::Csf, dir.path()));
    assert_eq!((config.default_plan, config.exceptions.len()), (PlanRef::Allow, 0));
    assert!(!texts(&config.allow.users).contains(&"cpanel".to_owned()));
}

#[test]
fn a_closed_loopback_and_other_oddities_are_told() {
    let dir = copy(Panel::Csf);
    edit(dir.path(), CONFIG, "SMTP_ALLOWLOCAL = \"1\"", "SMTP_ALLOWLOCAL = \"0\"");
    edit(dir.path(), CONFIG, "SMTP_PORTS = \"25,465,587,2525\"", "SMTP_PORTS = \"25, 25,70000,0,x\"");
    edit(dir.path(), CONFIG, "SMTP_ALLOWUSER = \"cpanel,backup\"", "SMTP_ALLOWUSER = \"a b,root,c:d,,1000\"");
    edit(dir.path(), CONFIG, "TESTING = \"0\"", "TESTING = \"1\"\nbroken line\nALSO = broken");
    let imported = read(Panel::Csf, dir.path());
    let config = config(&imported);
    assert_eq!(config.ports, [25]);
    assert!(texts(&config.allow.users).contains(&"a b".to_owned()), "blanks within a name are possible");
    let told = no_equivalent(&imported);
    for setting in ["SMTP_ALLOWLOCAL = 0*1", "TESTING = 1*1"] {
        assert!(told.contains(&setting.to_owned()), "{told:?}");
    }
    assert_eq!(
        not_understood(&imported),
        [
            "a line*2: not of the form KEY = \"VALUE\"",
            "a port in SMTP_PORTS*3: not a port from 1 to 65535, or more than 32 of them",
            "a name in SMTP_ALLOWUSER*1: it has a character that names of users do not have",
            "a name in SMTP_ALLOWUSER*1: a name of digits alone would be taken for a uid",
            "Include*1: files that are included are not read",
        ]
    );
}

#[test]
fn a_setting_that_is_there_twice_has_its_later_value() {
    let dir = copy(Panel::Csf);
    edit(dir.path(), CONFIG, "SMTP_BLOCK = \"1\"", "SMTP_BLOCK = \"1\"\nSMTP_BLOCK = \"0\"");
    assert_eq!(config(&read(Panel::Csf, dir.path())).default_plan, PlanRef::Allow);
}

//! DirectAdmin's settings and what they become.

use super::*;

#[test]
fn the_sample_becomes_a_configuration_that_says_the_same() {
    let imported = read(Panel::Directadmin, &fixture(Panel::Directadmin));
    let config = config(&imported);
    assert_eq!(config.plan_name(config.default_plan), "standard");
    assert_eq!(limits(&config, "standard"), [daily(200); 3]);
    assert_eq!((config.plans[0].soft_percent, config.plans[0].local), (100, true));
    assert_eq!(
        rules(&config),
        [("fred".to_owned(), "daily-1000")],
        "betty has what everyone has, the others are denied"
    );
    assert_eq!(limits(&config, "daily-1000"), [daily(1000); 3]);
    assert_eq!(texts(&config.deny), ["pebbles", "bambam", "barney", "wilma"]);
    assert!(texts(&config.allow.users).contains(&"mail".to_owned()), "Exim's user there");
    assert!(line(&imported, "plan = \"standard\"").ends_with("# /etc/virtual/limit:1: 200"));
    assert!(
        line(&imported, "\"bambam\",")
            .ends_with("# /etc/virtual/blacklist_script_usernames:1: his scripts may not send")
    );
}

#[test]
fn what_directadmin_does_and_smtp_agent_does_not_is_told() {
    let imported = read(Panel::Directadmin, &fixture(Panel::Directadmin));
    assert_eq!(
        no_equivalent(&imported),
        [
            "email_limit in user.conf*1",
            "user_limit, the limit of a mailbox*1",
            "a login that may not send*1",
            "the limit of a mailbox*2",
            "max_per_email_send_limit*1",
            "user_can_set_email_limit*1",
            "mail that clients hand in with a password (SMTP AUTH)*1",
            "a day*1",
            "an account that reached its limit*1",
            "users of the host who are no accounts of the panel*1",
        ]
    );
    assert_eq!(not_understood(&imported), Vec::<String>::new());
}

#[test]
fn a_limit_of_zero_is_none() {
    let dir = copy(Panel::Directadmin);
    put(dir.path(), "etc/virtual/limit", "0\n");
    fs::remove_file(dir.path().join("usr/local/directadmin/data/users/wilma/user.conf")).expect("the file was there");
    let config = config(&read(Panel::Directadmin, dir.path()));
    assert_eq!(config.default_plan, PlanRef::Allow);
    let names = [("betty", "daily-200"), ("fred", "daily-1000")].map(|(name, plan)| (name.to_owned(), plan));
    assert_eq!(rules(&config), names, "wilma has no limit, like everyone");
}

#[test]
fn a_limit_that_is_no_number_leaves_that_of_everyone() {
    let dir = copy(Panel::Directadmin);
    put(dir.path(), "etc/virtual/limit_fred", "lots\n");
    put(dir.path(), "etc/virtual/limit_betty", "");
    let imported = read(Panel::Directadmin, dir.path());
    assert_eq!(rules(&config(&imported)), []);
    assert_eq!(
        not_understood(&imported),
        ["a limit*1: the file holds no number", "a limit*1: not a whole number: the limit of everyone else holds"]
    );
}

#[test]
fn the_mta_is_never_denied_because_a_panel_lists_it() {
    let dir = copy(Panel::Directadmin);
    put(dir.path(), "etc/virtual/blacklist_usernames", "root:1\nmailnull:2\npebbles:3\n");
    let imported = read(Panel::Directadmin, dir.path());
    assert_eq!(texts(&config(&imported).deny), ["pebbles", "bambam", "barney", "wilma"]);
    assert!(
        no_equivalent(&imported).iter().any(|it| it.starts_with("denying root (/etc/virtual/blacklist_usernames:1"))
    );
}

//! cPanel's settings and what they become.

use super::*;

const CONFIG: &str = "var/cpanel/cpanel.config";

#[test]
fn the_sample_becomes_a_configuration_that_says_the_same() {
    let imported = read(Panel::Cpanel, &fixture(Panel::Cpanel));
    let config = config(&imported);
    assert_eq!(config.plan_name(config.default_plan), "standard");
    assert_eq!(limits(&config, "standard"), [hourly(100), hourly(100), Quota::default()]);
    let standard = &config.plans[0];
    let brake = standard.brake.map(|brake| (brake.max_failed_percent, brake.min_failed));
    assert_eq!((standard.soft_percent, brake, standard.local), (150, Some((40, 8)), true));
    assert_eq!(
        rules(&config),
        [
            ("waits".to_owned(), "deny"),
            ("agency".to_owned(), "hourly-300"),
            ("careful".to_owned(), "hourly-100-failed-10"),
            ("press".to_owned(), "allow"),
            ("shop".to_owned(), "hourly-1250"),
        ]
    );
    assert_eq!(limits(&config, "hourly-1250"), [hourly(1250), hourly(1250), Quota::default()]);
    assert_eq!(texts(&config.deny), ["nobody", "gone", "spammer"]);
    assert_eq!(
        texts(&config.allow.users),
        ["root", "exim", "Debian-exim", "mailnull", "mailman", "list", "postfix"],
        "what a configuration without [allow] says"
    );
    assert_eq!(exceptions(&config), Vec::<String>::new());
}

#[test]
fn each_line_of_the_sample_names_the_file_and_the_line_it_comes_from() {
    let imported = read(Panel::Cpanel, &fixture(Panel::Cpanel));
    let place = |key: &str| {
        let text = fs::read_to_string(fixture(Panel::Cpanel).join(CONFIG)).expect("the sample");
        let number = text.lines().position(|line| line.starts_with(&format!("{key}="))).expect("the key") + 1;
        format!("/var/cpanel/cpanel.config:{number}: {key}=")
    };
    let standard = imported.main.split("\n\n").find(|part| part.starts_with("[plan.standard]")).expect("the plan");
    for (key, value, setting) in [
        ("messages_per_hour", 100, "maxemailsperhour"),
        ("soft_percent", 150, "email_send_limits_defer_cutoff"),
        ("max_failed_percent", 40, "email_send_limits_max_defer_fail_percentage"),
        ("min_failed", 8, "email_send_limits_min_defer_fail_to_trigger_protection"),
    ] {
        let wanted = format!("\n{key} = {value}  # {}{value}\n", place(setting));
        assert!(standard.contains(&wanted), "{wanted:?} in {standard}");
    }
    assert!(line(&imported, "\"nobody\",").ends_with(&format!("{}1", place("nobodyspam"))));
    assert!(line(&imported, "\"gone\",").ends_with("# /var/cpanel/users/gone:14: SUSPENDED=1"));
    assert!(line(&imported, "plan = \"hourly-1250\"").ends_with(
        "# 1250, the sum over 2 domains, 1 with a limit of its own \
         (/var/cpanel/users/shop:14: MAX_EMAIL_PER_HOUR=250; /var/cpanel/users/shop)"
    ));
    assert!(line(&imported, "plan = \"hourly-300\"").contains("# 300, the sum over 3 domains ("));
    assert!(line(&imported, "plan = \"hourly-100-failed-10\"").contains("MAX_DEFER_FAIL_PERCENTAGE=10"));
}

#[test]
fn what_cpanel_does_and_smtp_agent_does_not_is_told() {
    let imported = read(Panel::Cpanel, &fixture(Panel::Cpanel));
    assert_eq!(
        no_equivalent(&imported),
        [
            "email_outbound_spam_detect_action*1",
            "email_outbound_spam_detect_threshold*1",
            "email_send_limits_count_mailman*1",
            "emailsperdaynotify*1",
            "MAX_EMAIL_PER_HOUR-DOMAIN*1",
            "a mailbox that may not send*1",
            "MAX_DEFER_FAIL_PERCENTAGE of a package*1",
            "MAX_EMAIL_PER_HOUR of a package*1",
            "mail that clients hand in with a password (SMTP AUTH)*1",
            "messages above the limit*1",
            "an hour*1",
            "users of the host who are no accounts of the panel*1",
        ]
    );
    assert_eq!(not_understood(&imported), Vec::<String>::new());
    assert_eq!(imported.report.missing, ["/var/cpanel/smtpgidonlytweak"]);
}

#[test]
fn without_limits_everyone_may_send() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), CONFIG, "maxemailsperhour\nnobodyspam=0\nsmtpmailgidonly=0\n");
    let imported = read(Panel::Cpanel, dir.path());
    let config = config(&imported);
    assert_eq!((config.default_plan, config.plans.len(), config.rules.len()), (PlanRef::Allow, 0, 0));
    assert_eq!(config.deny, [], "nobodyspam is off");
}

#[test]
fn smtp_restrictions_alone_leave_only_the_mta() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), CONFIG, "maxemailsperhour=\nsmtpmailgidonly=1\n");
    let config = config(&read(Panel::Cpanel, dir.path()));
    assert_eq!((config.default_plan, config.exceptions.len()), (PlanRef::Deny, 0));
    assert_eq!(texts(&config.deny), ["nobody"], "denied unless nobodyspam says otherwise");
}

#[test]
fn smtp_restrictions_stand_beside_limits_of_what_is_handed_to_the_mta() {
    let dir = copy(Panel::Cpanel);
    edit(dir.path(), CONFIG, "smtpmailgidonly=0", "smtpmailgidonly=1");
    let config = config(&read(Panel::Cpanel, dir.path()));
    assert_eq!(config.plan_name(config.default_plan), "standard");
    assert_eq!(exceptions(&config), ["- -  [25, 465, 587] false"]);
    assert_eq!(config.rules.len(), 5);
}

#[test]
fn the_file_that_whm_touches_turns_restrictions_on_as_well() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), CONFIG, "maxemailsperhour=\n");
    put(dir.path(), "var/cpanel/smtpgidonlytweak", "");
    let imported = read(Panel::Cpanel, dir.path());
    assert_eq!(config(&imported).default_plan, PlanRef::Deny);
    assert!(line(&imported, "plan = \"deny\"").contains("/var/cpanel/smtpgidonlytweak: SMTP Restrictions are on"));
}

#[test]
fn a_brake_without_a_limit_is_a_plan_too() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), CONFIG, "email_send_limits_max_defer_fail_percentage=60\n");
    let config = config(&read(Panel::Cpanel, dir.path()));
    let brake = config.plans[0].brake.map(|brake| (brake.max_failed_percent, brake.min_failed));
    assert_eq!((config.plan_name(config.default_plan), brake), ("standard", Some((60, 5))));
}

#[test]
fn an_account_without_a_list_of_domains_has_those_its_file_names() {
    let dir = copy(Panel::Cpanel);
    fs::remove_file(dir.path().join("etc/userdomains")).expect("the file was there");
    let imported = read(Panel::Cpanel, dir.path());
    assert!(rules(&config(&imported)).contains(&("agency".to_owned(), "hourly-300")));
    assert!(imported.report.missing.contains(&"/etc/userdomains".to_owned()));
}

#[test]
fn values_no_panel_would_write_leave_the_higher_level_in_force() {
    let dir = copy(Panel::Cpanel);
    edit(dir.path(), "var/cpanel/users/careful", "MAX_EMAIL_PER_HOUR=100", "MAX_EMAIL_PER_HOUR=-5");
    edit(dir.path(), "var/cpanel/users/careful", "PERCENTAGE=10", "PERCENTAGE=1e3");
    edit(dir.path(), "var/cpanel/users/press", "HOUR=unlimited", "HOUR=99999999999999999999");
    edit(dir.path(), CONFIG, "defer_cutoff=150", "defer_cutoff=20000");
    let imported = read(Panel::Cpanel, dir.path());
    let config = config(&imported);
    assert_eq!(config.plans[0].soft_percent, 1000);
    assert!(!rules(&config).iter().any(|(name, _)| name == "careful"), "as the server: no rule");
    assert_eq!(limits(&config, "hourly-1000000000-failed-any")[1], hourly(1_000_000_000));
    assert_eq!(
        not_understood(&imported),
        [
            "MAX_DEFER_FAIL_PERCENTAGE*1: not a number, \"unlimited\" or \"default\": the server's value holds",
            "MAX_EMAIL_PER_HOUR*1: not a number, \"unlimited\" or \"default\": the server's value holds",
        ]
    );
}

#[test]
fn an_account_with_the_name_of_an_mta_does_not_take_its_exemption() {
    let dir = copy(Panel::Cpanel);
    put(dir.path(), "var/cpanel/users/mailnull", "MAX_EMAIL_PER_HOUR=5\n");
    let imported = read(Panel::Cpanel, dir.path());
    let config = config(&imported);
    assert!(texts(&config.allow.users).contains(&"mailnull".to_owned()));
    assert!(!rules(&config).iter().any(|(name, _)| name == "mailnull"));
    assert!(config.plans.iter().all(|plan| plan.name != "hourly-5"), "a plan of nobody");
    let told = no_equivalent(&imported);
    assert!(told.iter().any(|it| it.starts_with("the limit of mailnull (/var/cpanel/users/mailnull:1")), "{told:?}");
}

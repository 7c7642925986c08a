//! Plesk's exported settings and what they become.

use super::*;

const SERVER: &str = "root/smtp-agent-import/server.tsv";
const SUBSCRIPTIONS: &str = "root/smtp-agent-import/subscriptions.tsv";

#[test]
fn the_sample_becomes_a_configuration_that_says_the_same() {
    let imported = read(Panel::Plesk, &fixture(Panel::Plesk));
    let config = config(&imported);
    assert_eq!(config.plan_name(config.default_plan), "standard");
    assert_eq!(limits(&config, "standard"), [hourly(200), hourly(200), Quota::default()]);
    assert_eq!((config.plans[0].soft_percent, config.plans[0].local), (100, true));
    let wanted = [("shop_sys", "hourly-1000"), ("news_sys", "allow"), ("shop2_sys", "hourly-1000")];
    assert_eq!(rules(&config), wanted.map(|(name, plan)| (name.to_owned(), plan)));
    assert_eq!(texts(&config.deny), ["old_sys"], "0 forbids sending");
    assert!(
        line(&imported, "\"old_sys\",")
            .ends_with("# /root/smtp-agent-import/subscriptions.tsv:4: old_sys old.example 0")
    );
    assert_eq!(
        no_equivalent(&imported)[..2],
        ["outgoing_messages_mbox_limit*1", "outgoing_messages_enable_sendmail*1"]
    );
    assert_eq!(
        not_understood(&imported),
        ["a setting*1: none of those this import knows", "a line*1: not of the form USER, tab, DOMAIN, tab, LIMIT"]
    );
}

#[test]
fn an_installed_plesk_without_exports_is_told_how_to_make_them() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), "etc/psa/psa.conf", "PRODUCT_ROOT_D /usr/local/psa\n");
    let failure = failure(Panel::Plesk, dir.path());
    assert_eq!(failure.code, Code::No);
    assert!(
        failure.message.contains("plesk db -Ne") && failure.message.contains(&format!("/{SUBSCRIPTIONS}")),
        "{failure}"
    );
}

#[test]
fn switched_off_limits_hold_nobody() {
    let dir = copy(Panel::Plesk);
    edit(dir.path(), SERVER, "outgoing_antispam\ttrue", "outgoing_antispam\tfalse");
    let config = config(&read(Panel::Plesk, dir.path()));
    assert_eq!((config.default_plan, config.plans.len(), config.rules.len()), (PlanRef::Allow, 0, 0));
}

#[test]
fn names_may_be_spelled_as_on_plesks_command_line() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    put(dir.path(), SERVER, "outgoing-messages-subscription-limit\t75\n");
    let config = config(&read(Panel::Plesk, dir.path()));
    assert_eq!(limits(&config, "standard")[1], hourly(75));
}

#[test]
fn a_user_who_is_there_twice_keeps_his_first_limit() {
    let dir = copy(Panel::Plesk);
    put(dir.path(), SUBSCRIPTIONS, "a\tx\t5\na\ty\t6\na\tz\t5\nb\tx\tmany\n");
    let imported = read(Panel::Plesk, dir.path());
    assert_eq!(rules(&config(&imported)), [("a".to_owned(), "hourly-5")]);
    let told = not_understood(&imported);
    assert!(told.contains(&"a second limit*1: the user has one already, which holds".to_owned()), "{told:?}");
    assert!(told.iter().any(|it| it.starts_with("the limit of a subscription*1: not a number")), "{told:?}");
}

//! What is typed at three in the morning must be right.

use super::{stop::commands, *};
use crate::attribution::culprit::{Container, Origin, Script};

fn account(kind: u32, name: &str) -> Account {
    Account { id: 1, name: name.into(), kind, uid: 1000, first: 0, last: 0 }
}

fn running(pid: u32, alive: Option<bool>) -> Running {
    Running { pid, started: None, seen: "2026-11-20T03:00:00Z".into(), alive }
}

fn shown(account: &Account, culprit: &Culprit, processes: &[Running]) -> Vec<String> {
    commands(account, culprit, processes).into_iter().map(|stop| stop.command).collect()
}

#[test]
fn only_processes_that_are_the_same_are_killed() {
    let shop = account(kind::USER, "shop");
    let processes = [running(7, Some(true)), running(8, Some(false)), running(9, Some(true)), running(10, None)];
    assert_eq!(
        shown(&shop, &Culprit::default(), &processes),
        ["smtp-agent block shop --for 2h --reason 'mail flood'", "kill 7 9"]
    );
    let unsure = shown(&shop, &Culprit::default(), &[running(8, Some(false)), running(10, None)]);
    assert_eq!(unsure[1..], ["ps -o lstart=,user=,args= -p 10"]);
    assert_eq!(shown(&shop, &Culprit::default(), &[running(8, Some(false))]).len(), 1);
}

#[test]
fn what_started_it_is_stopped_at_its_source() {
    let shop = account(kind::USER, "shop");
    let of = |culprit: Culprit| shown(&shop, &culprit, &[]).split_off(1);
    let origin = |kind: &str, name: &str| Some(Origin { kind: kind.into(), name: name.into() });
    let unit = |unit: &str| Culprit { unit: Some(unit.into()), ..Culprit::default() };
    let cron = Culprit { origin: origin("cron", "shop"), ..unit("cron.service") };
    assert_eq!(of(cron), ["crontab -u shop -e"], "never cron itself");
    assert_eq!(of(unit("session-3.scope")), ["loginctl terminate-session -- 3"]);
    assert_eq!(of(unit("php8.2-fpm.service")), ["systemctl stop -- php8.2-fpm.service"]);
    let docker = Container { id: "4f2c".repeat(16), name: Some("web".into()) };
    let culprit = Culprit { container: Some(docker), ..unit("docker-4f2c.scope") };
    assert_eq!(
        shown(&account(kind::CGROUP, "container:docker-4f2c"), &culprit, &[]),
        ["smtp-agent block container:docker-4f2c --for 2h --reason 'mail flood'", "docker stop -- web"]
    );
}

#[test]
fn nobody_can_have_a_command_of_his_own_pasted() {
    let evil = account(kind::USER, "x; rm -rf ~ '");
    let unit = Culprit { unit: Some("a$(reboot).service".into()), ..Culprit::default() };
    let [block, stop] = &shown(&evil, &unit, &[])[..] else { panic!() };
    assert_eq!(block, r"smtp-agent block 'x; rm -rf ~ '\''' --for 2h --reason 'mail flood'");
    assert_eq!(stop, "systemctl stop -- 'a$(reboot).service'");
}

#[test]
fn kernel_threads_cannot_be_blocked() {
    assert_eq!(shown(&account(kind::KERNEL, "kernel"), &Culprit::default(), &[]), [""; 0]);
}

#[test]
fn evidence_says_what_is_certain_and_what_is_not() {
    let script = |how: &str| Some(Script { path: "/x.php".into(), how: how.into() });
    let of = |culprit: Culprit| evidence(&culprit, "php").join("\n");
    let exe = || Some("/usr/bin/php".to_owned());
    assert!(
        of(Culprit { exe: exe(), script: script(how::ARGUMENT), ..Culprit::default() })
            .contains("stands in the command")
    );
    assert!(
        of(Culprit { exe: exe(), script: script(how::DIRECTORY), ..Culprit::default() }).contains("only the directory")
    );
    assert!(of(Culprit { exe: exe(), exe_deleted: true, ..Culprit::default() }).contains("was deleted"));
    let memfd = Some("/memfd:bot".to_owned());
    assert!(of(Culprit { exe: memfd, exe_deleted: true, ..Culprit::default() }).contains("executed from memory"));
    let unknown = of(Culprit::default());
    assert!(unknown.contains("unknown") && unknown.contains("\"php\""), "{unknown}");
}

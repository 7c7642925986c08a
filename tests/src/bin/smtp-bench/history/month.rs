//! A month of a shared host, made up: the same each time, with few who send much and many who send little.

use smtp_agent::{
    attribution::{
        Culprit,
        culprit::{Ancestor, Origin, Script},
    },
    store::{Attempt, Counter, CounterId, Record, SessionEnd, Target, Who, record::what},
};
use smtp_common::{
    connection::{Route, kind},
    counter::{Reason, Verdict},
    tally::SessionOutcome,
};
use std::{net::IpAddr, sync::Arc};

const USERS: u64 = 500;
const SCRIPTS: u64 = 8;
const SERVERS: u64 = 20_000;
const LENGTH: i64 = 31 * 86_400_000;

/// Numbers that look drawn (splitmix64, Steele and others 2014).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// Few numbers often, many seldom.
fn skewed(random: u64, most: u64) -> u64 {
    let part = (random % 1_000_000) as f64 / 1e6;
    ((part * part * part) * most as f64) as u64
}

pub(crate) struct Month {
    pub(crate) end: i64,
    culprits: Vec<Arc<Culprit>>,
}

fn name(user: u64) -> String {
    format!("user{user:03}")
}

impl Month {
    pub(crate) fn until(end: i64) -> Self {
        let culprits = (0..USERS * SCRIPTS).map(|n| Arc::new(culprit(n / SCRIPTS, n % SCRIPTS)));
        Self { end, culprits: culprits.collect() }
    }

    pub(crate) fn busiest(&self) -> String {
        name(0)
    }

    /// Three of ten are the end of a session, one of ten was stopped.
    pub(crate) fn event(&self, n: u64, of: u64) -> Record {
        let time = self.end - LENGTH + (n as i128 * i128::from(LENGTH) / i128::from(of)) as i64;
        let random = mixed(n);
        let user = skewed(random, USERS);
        let script = skewed(mixed(random), SCRIPTS);
        let server = skewed(mixed(random ^ 7), SERVERS);
        let who = Who {
            account: name(user),
            kind: kind::USER,
            uid: 1000 + user as u32,
            tgid: 1000 + (n % 30_000) as u32,
            comm: "php".into(),
            plan: Some(["standard", "bulk", "office"][(user % 3) as usize].into()),
            culprit: self.culprits[(user * SCRIPTS + script) as usize].clone(),
        };
        let address = IpAddr::from([198, 18 + (server >> 16) as u8, (server >> 8) as u8, server as u8]);
        let target = Target { address, port: 25, route: Route::Remote };
        if n % 10 < 3 {
            let accepted = (random >> 40 & 3) as u32;
            return Record::Session(Box::new(SessionEnd {
                time,
                who,
                target,
                outcome: SessionOutcome::Closed,
                messages: [accepted, 0, u32::from(accepted == 0), 0],
                recipients: [accepted * 2, 0, 0],
                milliseconds: random >> 50,
                bytes: random >> 44,
            }));
        }
        let (verdict, reason) = match n % 10 {
            9 => (Verdict::Refused, Reason::AccountHour),
            _ => (Verdict::Allowed, Reason::WithinLimits),
        };
        Record::Attempt(Box::new(Attempt { time, who, target, unit: None, verdict, reason }))
    }

    /// The kernel's counters after so many events.
    pub(crate) fn counters(&self, n: u64, of: u64) -> Record {
        let time = self.end - LENGTH + (n as i128 * i128::from(LENGTH) / i128::from(of)) as i64 - 1;
        let counter = |user: u64, what, which, count| {
            let id = CounterId {
                kind: kind::USER,
                id: 1000 + user,
                what,
                route: Route::Remote as u8,
                port: if what == what::CONNECTIONS { 25 } else { 0 },
                which,
            };
            Counter { id, account: name(user).into(), count }
        };
        let each = |user: u64| {
            // Fewer for those who come later, and never fewer than before.
            let own = n / (user + 1);
            [
                counter(user, what::CONNECTIONS, Verdict::Allowed as u8, own),
                counter(user, what::CONNECTIONS, Verdict::Refused as u8, own / 9),
                counter(user, what::SESSIONS, SessionOutcome::Closed as u8, own / 2),
                counter(user, what::MESSAGES, 0, own),
                counter(user, what::RECIPIENTS, 0, own * 2),
            ]
        };
        Record::Counters((0..USERS).flat_map(each).collect(), time)
    }
}

fn culprit(user: u64, script: u64) -> Culprit {
    let parent = Ancestor {
        tgid: 900,
        started: Some("2026-10-01T00:00:00.000Z".into()),
        uid: Some(0),
        user: Some("root".into()),
        comm: "php-fpm8.2".into(),
        exe: Some("/usr/sbin/php-fpm8.2".into()),
        command: Some(vec!["php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)".into()]),
    };
    let path = format!("/home/{}/public_html/wp-content/plugins/p{script}/send.php", name(user));
    Culprit {
        exe: Some("/usr/sbin/php-fpm8.2".into()),
        cwd: Some(format!("/home/{}/public_html", name(user))),
        command: Some(vec![format!("php-fpm: pool {}", name(user))]),
        script: Some(Script { path, how: "fpm".into() }),
        lineage: vec![parent],
        origin: Some(Origin { kind: "web".into(), name: name(user) }),
        unit: Some("php8.2-fpm.service".into()),
        domains: vec![format!("{}.example", name(user))],
        ..Culprit::default()
    }
}

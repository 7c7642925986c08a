use std::time::{Duration, Instant};

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use smtp_common::names::program;

use super::*;
use crate::{
    attribution::culprit::Script,
    by_hand::Says,
    overview::{Conversations, Counts, HostStatus, LimitUsage},
    stream::{Line as Event, story::Story},
    top::Action,
};

fn held(window: &'static str, used: u64, limit: u32) -> LimitUsage {
    LimitUsage { unit: "connection", window, usage: Usage { used, limit: Some(limit) } }
}

fn account(name: &str, allowed: u64, refused: u64) -> AccountStatus {
    AccountStatus {
        account: name.into(),
        rule: "[default]",
        hour: None,
        day: None,
        limits: vec![held("hour", allowed, 100), held("day", allowed, 1000)],
        remote: [("allowed", allowed), ("refused", refused)].into(),
        local: Counts::new(),
        pipe: Counts::new(),
        conversations: Conversations::default(),
        by_route: Default::default(),
        brake: None,
    }
}

fn overview(accounts: Vec<AccountStatus>) -> Overview {
    Overview {
        pins: "/pins".into(),
        agent_running: true,
        attached: program::ALL.map(|hook| (hook, true)).into(),
        mode: "enforce",
        policy_generation: 1,
        ports: vec![25],
        messages_wanted: true,
        messages_followed: true,
        host: HostStatus {
            hour: Usage { used: 130, limit: None },
            day: Usage { used: 950, limit: Some(1000) },
            limits: Vec::new(),
            conversations: Conversations::default(),
        },
        shared: Vec::new(),
        accounts,
        lost: Default::default(),
    }
}

fn story(account: &str, script: &str) -> Event {
    let text = format!(
        r#"{{"time":"2026-11-20T03:00:07.000Z","account":"{account}","verdict":"refused","reason":"account_hour",
        "destination":"192.0.2.25","port":25,"route":"remote","uid":1000,"gid":1000,"tgid":4711,"tid":4711,"comm":"perl",
        "exe":"/usr/bin/perl","command":["perl","x.pl"],"cgroup":"/","unit":null,"kernel_thread":false,"container":false,
        "subordinate_uid":false,"policy":1}}"#
    );
    let mut story: Story = serde_json::from_str(&text).expect("a story");
    story.culprit.script = Some(Script { path: script.into(), how: "argument".into() });
    Event::Connect(story)
}

/// A view that has looked twice, ten seconds apart.
fn app() -> App {
    let mut app = App::default();
    let start = Instant::now();
    app.update(overview(vec![account("blog", 3, 0), account("shop", 90, 0)]), start);
    app.update(overview(vec![account("blog", 3, 0), account("shop", 100, 12)]), start + Duration::from_secs(10));
    app
}

fn press(app: &mut App, keys: &[KeyCode]) -> Action {
    let mut last = Action::Nothing;
    for key in keys {
        last = app.key(KeyEvent::new(*key, KeyModifiers::NONE));
    }
    last
}

fn screen_of(app: &App, look: Look, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    terminal.draw(|frame| draw(frame, app, look)).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(row).collect()
}

fn screen(app: &App) -> Vec<String> {
    screen_of(app, Look::default(), 80, 24)
}

#[test]
fn eighty_by_twenty_four_without_colour_shows_who_it_is() {
    let lines = screen(&app());
    assert_eq!(lines[0].trim_end(), "smtp-agent  mode enforce  agent running  2 accounts  by rate");
    assert_eq!(lines[1].trim_end(), "host  hour        130        day ###### 950/1000");
    assert_eq!(lines[3], "ACCOUNT             PER MIN HOUR              DAY               STOPPED ATTEMPTS");
    assert!(lines[4].starts_with("shop"), "the fastest first: {}", lines[4]);
    assert!(lines[4].contains("132.0") && lines[4].contains("###### 100/100!"), "{}", lines[4]);
    assert!(lines[5].starts_with("blog") && lines[5].contains("#..... 3/100"), "{}", lines[5]);
    assert!(lines[23].contains("q quit"), "{}", lines[23]);
    assert!(lines.iter().all(|line| line.is_ascii()));
}

#[test]
fn a_closer_look_names_the_script_and_then_all_that_is_known() {
    let mut app = app();
    app.hear(story("shop", "/home/shop/.x.pl"));
    press(&mut app, &[KeyCode::Enter]);
    let text = screen(&app).join("\n");
    assert!(text.contains("03:00:07 refused      192.0.2.25:25        4711    /home/shop/.x.pl"), "{text}");
    assert!(text.contains("12 refused"), "{text}");
    press(&mut app, &[KeyCode::Enter]);
    let text = screen(&app).join("\n");
    for part in ["script     /home/shop/.x.pl (argument)", "directory  unknown", "process    pid 4711, uid 1000, perl"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    press(&mut app, &[KeyCode::Esc, KeyCode::Esc]);
    assert!(screen(&app)[3].starts_with("ACCOUNT"));
}

#[test]
fn sessions_and_stopped_messages_are_told_with_who_was_behind_them() {
    let session = |more: &str, time: &str, tgid: u32| -> Event {
        let text = format!(
            r#"{{{more},"time":"2026-11-20T{time}.000Z","since":"2026-11-20T03:00:07.000Z","account":"shop",
            "destination":"192.0.2.25","port":25,"route":"remote","uid":1000,"gid":1000,"tgid":{tgid},"comm":"perl",
            "container":false,"messages":{{"accepted":3,"deferred":0,"rejected":1}},
            "recipients":{{"accepted":7,"deferred":0,"rejected":0}},"bytes_sent":512,"bytes_received":99,"retransmits":0,
            "exchanges":9,"notes":["hasty"]}}"#
        );
        serde_json::from_str(&text).expect("a line")
    };
    let end = r#""event":"session","outcome":"closed","duration_seconds":4.25"#;
    let stop = r#""event":"stop","verdict":"refused","reason":"messages_hour","unit":"message","connection_ended":true,
        "exe":null,"command":null,"unit_of_process":null"#;
    let mut app = app();
    app.hear(story("shop", "/home/shop/.x.pl"));
    app.hear(session(stop, "03:00:09", 4711));
    app.hear(session(end, "03:00:11", 4711));
    app.hear(session(end, "03:00:12", 4712));
    press(&mut app, &[KeyCode::Enter]);
    let text = screen(&app).join("\n");
    for line in [
        "03:00:11 closed       192.0.2.25:25        4711    3 accepted, 1 rejected, 4.2 s",
        "03:00:09 refused      192.0.2.25:25        4711    a message: messages_hour",
        "03:00:07 refused      192.0.2.25:25        4711    /home/shop/.x.pl",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let all_of = |app: &mut App, down: usize| {
        press(app, &vec![KeyCode::Down; down]);
        press(app, &[KeyCode::Enter]);
        let text = screen(app).join("\n");
        press(app, &[KeyCode::Esc]);
        text
    };
    let stranger = all_of(&mut app, 0);
    assert!(stranger.contains("process    pid 4712") && !stranger.contains(".x.pl"), "another process: {stranger}");
    let ended = all_of(&mut app, 1);
    for part in ["session closed", "lasted     4.2 s", "recipients 7 accepted", "notes      hasty", "/home/shop/.x.pl"]
    {
        assert!(ended.contains(part), "{part} in {ended}");
    }
    let stopped = all_of(&mut app, 1);
    assert!(stopped.contains("a message was refused (messages_hour)") && stopped.contains(".x.pl"), "{stopped}");
}

#[test]
fn nothing_is_done_without_a_yes() {
    let mut app = app();
    assert_eq!(press(&mut app, &[KeyCode::Char('b'), KeyCode::Enter]), Action::Nothing);
    assert_eq!(press(&mut app, &[KeyCode::Char('b'), KeyCode::Char('n')]), Action::Nothing);
    assert!(screen(&app)[23].contains("nothing was done"));
    press(&mut app, &[KeyCode::Char('b')]);
    assert!(screen(&app)[23].starts_with("block shop for 2h?"), "{}", screen(&app)[23]);
    let block = |seconds| Action::Say { says: Says::Blocked, account: "shop".into(), seconds };
    assert_eq!(press(&mut app, &[KeyCode::Char('y')]), block(Some(7200)));
    assert_eq!(press(&mut app, &[KeyCode::Char('b'), KeyCode::Left, KeyCode::Left, KeyCode::Char('y')]), block(None));
    assert_eq!(
        press(&mut app, &[KeyCode::Down, KeyCode::Char('r'), KeyCode::Char('y')]),
        Action::Release { account: "blog".into() }
    );
    assert_eq!(press(&mut app, &[KeyCode::Char('q')]), Action::Quit);
}

#[test]
fn the_bar_stays_on_its_account_when_the_order_changes() {
    let mut app = app();
    press(&mut app, &[KeyCode::Down]);
    let later = Instant::now() + Duration::from_secs(20);
    app.update(overview(vec![account("blog", 99, 0), account("shop", 100, 12)]), later);
    assert_eq!(press(&mut app, &[KeyCode::Char('r'), KeyCode::Char('y')]), Action::Release { account: "blog".into() });
    press(&mut app, &[KeyCode::Char('/'), KeyCode::Char('s'), KeyCode::Char('h'), KeyCode::Enter]);
    let lines = screen(&app);
    assert!(lines[4].starts_with("shop") && lines[5].trim().is_empty(), "{lines:?}");
}

#[test]
fn the_filter_minds_no_case() {
    let mut app = app();
    app.update(overview(vec![account("Blog", 3, 0), account("shop", 100, 12)]), Instant::now());
    for typed in ["bLOG", "BLOG"] {
        press(&mut app, &[KeyCode::Char('/'), KeyCode::Esc, KeyCode::Char('/')]);
        press(&mut app, &typed.chars().map(KeyCode::Char).collect::<Vec<_>>());
        press(&mut app, &[KeyCode::Enter]);
        let lines = screen(&app);
        assert!(lines[4].starts_with("Blog") && lines[5].trim().is_empty(), "{typed}: {lines:?}");
    }
}

#[test]
fn columns_stay_where_they_are_beside_names_of_wide_characters() {
    let mut app = app();
    let names = ["日本語の店", "日本語の店日本語の店日本語の店", "e\u{301}té", "👩‍👩‍👧 family", "plain"];
    app.update(overview(names.map(|name| account(name, 3, 0)).into()), Instant::now() + Duration::from_secs(30));
    press(&mut app, &[KeyCode::Char('s'), KeyCode::Char('s'), KeyCode::Char('s')]);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a screen");
    terminal.draw(|frame| draw(frame, &app, Look::default())).expect("drawn");
    let buffer = terminal.backend().buffer().clone();
    for y in 4..4 + names.len() as u16 {
        let row: Vec<_> = (0..80).map(|x| buffer[(x, y)].symbol()).collect();
        // A blank, what stands below `PER MIN`, and the bar below `HOUR`.
        let (blank, rate, bar) = (row[19], row[20..28].concat(), row[28..34].concat());
        assert_eq!((blank, bar.as_str()), (" ", "#....."), "{row:?}");
        assert!(rate.trim().parse::<f64>().is_ok() && rate.ends_with(' '), "{row:?}");
    }
}

#[test]
fn attempts_that_were_not_shown_are_told() {
    let mut app = app();
    app.set_missed(12);
    assert!(screen(&app)[1].trim_end().ends_with("12 attempts not shown"), "{}", screen(&app)[1]);
}

#[test]
fn a_gate_that_is_gone_and_an_agent_that_is_silent_are_said() {
    let mut app = app();
    let mut gone = overview(Vec::new());
    gone.agent_running = false;
    gone.attached.insert(program::CONNECT4, false);
    app.update(gone, Instant::now() + Duration::from_secs(30));
    let lines = screen(&app);
    assert!(lines[0].contains("gate NOT ATTACHED") && lines[0].contains("agent NOT running"), "{}", lines[0]);
    assert!(lines[4].contains("no SMTP connection has been seen yet"));
}

#[test]
fn no_size_and_no_name_makes_it_panic() {
    let mut app = app();
    app.update(overview(vec![account(&"ü".repeat(300), 1, 1)]), Instant::now() + Duration::from_secs(30));
    app.hear(story("shop", &"x".repeat(2000)));
    let look = Look { colour: true, unicode: true };
    for keys in [&[][..], &[KeyCode::Char('?')], &[KeyCode::Enter], &[KeyCode::End, KeyCode::Enter, KeyCode::PageDown]]
    {
        press(&mut app, keys);
        for (width, height) in [(1, 1), (2, 4), (20, 5), (80, 24), (300, 100)] {
            screen_of(&app, look, width, height);
        }
    }
}

//! `smtp-agent top`: the live view in a terminal.

mod signals;

use std::{
    env,
    io::{self, IsTerminal},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};

use self::signals::Ending;
use super::lenient;
use crate::{
    accounts::naming::Naming,
    by_hand::{Says, Subject},
    control::{Answer, Order, Request, client},
    exit::{Code, Failure, Result},
    kernel::{maps::Maps, pins::Pins},
    overview::{self, Overview},
    stream::Line,
    top::{Action, App, Look, draw},
};

/// Between looks at the maps, unless they are so full that a look takes longer than a tenth of it.
const LOOK: Duration = Duration::from_secs(1);

/// How long keys may wait for the next drawing.
const TICK: Duration = Duration::from_millis(100);

/// News that may wait while the terminal takes nothing, such as over a connection that hangs.
const WAITING: usize = 1024;

/// What the threads beside have found out.
enum Heard {
    Overview(Box<Overview>),
    Attempt(Box<Line>),
    Deaf(Option<String>),
    Ended(Failure),
}

/// What comes to the view from beside.
struct News<'a> {
    heard: &'a Receiver<Heard>,
    /// Attempts for which there was no room.
    missed: &'a AtomicU64,
    ending: &'a Ending,
}

pub(super) fn top(path: &Path) -> Result<Code> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::config("top needs a terminal; in a pipe use `smtp-agent status` or `events`"));
    }
    let lenient = lenient::load(path);
    let (pins, maps, naming) = lenient.gate()?;
    let ending = Ending::watch()
        .map_err(|e| Failure::from_io(&io::Error::from(e), "signals that end the view cannot be waited for"))?;
    let (sender, news) = sync_channel(WAITING);
    let missed = Arc::new(AtomicU64::new(0));
    let run = lenient.paths.run.clone();
    thread::spawn({
        let sender = sender.clone();
        move || look(&pins, &maps, &naming, &sender)
    });
    thread::spawn({
        let (run, missed) = (run.clone(), missed.clone());
        move || listen(&run, &sender, &missed)
    });
    let mut terminal =
        ratatui::try_init().map_err(|e| Failure::from_io(&e, "the terminal cannot be used for a live view"))?;
    let outcome = show(&mut terminal, &News { heard: &news, missed: &missed, ending: &ending }, &run);
    ratatui::restore();
    ending.follow();
    outcome
}

/// Looks at the maps, over and over.
fn look(pins: &Pins, maps: &Maps, naming: &Naming, sender: &SyncSender<Heard>) {
    loop {
        let begin = Instant::now();
        let news = match overview::collect(pins, maps, naming) {
            Ok(overview) => Heard::Overview(Box::new(overview)),
            Err(e) => Heard::Ended(e),
        };
        if sender.send(news).is_err() {
            return;
        }
        thread::sleep(LOOK.max(begin.elapsed() * 10));
    }
}

/// Hears of attempts as long as the view is there, from whichever agent runs.
fn listen(run: &Path, sender: &SyncSender<Heard>, missed: &AtomicU64) {
    loop {
        let why = match hear(run, sender, missed) {
            Ok(()) => return,
            Err(e) => e.message,
        };
        if sender.send(Heard::Deaf(Some(why))).is_err() {
            return;
        }
        thread::sleep(Duration::from_secs(2));
    }
}

/// Returns when nobody wants to know any more.
fn hear(run: &Path, sender: &SyncSender<Heard>, missed: &AtomicU64) -> Result<()> {
    let mut agent = client::send(run, &Request::Events {})?;
    agent.answer()?;
    if sender.send(Heard::Deaf(None)).is_err() {
        return Ok(());
    }
    while let Some(line) = agent.line()? {
        // Kinds that this version does not know are passed over.
        if let Ok(line) = serde_json::from_str(&line)
            && !pass(sender, missed, line)
        {
            return Ok(());
        }
    }
    Err(Failure::unavailable("the agent has ended; the gate stays in force without it"))
}

/// Tells of an attempt if there is room: there may be more than a terminal takes. Whether anybody listens still.
fn pass(sender: &SyncSender<Heard>, missed: &AtomicU64, line: Line) -> bool {
    match sender.try_send(Heard::Attempt(Box::new(line))) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            missed.fetch_add(1, Ordering::Relaxed);
            true
        }
        Err(TrySendError::Disconnected(_)) => false,
    }
}

/// What the terminal can do, as far as it says.
fn appearance() -> Look {
    let set = |name| env::var(name).ok().filter(|value: &String| !value.is_empty());
    let is_utf8 = |value: String| value.to_ascii_uppercase().replace('-', "").ends_with("UTF8");
    Look {
        colour: set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb" && !term.contains("mono")),
        unicode: ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).is_some_and(is_utf8),
    }
}

fn show(terminal: &mut DefaultTerminal, news: &News<'_>, run: &Path) -> Result<Code> {
    let failed = |e: io::Error| Failure::from_io(&e, "the terminal cannot be used");
    let (mut app, look) = (App::default(), appearance());
    let mut level = app.level();
    while !news.ending.has_come() {
        // Some terminals draw blocks over their cells: what is left of them goes with the view.
        if level != app.level() {
            level = app.level();
            terminal.clear().map_err(failed)?;
        }
        app.set_missed(news.missed.load(Ordering::Relaxed));
        terminal.draw(|frame| draw(frame, &app, look)).map_err(failed)?;
        // Keys first, and all that wait; then what has happened, but never so much that keys wait for it.
        while event::poll(Duration::ZERO).map_err(failed)? {
            let Event::Key(key) = event::read().map_err(failed)? else { continue };
            match app.key(key) {
                Action::Nothing => {}
                Action::Quit => return Ok(Code::Fine),
                action => app.say(act(run, action).unwrap_or_else(|e| e.message)),
            }
        }
        let until = Instant::now() + TICK;
        loop {
            match news.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Heard::Overview(overview)) => app.update(*overview, Instant::now()),
                Ok(Heard::Attempt(line)) => app.hear(*line),
                Ok(Heard::Deaf(why)) => app.set_deaf(why),
                Ok(Heard::Ended(e)) => return Err(e),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::unavailable("the view has lost the gate")),
            }
            if Instant::now() >= until {
                break;
            }
        }
    }
    Ok(Code::Fine)
}

/// Does what was said yes to, and tells it.
fn act(run: &Path, action: Action) -> Result<String> {
    let whom = |account: &str| Subject::shown(account).map_err(Failure::config);
    match action {
        Action::Say { says, account, seconds } => {
            let reason = Some("by smtp-agent top".to_owned());
            let order = Order { whom: whom(&account)?, for_seconds: seconds, reason, force: false };
            let Answer::Taken { entry, .. } = client::ask(run, &Request::order(says, order))? else {
                return client::unexpected();
            };
            let done = if says == Says::Blocked { "blocked" } else { "allowed" };
            let until = entry.until.map_or_else(|| "for ever".to_owned(), |until| format!("until {until}"));
            Ok(format!("{account} is {done} {until}"))
        }
        Action::Release { account } => {
            let Answer::Released { deeds, .. } = client::ask(run, &Request::Release { whom: whom(&account)? })? else {
                return client::unexpected();
            };
            Ok(if deeds.is_empty() {
                format!("{account}: nothing to release")
            } else {
                format!("{account} is released")
            })
        }
        Action::Nothing | Action::Quit => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_that_nobody_takes_are_counted_and_do_not_pile_up() {
        let (sender, news) = sync_channel(2);
        let missed = AtomicU64::new(0);
        let text = r#"{"event":"connect","time":"2026-11-20T03:00:07.000Z","account":"shop","verdict":"refused",
            "reason":"account_hour","destination":"192.0.2.25","port":25,"route":"remote","uid":1000,"gid":1000,
            "tgid":4711,"tid":4711,"comm":"perl","exe":null,"command":null,"cgroup":"/","unit":null,
            "kernel_thread":false,"container":false,"subordinate_uid":false,"policy":1}"#;
        let line = || serde_json::from_str(text).expect("a line");
        assert!((0..5).all(|_| pass(&sender, &missed, line())));
        assert_eq!((news.try_iter().count(), missed.load(Ordering::Relaxed)), (2, 3));
        assert!(pass(&sender, &missed, line()), "there is room again");
        drop(news);
        assert!(!pass(&sender, &missed, line()));
    }
}

//! One aligned line per item: its name, its state, how long it took, and a word about it.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// Without a terminal a line cannot be redrawn; a long step then says this often that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A terminal's line is redrawn no more often than this.
const REDRAW: Duration = Duration::from_millis(100);
/// A terminal that does not tell its width is taken to be this wide.
const USUAL_WIDTH: usize = 80;

enum Screen {
    Terminal,
    Log,
    Silent,
}

/// An item's line while it is worked on.
pub(crate) struct Line {
    name: &'static str,
    doing: String,
    said: String,
    began: Instant,
    drawn: Instant,
    screen: Screen,
}

impl Line {
    pub(crate) fn begin(name: &'static str) -> Self {
        let now = Instant::now();
        let screen = if stderr().is_terminal() { Screen::Terminal } else { Screen::Log };
        Self { name, doing: String::new(), said: String::new(), began: now, drawn: now, screen }
    }

    /// For questions that are over before anyone could read what they are.
    pub(crate) fn silent() -> Self {
        Self { screen: Screen::Silent, ..Self::begin("") }
    }

    /// The step that begins now.
    pub(crate) fn doing(&mut self, what: impl Display) {
        self.doing = what.to_string();
        self.said.clear();
        self.draw();
    }

    /// Time has passed, and the command at work may have said something.
    pub(crate) fn tick(&mut self, said: &str) {
        if !said.trim().is_empty() {
            // A command that redraws its own line sends carriage returns: the last part is what it shows.
            let shown = said.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or(said);
            self.said = shown.trim().chars().filter(|c| !c.is_control()).collect();
        }
        let due = match self.screen {
            Screen::Terminal => REDRAW,
            Screen::Log => HEARTBEAT,
            Screen::Silent => Duration::MAX,
        };
        if self.drawn.elapsed() >= due {
            self.draw();
        }
    }

    /// The item's last word.
    pub(crate) fn end(self, state: &str, detail: impl Display) {
        let clear = if matches!(self.screen, Screen::Terminal) { "\r\x1b[K" } else { "" };
        let detail = detail.to_string();
        let first = detail.lines().next().unwrap_or_default();
        eprintln!("{clear}{}", layout(self.name, state, self.began.elapsed(), first));
    }

    fn draw(&mut self) {
        self.drawn = Instant::now();
        let shown = |detail: &str| layout(self.name, "working", self.began.elapsed(), detail);
        match self.screen {
            Screen::Terminal => {
                let width = terminal_size::terminal_size_of(stderr()).map_or(USUAL_WIDTH, |(width, _)| width.0.into());
                // One column stays free: a full line would make some terminals wrap.
                // Nor is there room for both: the command's last word, once it has said one.
                let text = shown(if self.said.is_empty() { &self.doing } else { &self.said });
                let text: String = text.chars().take(width.saturating_sub(1)).collect();
                eprint!("\r{text}\x1b[K");
                let _ = stderr().flush();
            }
            Screen::Log if self.said.is_empty() => eprintln!("{}", shown(&self.doing)),
            Screen::Log => eprintln!("{}", shown(&format!("{}: {}", self.doing, self.said))),
            Screen::Silent => {}
        }
    }
}

fn layout(name: &str, state: &str, took: Duration, detail: &str) -> String {
    format!("  {name:<16} {state:<9} {:>6.1} s  {detail}", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_whatever_they_say() {
        let short = layout("ip", "ready", Duration::from_millis(40), "DETAIL");
        let long = layout("probe toolchain", "installed", Duration::from_secs(599), "DETAIL");
        assert_eq!(short.find("DETAIL"), long.find("DETAIL"), "\n{short}\n{long}");
        assert!(short.contains("   0.0 s"), "{short}");
    }

    #[test]
    fn the_last_redrawn_part_of_a_line_is_kept() {
        let mut line = Line::silent();
        line.tick("Reading… 5%\rReading… 95%\r");
        assert_eq!(line.said, "Reading… 95%");
        line.tick("   ");
        assert_eq!(line.said, "Reading… 95%", "silence keeps the last word");
    }
}

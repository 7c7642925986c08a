//! Log lines for people, for the journal, or as JSON, always on standard error.

use std::{
    fmt,
    fs::File,
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{DefaultFields, Format, Writer},
    },
    registry::LookupSpan,
};

use crate::config::{Log, LogFormat};

/// Sets up logging for the whole process, once.
pub fn init(log: &Log) {
    let filter = EnvFilter::new(match log.probe {
        // The probe itself leaves out what is below its level.
        Some(_) => format!("{},smtp_ebpf=trace", log.level.name()),
        None => log.level.name().to_owned(),
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A second call can only come from a test in the same process.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text if stderr_is_the_journal() => {
            builder.fmt_fields(DefaultFields::new()).event_format(Journal).try_init()
        }
        LogFormat::Text => builder.with_ansi(colour(io::stderr())).with_target(false).try_init(),
    };
}

/// Colour is for terminals, unless NO_COLOR is set (no-color.org).
pub fn colour(stream: impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// systemd tells the device and inode of the stream it connected to the journal (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Some(stream) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else { return false };
    File::from(stderr).metadata().is_ok_and(|m| stream == format!("{}:{}", m.dev(), m.ino()))
}

/// The journal adds the time itself and takes the priority from a prefix (sd-daemon(3)).
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let mut text = String::new();
        let plain = Format::default().without_time().with_level(false).with_target(false).with_ansi(false);
        plain.format_event(ctx, Writer::new(&mut text), event)?;
        // To the journal each line is a message of its own.
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

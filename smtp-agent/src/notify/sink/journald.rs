//! The journal's native protocol: a datagram of fields for each notice
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::{os::unix::net::UnixDatagram, path::Path};

use crate::{
    config::Template,
    notify::{Message, Notice, notice::Severity, text},
};

/// What all notices have in common, for `journalctl MESSAGE_ID=…`.
const MESSAGE_ID: &str = "6f1f3a0c3d1c4c0e9f0b6b7d2f5a8e41";
/// Bytes of a field: all of them together stay below what a datagram may hold (`net.core.wmem_default`, 208 KiB).
const LONGEST: usize = 32 << 10;

pub(super) fn send(socket: &Path, subject: Option<&Template>, message: &Message) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("the journal at {}: {e}", socket.display());
    let out = UnixDatagram::unbound().map_err(failed)?;
    // A journal that does not read holds up nobody: it is tried again.
    out.set_write_timeout(Some(std::time::Duration::from_secs(5))).map_err(failed)?;
    out.connect(socket).map_err(failed)?;
    for notice in &message.notices {
        out.send(&entry(subject, message, notice)).map_err(failed)?;
    }
    Ok(())
}

fn entry(subject: Option<&Template>, message: &Message, notice: &Notice) -> Vec<u8> {
    let said = match subject {
        Some(template) => text::line(&text::fill_one(message, notice, template)),
        None => text::what(notice),
    };
    let priority = match Severity::of(notice.kind) {
        Severity::Critical => "3",
        Severity::Warning => "4",
        Severity::Info => "5",
    };
    let culprit = notice.culprit.as_ref();
    let known = [
        ("MESSAGE", Some(said)),
        ("PRIORITY", Some(priority.to_owned())),
        ("MESSAGE_ID", Some(MESSAGE_ID.to_owned())),
        ("SYSLOG_IDENTIFIER", Some("smtp-agent".to_owned())),
        ("SMTP_AGENT_KIND", Some(notice.kind.name().to_owned())),
        ("SMTP_AGENT_ACCOUNT", Some(notice.account.clone())),
        ("SMTP_AGENT_REASON", notice.reason.clone()),
        ("SMTP_AGENT_UNIT", notice.unit.clone()),
        ("SMTP_AGENT_WINDOW", notice.window.clone()),
        ("SMTP_AGENT_LIMIT", notice.limit.map(|limit| limit.to_string())),
        ("SMTP_AGENT_USED", notice.used.map(|used| used.to_string())),
        ("SMTP_AGENT_AGAIN", Some(notice.again.to_string())),
        ("SMTP_AGENT_EXE", culprit.and_then(|culprit| culprit.exe.clone())),
        ("SMTP_AGENT_SCRIPT", culprit.and_then(|culprit| culprit.script_path()).map(str::to_owned)),
        ("SMTP_AGENT_NOTICE", whole(notice)),
    ];
    let mut out = Vec::new();
    for (name, value) in known.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let value = &value[..value.floor_char_boundary(LONGEST)];
        out.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            out.push(b'=');
        }
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }
    out
}

/// The notice as JSON, or as much of it as a field holds.
fn whole(notice: &Notice) -> Option<String> {
    let mut notice = notice.clone();
    for step in 0..=Notice::STEPS {
        let json = serde_json::to_string(&notice).ok()?;
        if json.len() <= LONGEST {
            return Some(json);
        }
        notice.shorten(step);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attribution::Culprit, notify::Kind};

    fn message(notice: Notice) -> Message {
        let notices = vec![notice];
        Message { id: "1".into(), host: "h".into(), time: 5, notices, repeated: 0, over_rate: 0, left_out: 0 }
    }

    #[test]
    fn a_notice_is_an_entry_with_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let notice = Notice { limit: Some(100), ..Notice::new(Kind::Brake, "shop", 5) };
        send(&path, None, &message(notice.clone())).unwrap();
        let mut bytes = vec![0; 1 << 16];
        let length = journal.recv(&mut bytes).unwrap();
        let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
        let said = "MESSAGE=the failure brake holds shop: too many of its messages have failed\nPRIORITY=3\n";
        assert!(text.starts_with(said), "{text}");
        let wanted = ["SMTP_AGENT_KIND=brake", "SMTP_AGENT_ACCOUNT=shop", "SMTP_AGENT_LIMIT=100", "SMTP_AGENT_AGAIN=0"];
        for field in wanted {
            assert!(text.lines().any(|line| line == field), "{field} in {text}");
        }
        let json = text.lines().find_map(|line| line.strip_prefix("SMTP_AGENT_NOTICE=")).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(json).unwrap(), notice);
        let template = Template::parse("{kind} by {account}").unwrap();
        send(&path, Some(&template), &message(notice)).unwrap();
        let length = journal.recv(&mut bytes).unwrap();
        assert!(bytes[..length].starts_with(b"MESSAGE=brake by shop\n"));
    }

    #[test]
    fn a_value_with_line_breaks_forges_no_field() {
        let notice = Notice { reason: Some("a\nPRIORITY=0\nb".into()), ..Notice::new(Kind::Brake, "shop", 5) };
        let bytes = entry(
            None,
            &message(notice),
            &Notice { reason: Some("a\nPRIORITY=0".into()), ..Notice::new(Kind::Brake, "s", 5) },
        );
        let wanted = b"SMTP_AGENT_REASON\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\nSMTP_AGENT_AGAIN";
        assert!(bytes.windows(wanted.len()).any(|window| window == wanted), "{}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_long_command_line_leaves_the_rest_of_the_notice() {
        let culprit = Culprit {
            exe: Some("/usr/bin/php".into()),
            command: Some(vec!["x".repeat(LONGEST)]),
            unit: Some("cron.service".into()),
            ..Culprit::default()
        };
        let notice = Notice { culprit: Some(culprit), ..Notice::new(Kind::Brake, "shop", 5) };
        let read = |notice: &Notice| {
            let text = String::from_utf8(entry(None, &message(notice.clone()), notice)).unwrap();
            let json = text.lines().find_map(|line| line.strip_prefix("SMTP_AGENT_NOTICE=")).expect("the notice");
            assert!(json.len() <= LONGEST);
            serde_json::from_str::<Notice>(json).unwrap()
        };
        let read_back = read(&notice);
        let culprit = read_back.culprit.unwrap();
        assert_eq!((culprit.exe.as_deref(), culprit.unit.as_deref()), (Some("/usr/bin/php"), Some("cron.service")));
        assert_eq!((culprit.command, read_back.account), (None, "shop".to_owned()));
        let long = Culprit { exe: Some("x".repeat(LONGEST)), ..Culprit::default() };
        assert_eq!(read(&Notice { culprit: Some(long), ..notice }).culprit, None);
    }

    #[test]
    fn a_journal_that_is_not_there_is_named() {
        let said =
            send(Path::new("/nonexistent/socket"), None, &message(Notice::new(Kind::Brake, "s", 5))).unwrap_err();
        assert!(said.starts_with("the journal at /nonexistent/socket: No such file"), "{said}");
    }
}

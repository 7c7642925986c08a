//! A notice as a mail, handed to the local MTA's sendmail(1).

use std::path::Path;

use mail_builder::{
    MessageBuilder,
    headers::{address::Address, raw::Raw},
};

use crate::notify::{Message, text::Filled};

/// `-t` takes the recipients from the header, `-oi` a line with a dot alone for a line.
pub(super) fn argv(sendmail: &Path, from: Option<&str>) -> Vec<String> {
    let mut argv = vec![sendmail.display().to_string(), "-t".to_owned(), "-oi".to_owned()];
    argv.extend(from.into_iter().flat_map(|from| ["-f".to_owned(), from.to_owned()]));
    argv
}

/// The mail with LF line ends, as sendmail(1) is given one. Addresses are plain ones, which the configuration has seen to.
pub(super) fn compose(
    message: &Message,
    filled: &Filled,
    to: &[String],
    from: Option<&str>,
) -> Result<Vec<u8>, String> {
    let host = domain(&message.host);
    // Without a domain the MTA adds its own, which is right for the names of the host alone.
    let own = if host.contains('.') { format!("root@{host}") } else { "root".to_owned() };
    let from = from.unwrap_or(&own);
    let to: Vec<_> = to.iter().map(|to| Address::new_address(None::<&str>, to.as_str())).collect();
    let mail = MessageBuilder::new()
        .from(Address::new_address(Some("smtp-agent"), from))
        .to(Address::new_list(to))
        .subject(filled.subject.as_str())
        .date(i64::try_from(message.time).unwrap_or_default())
        .message_id(format!("{}@{host}", domain(&message.id)))
        // RFC 3834: nobody's vacation answers it. The others are what older programs look for.
        .header("Auto-Submitted", Raw::new("auto-generated"))
        .header("Precedence", Raw::new("bulk"))
        .header("X-Auto-Response-Suppress", Raw::new("All"))
        .text_body(filled.body.as_str())
        .write_to_string()
        .map_err(|e| format!("the mail cannot be written: {e}"))?;
    Ok(mail.replace("\r\n", "\n").into_bytes())
}

/// What may stand in a Message-ID.
fn domain(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || ".-".contains(*c);
    let clean: String = text.chars().filter(fits).collect();
    if clean.is_empty() { "localhost".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{Kind, Notice};
    use proptest::prelude::*;

    fn mail(subject: &str, body: &str, host: &str) -> String {
        let notices = vec![Notice::new(Kind::HardLimit, "shop", 5)];
        let message = Message {
            id: "6ab-1".into(),
            host: host.into(),
            time: 1_790_000_000,
            notices,
            repeated: 0,
            over_rate: 0,
            left_out: 0,
        };
        let filled = Filled { subject: subject.into(), body: body.into() };
        let to = ["root".to_owned(), "ops@example.org".to_owned()];
        String::from_utf8(compose(&message, &filled, &to, None).unwrap()).unwrap()
    }

    /// The header unfolded, and the body.
    fn parts(mail: &str) -> (Vec<(String, String)>, &str) {
        let (header, body) = mail.split_once("\n\n").unwrap();
        let unfolded = header.replace("\n\t", " ").replace("\n ", " ");
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is no field"));
            (name.to_owned(), value.to_owned())
        };
        (unfolded.lines().map(field).collect(), body)
    }

    #[test]
    fn it_has_the_headers_that_a_mail_of_a_program_has() {
        let mail = mail("[smtp-agent] web1: shop", "a line\n.\nanother\n", "web1.example.org");
        let (fields, body) = parts(&mail);
        let wanted = [
            ("From", "\"smtp-agent\" <root@web1.example.org>"),
            ("To", "<root>, <ops@example.org>"),
            ("Subject", "[smtp-agent] web1: shop"),
            ("Date", "Mon, 21 Sep 2026 14:13:20 +0000"),
            ("Message-ID", "<6ab-1@web1.example.org>"),
            ("Auto-Submitted", "auto-generated"),
            ("Precedence", "bulk"),
            ("X-Auto-Response-Suppress", "All"),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=\"utf-8\""),
            ("Content-Transfer-Encoding", "7bit"),
        ];
        assert_eq!(fields, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(body, "a line\n.\nanother\n");
        assert!(!mail.contains('\r'));
    }

    #[test]
    fn the_sender_goes_to_sendmail_as_well() {
        let argv = |from| argv(Path::new("/usr/sbin/sendmail"), from);
        assert_eq!(argv(None), ["/usr/sbin/sendmail", "-t", "-oi"]);
        assert_eq!(argv(Some("a@b.example")), ["/usr/sbin/sendmail", "-t", "-oi", "-f", "a@b.example"]);
    }

    proptest! {
        /// Header injection: whatever is in subject, body or host name, the fields are the same, and no line is too long.
        #[test]
        fn no_text_adds_a_field_or_a_line_that_is_too_long(subject: String, body: String, host: String) {
            let nasty = format!("{subject}\r\nBcc: victim@example.org\n\n{subject}");
            let subject = crate::notify::text::line(&nasty);
            let long = format!("{body}{}", "x".repeat(2000));
            let mail = mail(&subject, &long, &host);
            let (fields, _) = parts(&mail);
            let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            let wanted = [
                "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Precedence",
                "X-Auto-Response-Suppress", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
            ];
            prop_assert_eq!(names, wanted);
            prop_assert!(mail.lines().all(|line| line.len() <= 998));
        }
    }
}

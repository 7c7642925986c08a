//! The page as it is before its script runs, and all there is without one. Every text that is not ours is escaped.

use std::fmt::Write;

use super::look::Told;
use crate::{
    config::Show,
    metrics::budget::CONNECTION,
    overview::{AccountStatus, Counts, Overview, Usage},
    report::html::escape,
};

const PAGE: &str = include_str!("page.html");

/// Where the last attempts are not shown.
const HIDDEN: &str = "Scripts, programs and command lines are not shown: every user of this host can open this page. \
                      <code>show = \"all\"</code> in <code>[page]</code> of the configuration shows them here; on the \
                      host, <code>smtp-agent top</code> does.";
const SHOWN: &str = "Attempts and who was behind them are shown to whoever can open this page (<code>[page] show = \
                     \"all\"</code>).";

/// Puts values in the places of `{{name}}`, in one pass: a value that looks like a place stays what it is.
fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&value(name));
        rest = after;
    }
    out + rest
}

pub(super) fn page(told: &Told) -> String {
    let overview = &told.overview;
    fill(PAGE, |place| match place {
        "version" => escape(told.version),
        "time" => escape(&told.time),
        "state" => state(overview),
        "host" => host(overview),
        "rows" => rows(&overview.accounts),
        "more" => more(told),
        "shown" => if told.show == Show::All.name() { SHOWN } else { HIDDEN }.to_owned(),
        "report" if told.report => "<a href=\"/report\">Report</a> of the last day ·\n".to_owned(),
        _ => String::new(),
    })
}

/// What stands at `/` where the page is off.
pub(super) fn landing() -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>smtp-agent</title></head>\n\
         <body><h1>smtp-agent {}</h1>\n<p>Who is sending mail from this host, and how it is stopped at the limit.</p>\n\
         <ul><li><a href=\"/metrics\">Metrics</a> for Prometheus</li>\n\
         <li><a href=\"/-/healthy\">Healthy</a>: the agent answers</li>\n\
         <li><a href=\"/-/ready\">Ready</a>: the gate is attached</li></ul>\n\
         <p>On the host: <code>smtp-agent status</code>, <code>smtp-agent events</code>, \
         <code>smtp-agent explain --user NAME</code>.</p></body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

fn state(overview: &Overview) -> String {
    let mut out = String::new();
    let mut say = |class, text: &str| {
        let _ = writeln!(out, "<span class=\"badge {class}\">{}</span>", escape(text));
    };
    if overview.stands() {
        say("good", "gate in force");
    } else {
        say("alarm", "gate NOT ATTACHED: nothing is limited or counted");
    }
    say("", &format!("mode {}", overview.mode));
    if !overview.messages_wanted {
        say("", "messages are not followed");
    } else if overview.stands() && !overview.messages_followed {
        say("alarm", "messages NOT FOLLOWED: neither counted nor limited");
    }
    let lost: u64 = overview.lost.values().sum();
    if lost > 0 {
        say("", &format!("{lost} events lost, never counts"));
    }
    out
}

/// What the host may, unit by unit; connections even where they are not limited.
fn host(overview: &Overview) -> String {
    let held = overview.host.limits.iter();
    let told = held.filter(|held| held.usage.limit.is_some() || held.unit == CONNECTION);
    told.fold(String::new(), |mut out, held| {
        let name = format!("host {}s / {}", held.unit, held.window);
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&name), usage(Some(held.usage)));
        out
    })
}

/// A bar, numbers, and a word where the limit is near.
fn usage(usage: Option<Usage>) -> String {
    let Some(usage) = usage else { return "<span class=\"none\">no limit</span>".to_owned() };
    let Some((percent, limit)) = usage.percent().zip(usage.limit) else {
        return format!("<span class=\"numbers\">{}</span> <span class=\"none\">no limit</span>", usage.used);
    };
    let (class, mark) = match percent {
        0..80 => ("bar", ""),
        80..100 => ("bar near", " <span class=\"mark near\">near limit</span>"),
        _ => ("bar full", " <span class=\"mark full\">at limit</span>"),
    };
    // Width by an attribute: the page's policy forbids styles in elements.
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"fill\" width=\"{}\" height=\"8\"/></svg> <span class=\"numbers\">{}/{limit}</span>{mark}",
        percent.min(100),
        usage.used
    )
}

/// What is used most of a window, and of what, where it is not connections.
fn fullest(account: &AccountStatus, window: &str) -> String {
    let held = account.fullest(window);
    let unit = held.map_or("", |held| held.unit);
    let text = usage(held.map(|held| held.usage));
    if unit.is_empty() || unit == CONNECTION {
        return text;
    }
    text.replacen("</span>", &format!(" {}s</span>", escape(unit)), 1)
}

fn rows(accounts: &[AccountStatus]) -> String {
    if accounts.is_empty() {
        return "<tr role=\"row\"><td role=\"cell\" colspan=\"9\">no SMTP connection has been seen yet</td></tr>"
            .to_owned();
    }
    accounts.iter().fold(String::new(), |out, account| out + &row(account))
}

fn row(account: &AccountStatus) -> String {
    let brake = match account.brake {
        Some(brake) if brake.holds => " <span class=\"mark full\">brake holds</span>",
        _ => "",
    };
    let message = |counts: &Counts, outcome| counts.get(outcome).copied().unwrap_or(0).to_string();
    let messages = &account.conversations.messages;
    let mut out =
        format!("<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}{brake}</th>", escape(&account.account));
    for (label, class, text) in [
        ("Per minute", "live number", String::new()),
        ("Hour", "", fullest(account, "hour")),
        ("Day", "", fullest(account, "day")),
        ("Stopped", "number", account.stopped().to_string()),
        ("Accepted", "number", message(messages, "accepted")),
        ("Deferred", "number", message(messages, "deferred")),
        ("Rejected", "number", message(messages, "rejected")),
        ("Attempts", "live", String::new()),
    ] {
        let _ = write!(out, "<td role=\"cell\" class=\"{class}\" data-label=\"{label}\">{text}</td>");
    }
    out + "</tr>\n"
}

fn more(told: &Told) -> String {
    match told.accounts_in_all.saturating_sub(told.overview.accounts.len()) {
        0 => String::new(),
        more => format!("{more} more accounts are not shown: those that attempted nothing for the longest time."),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::page::tests::{account, told};

    const HOSTILE: &str = "</title></th><script>alert(1)</script>\"'&<img src=x onerror=alert(2)>{{rows}}";

    #[test]
    fn no_name_becomes_markup_and_none_a_place_in_the_page() {
        let plain = page(&told(vec![account("shop", 3)]));
        let hostile = page(&told(vec![account(HOSTILE, 3)]));
        let tags = |text: &str| text.matches('<').count();
        assert_eq!(tags(&hostile), tags(&plain));
        assert!(!hostile.contains("<script>") && !hostile.contains("<img"));
        assert!(hostile.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"), "{hostile}");
        assert!(hostile.contains("{{rows}}"), "the name is shown as it is");
    }

    #[test]
    fn nothing_in_the_page_needs_what_its_policy_forbids() {
        let page = page(&told(vec![account("shop", 3)]));
        for word in [" style=", "<style", " onclick", " onload", "javascript:", "http://", "https://"] {
            assert!(!page.contains(word), "{word}");
        }
        assert_eq!(page.matches("<script").count(), 1);
        assert!(!page.contains("{{") && !page.contains("}}"), "every place is filled");
    }

    #[test]
    fn a_gate_that_does_not_stand_is_an_alarm() {
        let mut told = told(Vec::new());
        assert!(page(&told).contains("gate in force"));
        told.overview.attached.insert("connect4", false);
        let text = page(&told);
        assert!(text.contains("<span class=\"badge alarm\">gate NOT ATTACHED: nothing is limited or counted</span>"));
        assert!(!text.contains("gate in force") && text.contains("no SMTP connection has been seen yet"));
    }

    #[test]
    fn the_page_says_what_it_does_not_show_and_links_to_no_report_that_is_not_there() {
        let mut told = told(Vec::new());
        let text = page(&told);
        assert!(text.contains("are not shown") && !text.contains("/report"), "{text}");
        (told.show, told.report, told.accounts_in_all) = ("all", true, 7);
        let text = page(&told);
        assert!(text.contains(SHOWN) && text.contains("href=\"/report\"") && text.contains("7 more accounts"));
    }

    #[test]
    fn a_bar_is_as_full_as_the_limit_is_used_and_says_so_in_words() {
        let of = |used, limit| usage(Some(Usage { used, limit }));
        assert!(of(30, Some(100)).contains("width=\"30\"") && !of(30, Some(100)).contains("limit<"));
        assert!(of(80, Some(100)).contains("near limit"));
        assert!(of(300, Some(100)).contains("width=\"100\"") && of(300, Some(100)).contains("at limit"));
        assert!(of(0, Some(0)).contains("at limit"), "a limit of nothing");
        assert!(of(5, None).contains("no limit") && usage(None).contains("no limit"));
    }

    proptest! {
        #[test]
        fn an_escaped_text_has_nothing_left_to_escape(text: String) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(!escaped.chars().any(char::is_control));
            prop_assert_eq!(escaped.matches('&').count(), text.matches(['&', '<', '>', '"', '\'']).count());
        }
    }
}

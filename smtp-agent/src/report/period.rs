//! Times as people write them: how long ago, a date, a moment.

use std::time::Duration;

use chrono::{Local, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};

use crate::store::Millis;

/// What is accepted, for messages.
const FORMS: &str = "write how long ago (24h, 7d), a date (2026-11-19), or a moment (2026-11-19 14:30, or RFC 3339)";
/// The longest time ago: about three hundred years.
const LONGEST: Duration = Duration::from_secs(10_000_000_000);

/// The moment a text means. Dates and moments without a time zone are those of the host.
pub fn parse(text: &str, now: Millis) -> Result<Millis, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = i64::try_from(ago.min(LONGEST).as_millis()).unwrap_or(i64::MAX);
        return Ok((now - ago).max(0));
    }
    if let Ok(moment) = chrono::DateTime::parse_from_rfc3339(text) {
        return Ok(moment.timestamp_millis());
    }
    let local = |moment: NaiveDateTime| {
        // An hour that the clock leaves out has no moment; one that it has twice, the earlier.
        let found = Local.from_local_datetime(&moment).earliest();
        found
            .map(|moment| moment.timestamp_millis())
            .ok_or_else(|| format!("there was no {text} here: the clock was put forward"))
    };
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return local(date.and_time(NaiveTime::MIN));
    }
    for form in ["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"] {
        if let Ok(moment) = NaiveDateTime::parse_from_str(text, form) {
            return local(moment);
        }
    }
    Err(format!("{text:?} is no time; {FORMS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_795_180_320_000;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse("24h", NOW), Ok(NOW - 86_400_000));
        assert_eq!(parse(" 1h 30m ", NOW), Ok(NOW - 5_400_000));
        assert_eq!(parse("now", NOW), Ok(NOW));
        assert_eq!(parse("2026-11-20T13:12:00Z", NOW), Ok(NOW));
        assert_eq!(parse("2026-11-20T14:12:00+01:00", NOW), Ok(NOW));
        let [day, moment] = ["2026-11-19", "2026-11-19 06:30"].map(|text| parse(text, NOW).unwrap());
        assert_eq!(moment - day, 6 * 3_600_000 + 30 * 60_000);
        assert_eq!(parse("2026-11-19T06:30:00", NOW), Ok(moment));
        assert_eq!(parse("100000000y", NOW), Ok(0), "as early as there is");
    }

    #[test]
    fn what_is_no_time_is_told_with_what_would_be() {
        for text in ["", "yesterday", "2026-13-01", "2026-02-30", "24", "-1h", "2026-11-20T25:00:00Z", "\u{1b}[2J"] {
            let said = parse(text, NOW).unwrap_err();
            assert!(said.contains("RFC 3339") && !said.contains('\u{1b}'), "{said}");
        }
    }
}

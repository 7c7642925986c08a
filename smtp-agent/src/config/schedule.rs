//! Days and hours at which limits of their own hold.

use super::{plan::Quotas, render::quoted, values::Advice};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Days of the week, Monday in bit 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Days(pub u8);

impl Days {
    pub const ALL: Self = Self(0x7f);

    /// `weekday` is 0 for Monday.
    pub const fn contains(self, weekday: u8) -> bool {
        self.0 >> (weekday % 7) & 1 == 1
    }

    /// A day or a range of days, which may pass Sunday.
    pub(super) fn parse(text: &str) -> Result<Self, Advice> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (Some(from), Some(to)) = (day(from), day(to)) else {
            let message = format!("\"{}\" is not a day or a range of days", quoted(text));
            return Err((message, Some(day_hint(text))));
        };
        let length = (to + 7 - from) % 7 + 1;
        Ok(Self((0..length).fold(0, |days, n| days | 1 << ((from + n) % 7))))
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The index of a day by its short name.
fn day(text: &str) -> Option<usize> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim()))
}

fn day_hint(text: &str) -> String {
    let short = |word: &str| -> Option<String> {
        let start: String = word.trim().chars().take(3).collect();
        Some(DAYS[day(&start)?].to_owned())
    };
    let parts: Option<Vec<String>> = text.split(['-', '–']).map(short).collect();
    match parts.as_deref() {
        Some([one]) => format!("write \"{one}\""),
        Some([from, to]) => format!("write \"{from}-{to}\""),
        _ => format!("write {} or a range such as \"mon-fri\"", DAYS.map(|day| format!("\"{day}\"")).join(", ")),
    }
}

/// `[[plan.NAME.schedule]]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    pub days: Days,
    /// Minutes of the day, from 0 to 1439 and from 1 to 1440. Where `to` is not after `from`, the span passes midnight
    /// and belongs to the day on which it begins.
    pub from: u16,
    pub to: u16,
    /// What stands in the place of the plan's limits.
    pub quotas: Quotas,
}

impl Schedule {
    /// Whether it holds at a minute of a day of the week, 0 for Monday.
    pub fn holds(&self, weekday: u8, minute: u16) -> bool {
        let today = self.days.contains(weekday);
        if self.from < self.to {
            return today && (self.from..self.to).contains(&minute);
        }
        let yesterday = self.days.contains((weekday + 6) % 7);
        today && minute >= self.from || yesterday && minute < self.to
    }

    /// Whether there is a minute at which it holds and none of the earlier ones does. Such a stretch begins where this
    /// one does, at midnight, or where an earlier one ends.
    pub(super) fn can_hold(&self, earlier: &[Self]) -> bool {
        let mut starts = earlier.iter().map(|other| other.to % DAY).chain([self.from, 0]);
        let free =
            |weekday, minute| self.holds(weekday, minute) && !earlier.iter().any(|other| other.holds(weekday, minute));
        starts.any(|minute| (0..7).any(|weekday| free(weekday, minute)))
    }

    /// Whether it holds at all times.
    pub(super) fn is_always(&self) -> bool {
        self.days == Days::ALL && (self.from, self.to) == WHOLE_DAY
    }
}

pub(super) const WHOLE_DAY: (u16, u16) = (0, DAY);

/// "08:00-18:00" in minutes of the day.
pub(super) fn parse_hours(text: &str) -> Result<(u16, u16), Advice> {
    let spans = |separator| text.split_once(separator).map(|(from, to)| (clock(from), clock(to)));
    let wrong = |hint: Option<String>| {
        (format!("`hours` must be a span such as \"08:00-18:00\", not \"{}\"", quoted(text)), hint)
    };
    match spans('-') {
        Some((Some(from), Some(to))) if from == DAY => {
            Err(wrong(Some(format!("write \"00:00-{:02}:{:02}\": 24:00 only ends a day", to / 60, to % 60))))
        }
        Some((Some(from), Some(to))) if from == to => {
            Err((format!("\"{}\" lasts no time", quoted(text)), Some("leave `hours` out for the whole day".to_owned())))
        }
        Some((Some(from), Some(to))) => Ok((from, if to == 0 { DAY } else { to })),
        _ => Err(wrong(hours_hint(text))),
    }
}

/// Minutes of the day at "08:00".
fn clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str, lengths: &[usize]| -> Option<u16> {
        let digits = lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let (hour, minute) = (number(hour, &[1, 2])?, number(minute, &[2])?);
    (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
}

/// Whole hours, another dash: what was meant can be told.
fn hours_hint(text: &str) -> Option<String> {
    let (from, to) = text.split_once(['-', '–', '—'])?;
    let whole = |text: &str| {
        let text = text.trim();
        clock(text).or_else(|| clock(&format!("{text}:00"))).map(|at| format!("{:02}:{:02}", at / 60, at % 60))
    };
    Some(format!("write \"{}-{}\"", whole(from)?, whole(to)?))
}

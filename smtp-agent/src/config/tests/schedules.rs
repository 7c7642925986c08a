//! Days and hours: how they are written, and when they hold.

use proptest::prelude::*;

use super::{cases, config};
use crate::config::{Days, Quotas, Schedule};

/// Places are those of the second line and those after it.
fn schedule(keys: &str) -> String {
    format!("[[plan.a.schedule]]\nper_hour = 5\n{keys}")
}

cases! {
    a_schedule_has_days_and_hours: &schedule("days = [\"mon-fri\", \"SUN\"]\nhours = \"08:00-18:30\"") => [];
    a_day_ends_at_24_00: &schedule("hours = \"18:00-24:00\"") => [];
    hours_may_pass_midnight: &schedule("hours = \"22:00-6:00\"") => [];
    days_may_pass_sunday: &schedule("days = [\"sat-mon\"]") => [];
    blanks_around_the_dash_do_no_harm: &schedule("days = [\"mon - fri\"]\nhours = \"08:00 - 18:00\"") => [];

    a_schedule_has_a_limit: "[plan.a]\nper_day = 1\n[[plan.a.schedule]]\ndays = [\"mon\"]" => [
        "error 3:1: this schedule has no limit -> add per_hour or another limit",
    ];
    a_schedule_with_a_wrong_limit_is_not_called_limitless: "[[plan.a.schedule]]\ndays = [\"mon\"]\nper_hour = true" => [
        "error 3:12: `per_hour` must be a whole number from 0 to 1000000000, not true",
    ];
    a_schedule_is_one_of_a_list: "[plan.a.schedule]\nper_day = 1" => [
        "error 1:9: `schedule` must be a list of tables, not a single one -> write [[plan.a.schedule]], in double brackets",
    ];
    a_schedule_is_a_table: "[plan.a]\nper_day = 1\nschedule = [\"mon\"]" => [
        "error 3:13: a schedule must be a table, not a text",
    ];
    a_schedule_has_no_soft_band_of_its_own: &schedule("days = [\"mon\"]\nsoft_percent = 150") => [
        "error 4:1: unknown key `soft_percent` in [[plan.a.schedule]] -> `soft_percent` belongs in [plan.NAME]",
    ];
    thirty_two_schedules_fit: &(0..32).map(|n| format!("{}\n", schedule(&format!("hours = \"00:{n:02}-00:{:02}\"", n + 1)))).collect::<String>() => [];
    thirty_three_schedules_do_not: &(0..33).map(|n| format!("{}\n", schedule(&format!("hours = \"00:{n:02}-00:{:02}\"", n + 1)))).collect::<String>() => [
        "error 97:1: a plan takes up to 32 schedules, not 33",
    ];

    a_day_is_written_short: &schedule("days = [\"monday\"]") => [
        "error 3:9: \"monday\" is not a day or a range of days -> write \"mon\"",
    ];
    a_range_of_days_is_written_short: &schedule("days = [\"Monday–Friday\"]") => [
        "error 3:9: \"Monday–Friday\" is not a day or a range of days -> write \"mon-fri\"",
    ];
    a_word_that_is_no_day_gets_all_of_them: &schedule("days = [\"weekend\"]") => [
        "error 3:9: \"weekend\" is not a day or a range of days \
         -> write \"mon\", \"tue\", \"wed\", \"thu\", \"fri\", \"sat\", \"sun\" or a range such as \"mon-fri\"",
    ];
    days_are_a_list: &schedule("days = \"mon-fri\"") => [
        "error 3:8: `days` must be a list of days, not a text -> write days = [\"mon-fri\"]",
    ];
    days_are_no_numbers: &schedule("days = [1]") => [
        "error 3:9: `days` takes days in quotes, not a number -> write days = [\"mon-fri\"]",
    ];
    no_day_at_all_never_holds: &schedule("days = []") => [
        "error 3:8: `days` is empty: it would never hold -> leave the key out for every day",
    ];

    whole_hours_have_minutes_too: &schedule("hours = \"8-18\"") => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"8-18\" -> write \"08:00-18:00\"",
    ];
    another_dash_is_understood: &schedule("hours = \"08:00–18:00\"") => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"08:00–18:00\" -> write \"08:00-18:00\"",
    ];
    hours_are_a_span: &schedule("hours = \"08:00\"") => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"08:00\"",
    ];
    an_hour_has_60_minutes: &schedule("hours = \"08:60-18:00\"") => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"08:60-18:00\"",
    ];
    a_day_has_24_hours: &schedule("hours = \"08:00-24:01\"") => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"08:00-24:01\"",
    ];
    a_day_does_not_begin_at_24_00: &schedule("hours = \"24:00-06:00\"") => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"24:00-06:00\" \
         -> write \"00:00-06:00\": 24:00 only ends a day",
    ];
    a_span_lasts_some_time: &schedule("hours = \"08:00-08:00\"") => [
        "error 3:9: \"08:00-08:00\" lasts no time -> leave `hours` out for the whole day",
    ];
    several_spans_are_several_schedules: &schedule("hours = [\"08:00-12:00\"]") => [
        "error 3:9: `hours` must be one span such as \"08:00-18:00\", not a list -> write one schedule for each span",
    ];
    signs_are_no_part_of_an_hour: &schedule("hours = \"+8:00--9:00\"") => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"+8:00--9:00\"",
    ];

    a_schedule_without_days_and_hours_always_holds: &schedule("") => [
        "warning 1:1: this schedule always holds, and the plan's own limits never do \
         -> add days or hours, or write its limits in the plan",
    ];
    a_schedule_below_one_that_covers_it_never_holds: &format!("{}\n{}", schedule("hours = \"06:00-20:00\""), schedule("days = [\"mon\"]\nhours = \"06:00-20:00\"")) => [
        "warning 4:1: this schedule never holds: the ones above it hold at all its times \
         -> write it above them, or remove it",
    ];
    a_schedule_that_two_cover_together_never_holds: &[
        schedule("hours = \"06:00-12:00\"\n"),
        schedule("hours = \"12:00-20:00\"\n"),
        schedule("hours = \"08:00-18:00\""),
    ].concat() => [
        "warning 7:1: this schedule never holds: the ones above it hold at all its times \
         -> write it above them, or remove it",
    ];
    a_schedule_that_holds_a_minute_longer_is_right: &[
        schedule("hours = \"06:00-20:00\"\n"),
        schedule("days = [\"mon\"]\nhours = \"06:00-20:01\""),
    ].concat() => [];
    what_cannot_be_read_covers_nothing: &[schedule("hours = \"6 to 20\"\n"), schedule("hours = \"06:00-20:00\"")].concat() => [
        "error 3:9: `hours` must be a span such as \"08:00-18:00\", not \"6 to 20\"",
    ];
    an_hour_above_the_day_of_the_plan_says_nothing: "[plan.a]\nper_day = 4\n[[plan.a.schedule]]\nper_hour = 5\ndays = [\"mon\"]" => [
        "warning 4:12: `per_hour` is never reached: `per_day` of plan `a` is 4",
    ];
    a_total_below_a_scheduled_limit_is_suspicious: "[plan.a.total]\nper_day = 5\n[[plan.a.schedule]]\nper_day = 6\ndays = [\"mon\"]" => [
        "warning 2:11: `per_day` of one account is never reached: it is 6 on line 4, and all together may 5 \
         -> a total is for the whole plan",
    ];
    scheduled_messages_need_them_followed: "[smtp]\nmessages = false\n[[plan.a.schedule]]\nmessages_per_day = 6\ndays = [\"mon\"]" => [
        "error 4:20: `messages_per_day` cannot hold: `messages` in [smtp] is false on line 2, so none are counted \
         -> remove one of the two",
    ];
}

/// The schedule of a text, by its days and hours.
fn read(days: &str, hours: &str) -> Schedule {
    config(&schedule(&format!("days = {days}\nhours = \"{hours}\""))).plans[0].schedules[0]
}

const MONDAY: u8 = 0;
const TUESDAY: u8 = 1;
const SUNDAY: u8 = 6;

#[test]
fn a_span_holds_from_its_first_minute_to_the_one_before_its_end() {
    let schedule = read("[\"mon\", \"wed-thu\"]", "08:00-18:30");
    assert_eq!((schedule.days, schedule.from, schedule.to), (Days(0b1101), 480, 1110));
    let minutes = [479, 480, 1109, 1110];
    assert_eq!(minutes.map(|minute| schedule.holds(MONDAY, minute)), [false, true, true, false]);
    assert_eq!(minutes.map(|minute| schedule.holds(TUESDAY, minute)), [false; 4]);
}

#[test]
fn a_span_that_passes_midnight_belongs_to_the_day_on_which_it_begins() {
    let night = read("[\"mon\"]", "22:00-06:00");
    assert_eq!([1319, 1320, 1439].map(|minute| night.holds(MONDAY, minute)), [false, true, true]);
    assert_eq!([0, 359, 360, 1320].map(|minute| night.holds(TUESDAY, minute)), [true, true, false, false]);
    assert!(!night.holds(MONDAY, 0), "Sunday's night is another one");
    let sunday = read("[\"sun\"]", "23:00-01:00");
    assert!(sunday.holds(SUNDAY, 1380) && sunday.holds(MONDAY, 59) && !sunday.holds(MONDAY, 60));
}

#[test]
fn midnight_ends_a_day_in_either_way_of_writing_it() {
    assert_eq!(read("[\"mon\"]", "22:00-00:00"), read("[\"mon\"]", "22:00-24:00"));
    assert!(!read("[\"mon\"]", "22:00-00:00").holds(TUESDAY, 0));
}

#[test]
fn a_range_of_days_may_pass_sunday() {
    assert_eq!(read("[\"sat-mon\"]", "08:00-09:00").days, Days(0b110_0001));
    assert_eq!(read("[\"sun-sun\"]", "08:00-09:00").days, Days(0b100_0000));
}

#[test]
fn the_first_schedule_that_holds_is_taken_and_what_it_leaves_out_is_the_plans() {
    let text = "[plan.a]\nper_hour = 10\nmessages_per_day = 90\n\
                [[plan.a.schedule]]\ndays = [\"mon\"]\nper_hour = 1\n\
                [[plan.a.schedule]]\nhours = \"08:00-18:00\"\nper_hour = 2\nper_day = 20";
    let plan = &config(text).plans[0];
    let at = |weekday, minute| {
        let Quotas { connections, messages, recipients } = plan.quotas_at(weekday, minute);
        assert_eq!((messages.per_day, recipients.per_day), (Some(90), None));
        (connections.per_hour, connections.per_day)
    };
    assert_eq!(at(MONDAY, 600), (Some(1), None), "not the second's day");
    assert_eq!(at(TUESDAY, 600), (Some(2), Some(20)));
    assert_eq!(at(TUESDAY, 1200), (Some(10), None));
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    // Hours alone, so that one often ends where another begins.
    (1..128_u8, 0..24_u16, 1..=24_u16).prop_filter_map("lasts no time", |(days, from, to)| {
        let schedule = Schedule { days: Days(days), from: from * 60, to: to * 60, quotas: Quotas::default() };
        (from != to).then_some(schedule)
    })
}

proptest! {
    #[test]
    fn a_schedule_can_hold_when_there_is_a_minute_that_the_earlier_ones_leave(
        schedules in prop::collection::vec(any_schedule(), 1..6)
    ) {
        let (last, earlier) = schedules.split_last().unwrap();
        let mut minutes = (0..7).flat_map(|weekday| (0..1440).map(move |minute| (weekday, minute)));
        let free = minutes.any(|(day, minute)| last.holds(day, minute) && !earlier.iter().any(|s| s.holds(day, minute)));
        prop_assert_eq!(last.can_hold(earlier), free);
    }
}

//! Charts as inline SVG: shapes and texts, nothing that runs and nothing from elsewhere.

use std::fmt::Write;

use super::{html::escape, numbers::grouped, summary::Point};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 180.0;
/// Room for numbers at the left and times below.
const LEFT: f64 = 64.0;
const BELOW: f64 = 24.0;
/// Two that colour-blind people tell apart.
const PASSED: &str = "#2f6db3";
const STOPPED: &str = "#d9822b";

/// A number that an axis may end with, no smaller than the largest value.
fn ceiling(largest: i64) -> i64 {
    let mut unit = 1_i64;
    while let Some(next) = unit.checked_mul(10) {
        for step in [1, 2, 5] {
            if unit * step >= largest {
                return unit * step;
            }
        }
        unit = next;
    }
    i64::MAX
}

/// Attempts by time, those that passed below those that were stopped. `step` is the length of a stretch in milliseconds.
pub fn over_time(points: &[Point], step: i64) -> String {
    let [Some(first), Some(last)] = [points.first(), points.last()] else {
        return "<p>No attempts in this period.</p>\n".to_owned();
    };
    let stretches = ((last.millis - first.millis) / step + 1).max(1);
    let top = ceiling(points.iter().map(|point| point.numbers.attempts).max().unwrap_or(0).max(1));
    let (width, height) = (WIDTH - LEFT, HEIGHT - BELOW);
    let bar = width / stretches as f64;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"100%\" role=\"img\" aria-label=\"Attempts over time\" \
         font-family=\"sans-serif\" font-size=\"11\">\n"
    );
    for part in [0.0, 0.5, 1.0] {
        let y = height - part * (height - 8.0);
        let value = grouped((top as f64 * part).round() as i64);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{value}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for point in points {
        let x = LEFT + (point.millis - first.millis) as f64 / step as f64 * bar;
        let tall = |n: i64| n.max(0) as f64 / top as f64 * (height - 8.0);
        let stopped = point.numbers.stopped;
        let (passed, over) = (tall(point.numbers.attempts - stopped), tall(stopped));
        let title =
            format!("{}: {} attempts, {} stopped", point.time, grouped(point.numbers.attempts), grouped(stopped));
        let gap = if bar > 4.0 { 1.0 } else { 0.0 };
        let _ = writeln!(
            out,
            "<g><title>{}</title><rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{passed:.1}\" fill=\"{PASSED}\"/>\
             <rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{over:.1}\" fill=\"{STOPPED}\"/></g>",
            escape(&title),
            height - passed,
            bar - gap,
            height - passed - over,
            bar - gap
        );
    }
    for (x, anchor, point) in [(LEFT, "start", first), (WIDTH, "end", last)] {
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"#555\">{}</text>",
            HEIGHT - 6.0,
            escape(&point.time)
        );
    }
    out + "</svg>\n"
}

/// A bar for each line, its stopped part at the end.
pub fn bars<'a>(lines: impl Iterator<Item = (&'a str, i64, i64)>) -> String {
    const BAR: f64 = 20.0;
    const NAMES: f64 = 260.0;
    let lines: Vec<_> = lines.collect();
    let most = lines.iter().map(|(_, attempts, _)| *attempts).max().unwrap_or(0).max(1) as f64;
    let height = BAR * lines.len() as f64 + 4.0;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\" role=\"img\" aria-label=\"Attempts by line\" \
         font-family=\"sans-serif\" font-size=\"11\">\n"
    );
    for (n, (name, attempts, stopped)) in lines.into_iter().enumerate() {
        let y = BAR * n as f64;
        let room = WIDTH - NAMES - 80.0;
        let long = |n: i64| n.max(0) as f64 / most * room;
        let (passed, over) = (long(attempts - stopped), long(stopped));
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#222\">{}</text>\
             <rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{passed:.1}\" height=\"14\" fill=\"{PASSED}\"/>\
             <rect x=\"{:.1}\" y=\"{:.1}\" width=\"{over:.1}\" height=\"14\" fill=\"{STOPPED}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\">{}</text>",
            NAMES - 6.0,
            y + 14.0,
            escape(&shortened(name)),
            y + 3.0,
            NAMES + passed,
            y + 3.0,
            NAMES + passed + over + 6.0,
            y + 14.0,
            grouped(attempts)
        );
    }
    out + "</svg>\n"
}

/// The end of a path tells more than its beginning.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 40;
    let length = name.chars().count();
    if length <= LONGEST {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(length - LONGEST + 1).collect::<String>())
    }
}

/// What the colours mean.
pub fn legend() -> String {
    format!(
        "<p><svg width=\"12\" height=\"12\"><rect width=\"12\" height=\"12\" fill=\"{PASSED}\"/></svg> passed \
         <svg width=\"12\" height=\"12\"><rect width=\"12\" height=\"12\" fill=\"{STOPPED}\"/></svg> stopped, or would be</p>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_with_a_round_number() {
        for (largest, end) in [(1, 1), (3, 5), (7, 10), (11, 20), (1_030, 2_000), (i64::MAX, i64::MAX)] {
            assert_eq!(ceiling(largest), end);
        }
    }

    #[test]
    fn the_end_of_a_long_path_is_shown() {
        let shown = shortened(&format!("/home/{}/send.php", "x".repeat(100)));
        assert!(shown.starts_with('…') && shown.ends_with("x/send.php") && shown.chars().count() == 40, "{shown}");
    }
}

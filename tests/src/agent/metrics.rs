//! The text format of Prometheus (version 0.0.4), as far as a test must read it.

use std::collections::BTreeMap;

/// One line of an exposition.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Series {
    /// The value of a label, empty when it has none: to Prometheus that is the same.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// One scrape.
#[derive(Clone, PartialEq, Debug)]
pub struct Metrics(Vec<Series>);

impl Metrics {
    /// Reads an exposition; the error names the line that is not in the format.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| series(line).ok_or_else(|| format!("not a metric: {line:?}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Every series of this name.
    pub fn series(&self, name: &str) -> Vec<&Series> {
        self.0.iter().filter(|series| series.name == name).collect()
    }

    pub fn all(&self) -> &[Series] {
        &self.0
    }

    /// The sum of all series with this name and these labels, whatever other labels they have: 0 when
    /// there are none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or(0.0)
    }

    /// Like [`Self::value`], but `None` when there is no such series.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching = |series: &&&Series| labels.iter().all(|(label, value)| series.label(label) == *value);
        self.series(name).iter().filter(matching).map(|series| series.value).reduce(|a, b| a + b)
    }
}

fn series(line: &str) -> Option<Series> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.insert(label.to_string(), value);
            rest = after;
        }
    }
    // A time stamp may follow.
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    (!name.is_empty()).then(|| Series { name: name.into(), labels, value })
}

/// Reads up to the closing quote, and returns what comes after it too.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_and_summed_by_name_and_labels() {
        let text = "# HELP a_total A.\n# TYPE a_total counter\na_total{user=\"x\",port=\"25\"} 3\n\
                    a_total{user=\"x\",port=\"465\"} 4 1700000000\na_total{user=\"q\\\"}, \\\\\\n\",} 1e3\nb +Inf\n";
        let metrics = Metrics::parse(text).unwrap();
        assert_eq!(metrics.value("a_total", &[("user", "x")]), 7.0);
        assert_eq!(metrics.value("a_total", &[("port", "465"), ("user", "x")]), 4.0);
        assert_eq!(metrics.value("a_total", &[("user", "q\"}, \\\n")]), 1000.0);
        assert_eq!(metrics.find("a_total", &[("user", "y")]), None);
        assert_eq!(metrics.value("b", &[]), f64::INFINITY);
        assert_eq!(metrics.series("a_total").len(), 3);
    }

    #[test]
    fn what_is_not_in_the_format_is_named() {
        for line in ["a_total", "a{b=\"c} 1", "a{b} 1", "a{} x", "{a=\"b\"} 1"] {
            assert_eq!(Metrics::parse(line), Err(format!("not a metric: {line:?}")));
        }
    }
}

//! Typed access to a parsed table: every wrong type, range and key becomes a problem with its place.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    nearest::{either, nearest},
    place::{Place, Source, Spot},
    plan::MAX_LIMIT,
    problem::{Problem, Problems},
    render::quoted,
    sections::{SECTIONS, keys_of, title},
    values::Advice,
};

/// A table whose keys are known to be valid ones.
pub(super) struct Section<'t> {
    keys: &'static [&'static str],
    table: &'t DeTable<'t>,
    /// Some keys are unknown: what seems to be missing may be one of them.
    pub(super) has_unknown: bool,
}

impl<'t> Section<'t> {
    pub(super) fn get(&self, key: &'static str) -> Option<Entry<'t>> {
        debug_assert!(self.keys.contains(&key), "{key} is missing in SECTIONS");
        let (name, value) = self.table.get_key_value(key)?;
        Some(Entry { key, name: name.span(), value })
    }
}

/// A key and its value.
#[derive(Clone)]
pub(super) struct Entry<'t> {
    pub(super) key: &'static str,
    /// Where the key stands.
    pub(super) name: Range<usize>,
    pub(super) value: &'t Spanned<DeValue<'t>>,
}

/// Reads one file.
pub(super) struct Reader<'a> {
    pub(super) source: &'a Arc<Source>,
    problems: &'a mut Problems,
    /// Lines that the parser had to guess. It has said what is wrong there; what follows from it is noise.
    guessed: Vec<Range<usize>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Arc<Source>, problems: &'a mut Problems, guessed: Vec<Range<usize>>) -> Self {
        Self { source, problems, guessed }
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.source, span)
    }

    pub(super) fn report(&mut self, problem: Problem) {
        let line = problem.place.as_ref().map(|place| place.line() - 1);
        let noise = line.is_some_and(|line| {
            let after = self.guessed.partition_point(|lines| lines.start <= line);
            self.guessed[..after].last().is_some_and(|lines| lines.contains(&line))
        });
        if !noise {
            self.problems.push(problem);
        }
    }

    /// True when hints would not be shown any more.
    pub(super) fn is_full(&self) -> bool {
        self.problems.is_full()
    }

    pub(super) fn spot<T>(&self, value: T, node: &Spanned<DeValue<'_>>) -> Spot<T> {
        Spot::new(value, self.place(node.span()))
    }

    pub(super) fn wrong(&mut self, node: &Spanned<DeValue<'_>>, message: String, hint: Option<String>) {
        let place = self.place(node.span());
        self.report(Problem::error(message).at(place).hint_opt(hint));
    }

    /// Checks the keys of `table` against those of `name` in [`SECTIONS`]; `title` is how messages call it.
    pub(super) fn section<'t>(&mut self, name: &str, title: &str, table: &'t DeTable<'t>) -> Section<'t> {
        let keys = keys_of(name);
        let mut has_unknown = false;
        for (key, value) in table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            has_unknown = true;
            let word: &str = key.get_ref();
            let what = if matches!(value.get_ref(), DeValue::Table(_)) { "table" } else { "key" };
            let place = self.place(key.span());
            let hint = if self.is_full() { String::new() } else { unknown_key_hint(word, name, keys) };
            self.report(Problem::error(format!("unknown {what} `{}` {title}", quoted(word))).at(place).hint(hint));
        }
        Section { keys, table, has_unknown }
    }

    /// The table `[key]` of the top level.
    pub(super) fn open<'t>(&mut self, root: &Section<'t>, key: &'static str) -> Option<Section<'t>> {
        let entry = root.get(key)?;
        let table = self.table(&entry, key)?;
        Some(self.section(key, &format!("in [{key}]"), table))
    }

    /// A table; `title` is what stands in the brackets of its header.
    pub(super) fn table<'t>(&mut self, entry: &Entry<'t>, title: &str) -> Option<&'t DeTable<'t>> {
        if let DeValue::Table(table) = entry.value.get_ref() {
            return Some(table);
        }
        let key = entry.key;
        let place = self.place(entry.name.clone());
        let what = describe(entry.value.get_ref());
        let hint = match entry.value.get_ref() {
            DeValue::Array(_) => format!("write [{title}], in single brackets and once"),
            _ => format!("write [{title}] on a line of its own and its keys below"),
        };
        self.report(Problem::error(format!("`{key}` is a table, not {what}")).at(place).hint(hint));
        None
    }

    /// A list of tables, each with its header; `title` is what stands in the brackets, `one` what messages call each.
    pub(super) fn tables<'t>(
        &mut self,
        entry: &Entry<'t>,
        title: &str,
        one: &str,
    ) -> Vec<(&'t Spanned<DeValue<'t>>, &'t DeTable<'t>)> {
        let DeValue::Array(list) = entry.value.get_ref() else {
            let found = match entry.value.get_ref() {
                DeValue::Table(_) => "a single one",
                other => describe(other),
            };
            let at = self.place(entry.name.clone());
            let problem = Problem::error(format!("`{}` must be a list of tables, not {found}", entry.key));
            self.report(problem.at(at).hint(format!("write [[{title}]], in double brackets")));
            return Vec::new();
        };
        let table = |node: &'t Spanned<DeValue<'t>>| match node.get_ref() {
            DeValue::Table(table) => Some((node, table)),
            other => {
                self.wrong(node, format!("{one} must be a table, not {}", describe(other)), None);
                None
            }
        };
        list.iter().filter_map(table).collect()
    }

    pub(super) fn wrong_type(&mut self, entry: &Entry<'_>, wanted: &str, hint: Option<String>) {
        let what = describe(entry.value.get_ref());
        self.wrong(entry.value, format!("`{}` must be {wanted}, not {what}", entry.key), hint);
    }

    pub(super) fn boolean(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<bool>> {
        let entry = entry?;
        match entry.value.get_ref() {
            DeValue::Boolean(value) => Some(self.spot(*value, entry.value)),
            other => {
                let meant = match other {
                    DeValue::String(text) => match text.to_lowercase().as_str() {
                        "true" | "yes" | "on" | "1" => Some(true),
                        "false" | "no" | "off" | "0" => Some(false),
                        _ => None,
                    },
                    DeValue::Integer(number) => Some(number.as_str() != "0"),
                    _ => None,
                };
                let hint = meant.map(|value| format!("write {} = {value}", entry.key));
                self.wrong_type(&entry, "true or false", hint);
                None
            }
        }
    }

    pub(super) fn text(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<String>> {
        let entry = entry?;
        if let DeValue::String(text) = entry.value.get_ref() {
            return Some(self.spot(text.to_string(), entry.value));
        }
        self.wrong_type(&entry, "a text in quotes", None);
        None
    }

    pub(super) fn list<'t>(
        &mut self,
        entry: &Entry<'t>,
        wanted: &str,
    ) -> Option<impl Iterator<Item = &'t Spanned<DeValue<'t>>> + use<'t>> {
        if let DeValue::Array(list) = entry.value.get_ref() {
            return Some(list.iter());
        }
        let hint = match entry.value.get_ref() {
            DeValue::String(_) | DeValue::Integer(_) => {
                let written = &self.source.text()[self.place(entry.value.span()).range()];
                Some(format!("write {} = [{}]", entry.key, quoted(written)))
            }
            _ => None,
        };
        self.wrong_type(entry, &format!("a list of {wanted}"), hint);
        None
    }

    /// A text in a list, or where a text alone stands for the value.
    pub(super) fn text_in<'t>(
        &mut self,
        entry: &Entry<'_>,
        node: &'t Spanned<DeValue<'t>>,
        wanted: &str,
    ) -> Option<&'t str> {
        if let DeValue::String(text) = node.get_ref() {
            return Some(text);
        }
        let found = describe(node.get_ref());
        self.wrong(node, format!("`{}` takes {wanted} in quotes, not {found}", entry.key), None);
        None
    }

    /// A list of at most so many texts, each as `parse` reads it. One that is wrong is told and left out.
    pub(super) fn texts<T>(
        &mut self,
        entry: &Entry<'_>,
        wanted: &str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, Advice>,
    ) -> Option<Vec<T>> {
        let list: Vec<_> = self.list(entry, wanted)?.collect();
        if let Some(surplus) = list.get(most) {
            self.wrong(surplus, format!("`{}` takes up to {most} {wanted}, not {}", entry.key, list.len()), None);
        }
        let mut all = Vec::new();
        for node in list {
            let Some(text) = self.text_in(entry, node, wanted) else { continue };
            match parse(text) {
                Ok(value) => all.push(value),
                Err((message, hint)) => self.wrong(node, message, hint),
            }
        }
        Some(all)
    }

    /// One word of a closed list.
    pub(super) fn word<T: Copy>(&mut self, entry: Option<Entry<'_>>, words: &[(&'static str, T)]) -> Option<Spot<T>> {
        let entry = entry?;
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let DeValue::String(text) = entry.value.get_ref() else {
            self.wrong_type(&entry, &in_quotes(&names), None);
            return None;
        };
        match words.iter().find(|(name, _)| name == text) {
            Some((_, value)) => Some(self.spot(*value, entry.value)),
            None => {
                let hint = nearest(text, names.iter().copied()).map(|name| format!("did you mean \"{name}\"?"));
                let message = format!("`{}` must be {}, not \"{}\"", entry.key, in_quotes(&names), quoted(text));
                self.wrong(entry.value, message, hint);
                None
            }
        }
    }

    pub(super) fn number(&mut self, entry: Option<Entry<'_>>, range: RangeInclusive<u32>) -> Option<Spot<u32>> {
        let entry = entry?;
        let node = entry.value;
        self.number_in(entry.key, node, range, &|_| None)
    }

    /// `per_hour`, `messages_per_day` and so on: the slips here have to do with "no limit".
    pub(super) fn limit(&mut self, entry: Option<Entry<'_>>) -> Option<Spot<u32>> {
        let entry = entry?;
        let node = entry.value;
        self.number_in(entry.key, node, 0..=MAX_LIMIT, &|value| {
            let unlimited = match value {
                DeValue::Integer(number) => number.as_str().starts_with('-'),
                DeValue::Boolean(value) => !value,
                DeValue::Float(_) => node_is_infinite(value),
                DeValue::String(text) => ["none", "off", "never", "unlimited", "infinite", "inf", "no", "-1", ""]
                    .contains(&text.to_lowercase().as_str()),
                _ => false,
            };
            unlimited.then(|| "for no limit leave the key out".to_owned())
        })
    }

    /// `key` names the value in messages; `advise` may know a better hint than the obvious one.
    pub(super) fn number_in(
        &mut self,
        key: &str,
        node: &Spanned<DeValue<'_>>,
        range: RangeInclusive<u32>,
        advise: &dyn Fn(&DeValue<'_>) -> Option<String>,
    ) -> Option<Spot<u32>> {
        let value = node.get_ref();
        let (low, high) = (range.start(), range.end());
        if let DeValue::Integer(number) = value {
            match u32::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) if range.contains(&number) => return Some(self.spot(number, node)),
                _ => {
                    let message = format!("`{key}` must be from {low} to {high}, not {}", quoted(&number.to_string()));
                    self.wrong(node, message, advise(value));
                    return None;
                }
            }
        }
        let plain = match value {
            DeValue::String(text) => text.trim().parse::<u32>().ok().filter(|number| range.contains(number)),
            DeValue::Float(text) => text.as_str().strip_suffix(".0").and_then(|whole| whole.parse::<u32>().ok()),
            _ => None,
        };
        let hint = advise(value).or_else(|| plain.map(|number| format!("write {number}")));
        let message = format!("`{key}` must be a whole number from {low} to {high}, not {}", describe(value));
        self.wrong(node, message, hint);
        None
    }
}

fn node_is_infinite(value: &DeValue<'_>) -> bool {
    matches!(value, DeValue::Float(number) if number.as_str().ends_with("inf"))
}

fn in_quotes(words: &[&str]) -> String {
    either(&words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>())
}

/// What a value is, for people.
pub(super) fn describe(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A slip of the finger; else a key that belongs in another table, which is how TOML's "everything below
/// a header is part of it" shows; else all there is to choose from.
fn unknown_key_hint(word: &str, section: &str, keys: &[&str]) -> String {
    if let Some(key) = nearest(word, keys.iter().copied()) {
        return format!("did you mean `{key}`?");
    }
    let homes: Vec<&str> = SECTIONS
        .iter()
        .filter(|(name, keys)| *name != section && keys.contains(&word))
        .map(|(name, _)| *name)
        .collect();
    // Limits have so many homes that those within plans would hide the others; and what is a table at the top of the
    // file is not what was meant by a key.
    let is_table = SECTIONS.iter().any(|(name, _)| *name == word);
    let outer = homes.iter().filter(|name| !(name.contains('.') || is_table && name.is_empty()));
    let outer: Vec<String> = outer.map(|name| title(name)).collect();
    let homes = if outer.is_empty() { homes.into_iter().map(title).collect() } else { outer };
    if !homes.is_empty() {
        return format!("`{word}` belongs {}", either(&homes));
    }
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    format!("valid here: {}", keys.join(", "))
}

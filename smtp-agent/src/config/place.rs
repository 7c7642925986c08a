//! Where something stands: a file and a range of bytes in it.

use std::{
    fmt,
    ops::Range,
    sync::{Arc, OnceLock},
};

use super::render::escape;

/// A text that was read, kept for showing its lines.
pub struct Source {
    name: String,
    text: String,
    /// Offset of the first byte of each line. Only counted when a line is asked for, and in most files none is.
    lines: OnceLock<Vec<usize>>,
    /// Rank among the files of one configuration: 0 for the main file.
    order: usize,
}

impl Source {
    /// `name` is the path as the user would write it.
    pub fn new(name: impl Into<String>, text: impl Into<String>, order: usize) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into(), lines: OnceLock::new(), order })
    }

    /// Where the first line begins: an editor's byte order mark is not part of it.
    fn start(&self) -> usize {
        if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
    }

    fn lines(&self) -> &[usize] {
        self.lines.get_or_init(|| {
            let breaks = self.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
            std::iter::once(self.start()).chain(breaks).collect()
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn order(&self) -> usize {
        self.order
    }

    /// Index from 0 of the line that holds the byte at `offset`.
    pub(super) fn line_index(&self, offset: usize) -> usize {
        self.lines().partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Byte range of a line, its line break left out.
    pub(super) fn line_range(&self, index: usize) -> Range<usize> {
        let start = self.lines()[index];
        let end = self.lines().get(index + 1).map_or(self.text.len(), |next| next - 1);
        let line = &self.text[start..end];
        start..start + line.strip_suffix('\r').unwrap_or(line).len()
    }

    pub(super) fn line(&self, index: usize) -> &str {
        &self.text[self.line_range(index)]
    }

    pub(super) fn line_count(&self) -> usize {
        self.lines().len()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.name, self.text.len())
    }
}

/// A range of bytes in a [`Source`]. Shown as `path:line:column`.
#[derive(Clone)]
pub struct Place {
    source: Arc<Source>,
    range: Range<usize>,
}

impl Place {
    /// `range` is made to fit the text, so that showing it cannot fail.
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let text = source.text();
        let first = source.start();
        let mut start = text.floor_char_boundary(range.start).max(first);
        // What is missing at the end of the file is missing after its last word, not on an empty line.
        if start >= text.len() {
            start = text.trim_end().len().max(first);
        }
        let end = text.ceil_char_boundary(range.end.min(text.len())).max(start);
        Self { source: Arc::clone(source), range: start..end }
    }

    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Line number, from 1.
    pub fn line(&self) -> usize {
        self.source.line_index(self.range.start) + 1
    }

    /// Characters (not bytes) up to and including the first of the range.
    pub fn column(&self) -> usize {
        let start = self.source.line_range(self.source.line_index(self.range.start)).start;
        self.source.text()[start..self.range.start].chars().count() + 1
    }

    /// How a sentence about `other` names this place: by line where the file is the same.
    pub fn seen_from(&self, other: &Self) -> String {
        if self.is_in_the_file_of(other) { format!("on line {}", self.line()) } else { format!("at {self}") }
    }

    pub(super) fn is_in_the_file_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }

    pub(super) fn sort_key(&self) -> (usize, usize, usize) {
        (self.source.order(), self.range.start, self.range.end)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", escape(self.source.name()), self.line(), self.column())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.range == other.range && self.source.name() == other.source.name()
    }
}

impl Eq for Place {}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot<T> {
    pub value: T,
    pub at: Place,
}

impl<T> Spot<T> {
    pub fn new(value: T, at: Place) -> Self {
        Self { value, at }
    }
}

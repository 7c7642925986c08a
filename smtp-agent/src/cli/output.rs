//! Writing to standard output, which may be a pipe that closes.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

use serde::Serialize;

use crate::exit::{Failure, Result};

/// Prints a line. A reader that has gone away (`| head`) is no error: `false` says to stop.
pub(super) fn line(text: &str) -> Result<bool> {
    write(format_args!("{text}\n"))
}

/// Prints a text that ends its own lines.
pub(super) fn text(text: &str) -> Result<bool> {
    write(format_args!("{text}"))
}

fn write(what: fmt::Arguments<'_>) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_fmt(what).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Failure::from_io(&e, "the output cannot be written")),
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<bool> {
    line(&serde_json::to_string_pretty(value).map_err(|e| Failure::unavailable(format!("no JSON: {e}")))?)
}

/// Columns as wide as their widest cell; numbers to the right.
pub(super) struct Table {
    heads: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

impl Table {
    pub(super) fn new(heads: &[(&'static str, Align)]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.heads.len());
        self.rows.push(cells);
    }

    pub(super) fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.heads[column].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.heads.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut out = String::from(" ");
            for ((cell, width), (_, align)) in cells.zip(&widths).zip(&self.heads) {
                match align {
                    Align::Left => out.push_str(&format!(" {cell:<width$}")),
                    Align::Right => out.push_str(&format!(" {cell:>width$}")),
                }
            }
            out.trim_end().to_owned()
        };
        let mut lines = vec![line(&mut self.heads.iter().map(|(head, _)| *head))];
        lines.extend(self.rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let mut table = Table::new(&[("USER", Align::Left), ("SENT", Align::Right), ("NOTE", Align::Left)]);
        table.row(vec!["shop".into(), "7".into(), "".into()]);
        table.row(vec!["müller".into(), "1234567".into(), "full".into()]);
        assert_eq!(table.render(), "  USER      SENT NOTE\n  shop         7\n  müller 1234567 full");
    }
}

//! Reads a how-to page and follows it, block by block and command by command, on a host of its own.
//!
//! | in the page | what is done |
//! |---|---|
//! | a `toml` block, first line `# /etc/smtp-agent/…` | the file is written, whole |
//! | a `console` block | each command behind `# ` runs as root, behind `$ ` as a user; the lines below it are its output |
//! | `<!-- test: … -->` | something else happens: [`doing`] has all there is |
//!
//! A command that ends in `\` goes on behind `> `. One whose output ends in `^C` runs until all lines before have come,
//! and is interrupted. Lines are compared literally, but for `...`: as a line it stands for any lines, in a line for any
//! text. Other blocks must be `text`, so that no command is left out.
//!
//! Everything is as the page says it (paths, addresses, users, commands) but one thing: a test cannot have port 9725
//! for itself, so `[metrics] listen` is added to config.toml, and the commands that name 127.0.0.1:9725 get its port.

mod doing;
mod host;
mod lines;
mod root;

use crate::Must;
use doing::Doing;
pub use host::Host;
use std::{fmt::Write, fs, path::Path};

/// One thing to be done, and the line of the page that says so.
#[derive(Debug, PartialEq)]
struct Step {
    line: usize,
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    File { path: String, text: String },
    Command { root: bool, text: String, output: Vec<String> },
    Doing(Doing),
}

/// A page as it is followed.
#[derive(Debug)]
pub struct Page {
    name: String,
    steps: Vec<Step>,
}

impl Page {
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).must(format_args!("cannot read {}", path.display()));
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let steps = steps(&text).must(&name);
        Self { name, steps }
    }

    /// How many commands it has.
    pub fn commands(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step.what, What::Command { .. })).count()
    }

    /// Does all of it, and fails with everything that came out otherwise than the page says.
    #[track_caller]
    pub fn follow(&self, host: &mut Host) {
        let mut wrong = String::new();
        let mut user = None;
        let mut meanwhile = None;
        for Step { line, what } in &self.steps {
            match what {
                What::File { path, text } => host.write(path, text),
                What::Command { root, text, output } => {
                    let user = if *root { None } else { user };
                    assert!(*root || user.is_some(), "{}:{line}: `<!-- test: as USER -->` says who `$ ` is", self.name);
                    if let Err(said) = host.run(user, text, output, meanwhile) {
                        let _ = writeln!(wrong, "{}:{line}: {text}\n{said}", self.name);
                    }
                    meanwhile = None;
                }
                What::Doing(Doing::As(name)) => user = Some(name.as_str()),
                What::Doing(doing @ Doing::Meanwhile { .. }) => meanwhile = Some(doing),
                What::Doing(doing) => host.act(doing),
            }
        }
        assert!(wrong.is_empty(), "the page says something else than the programs:\n{wrong}");
    }
}

/// What a page says, in its order.
fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let wrong = |what: &str| format!("line {number}: {what}");
        if let Some(comment) = line.strip_prefix("<!-- test: ") {
            let comment = comment.strip_suffix(" -->").ok_or_else(|| wrong("a comment for the test is one line"))?;
            steps.push(Step { line: number, what: What::Doing(Doing::parse(comment).map_err(|e| wrong(&e))?) });
            continue;
        }
        let Some(kind) = line.trim_start().strip_prefix("```") else { continue };
        let block: Vec<(&str, usize)> = lines.by_ref().take_while(|(line, _)| line.trim() != "```").collect();
        match kind {
            "toml" => steps.push(Step {
                line: number,
                what: file(&block).ok_or_else(|| wrong("a toml block begins with `# /etc/smtp-agent/FILE.toml`"))?,
            }),
            "console" => steps.extend(commands(&block)?),
            "text" => {}
            _ => return Err(wrong("a block is `toml`, `console`, or `text` where there is nothing to follow")),
        }
    }
    Ok(steps)
}

fn file(block: &[(&str, usize)]) -> Option<What> {
    let path = block.first()?.0.strip_prefix("# ").filter(|path| path.starts_with("/etc/smtp-agent/"))?;
    let text = block.iter().fold(String::new(), |text, (line, _)| text + line + "\n");
    Some(What::File { path: path.to_owned(), text })
}

fn commands(block: &[(&str, usize)]) -> Result<Vec<Step>, String> {
    let mut steps: Vec<Step> = Vec::new();
    for &(line, number) in block {
        let begun = line.strip_prefix("# ").map(|text| (true, text));
        let begun = begun.or_else(|| line.strip_prefix("$ ").map(|text| (false, text)));
        if let Some((root, text)) = begun {
            steps.push(Step { line: number, what: What::Command { root, text: text.into(), output: Vec::new() } });
            continue;
        }
        match steps.last_mut() {
            Some(Step { what: What::Command { text, output, .. }, .. }) => match line.strip_prefix("> ") {
                Some(more) if output.is_empty() && text.ends_with('\\') => {
                    text.push('\n');
                    text.push_str(more);
                }
                _ => output.push(line.to_owned()),
            },
            _ => return Err(format!("line {number}: a console block begins with a command behind `# ` or `$ `")),
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: usize, root: bool, text: &str, output: &[&str]) -> Step {
        let output = output.iter().map(|line| line.to_string()).collect();
        Step { line, what: What::Command { root, text: text.into(), output } }
    }

    #[test]
    fn a_page_becomes_steps_in_its_order() {
        let page = "# Title\n\n```toml\n# /etc/smtp-agent/conf.d/a.toml\nwatch = true\n```\nText.\n\
                    <!-- test: as shop -->\n\n```console\n# echo a \\\n> b\na b\n# true\n$ id -un\nshop\n```\n\
                    ```text\n$ not followed\n```\n";
        let text = "# /etc/smtp-agent/conf.d/a.toml\nwatch = true\n".to_owned();
        let file = What::File { path: "/etc/smtp-agent/conf.d/a.toml".into(), text };
        assert_eq!(
            steps(page).expect("a good page"),
            [
                Step { line: 3, what: file },
                Step { line: 8, what: What::Doing(Doing::As("shop".into())) },
                command(11, true, "echo a \\\nb", &["a b"]),
                command(14, true, "true", &[]),
                command(15, false, "id -un", &["shop"]),
            ]
        );
    }

    #[test]
    fn nothing_in_a_page_is_passed_over() {
        for (page, error) in [
            ("```sh\nsmtp-agent status\n```\n", "line 1: a block is `toml`"),
            ("```toml\nmode = \"observe\"\n```\n", "line 1: a toml block begins with"),
            ("\n```console\nsmtp-agent status\n```\n", "line 3: a console block begins with a command"),
            ("<!-- test: it rains -->\n", "line 1: nobody knows how to do \"it rains\""),
            ("<!-- test: the agent\nstarts -->\n", "line 1: a comment for the test is one line"),
        ] {
            let said = steps(page).expect_err(page);
            assert!(said.starts_with(error), "{page:?}: {said}");
        }
    }
}

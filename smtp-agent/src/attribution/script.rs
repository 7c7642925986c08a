//! Which file an interpreter runs, by its command line: as the interpreter itself reads it.

use super::path::file_name;

/// What a command line says about the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// The file, as it was written.
    File(&'a [u8]),
    /// A name that is looked for in the directories of `PATH`.
    Sought(&'a [u8]),
    /// A file of this name in its directory, if there is one; else it is looked for in `PATH`.
    FileOrSought(&'a [u8]),
    /// The program is in the command line or comes from standard input.
    Inline,
    /// It is an interpreter without a script, or none.
    Nothing,
}

/// How an interpreter reads its options.
struct Grammar {
    /// Beginnings of the program's name, behind which only a version may follow.
    names: &'static [&'static str],
    /// Short options that end the search: what follows is program text.
    code: &'static [u8],
    /// Short options whose value is the rest of the word, or else the next word.
    valued: &'static [u8],
    /// Short options whose value, if any, is the rest of the word.
    attached: &'static [u8],
    /// Short options whose value is the file.
    file: &'static [u8],
    /// Long options whose value is the next word, unless it follows a `=`.
    long_valued: &'static [&'static str],
    /// Long options whose value is program text.
    long_code: &'static [&'static str],
    /// Long options whose value is the file.
    long_file: &'static [&'static str],
    /// Short options after which a file's name is sought in `PATH`.
    seeks: &'static [u8],
    /// It seeks a file in `PATH` that is not in its directory.
    falls_back: bool,
    /// What follows `--` are arguments: the script comes from standard input.
    no_file_after_dashes: bool,
}

const NONE: Grammar = Grammar {
    names: &[],
    code: b"",
    valued: b"",
    attached: b"",
    file: b"",
    long_valued: &[],
    long_code: &[],
    long_file: &[],
    seeks: b"",
    falls_back: false,
    no_file_after_dashes: false,
};

const SHELL: Grammar = Grammar { code: b"cs", valued: b"oO", long_valued: &["--rcfile", "--init-file"], ..NONE };

/// php(1), perlrun(1), python(1), sh(1) and bash(1), ruby(1), node(1), lua(1), tclsh(1).
const GRAMMARS: [Grammar; 9] = [
    Grammar {
        names: &["php-cgi", "php-cli", "lsphp", "php"],
        code: b"rRBE",
        valued: b"cdgtSbTz",
        file: b"fF",
        long_valued: &["--php-ini", "--define", "--docroot", "--server", "--bindpath", "--timing", "--zend-extension"],
        long_code: &["--run", "--process-code", "--process-begin", "--process-end"],
        long_file: &["--file", "--process-file"],
        // sapi/cli/php_cli.c
        no_file_after_dashes: true,
        ..NONE
    },
    Grammar { names: &["perl"], code: b"eE", valued: b"I", attached: b"MmxiFCDVdl0", seeks: b"S", ..NONE },
    Grammar {
        names: &["python", "pypy"],
        // A module is no file: which one it is, only the interpreter knows.
        code: b"cm",
        valued: b"WXQ",
        long_valued: &["--check-hash-based-pycs"],
        ..NONE
    },
    Grammar {
        // Where sh is bash, it is called so by its file, as long as it lives.
        names: &["bash", "ksh", "mksh", "zsh", "sh"],
        falls_back: true,
        ..SHELL
    },
    Grammar { names: &["dash", "ash"], ..SHELL },
    Grammar { names: &["ruby"], code: b"e", valued: b"ICr", attached: b"EFKTWx0i", seeks: b"S", ..NONE },
    Grammar {
        names: &["nodejs", "node"],
        code: b"ep",
        valued: b"rC",
        long_valued: &[
            "--require",
            "--import",
            "--conditions",
            "--loader",
            "--experimental-loader",
            "--env-file",
            "--title",
        ],
        long_code: &["--eval", "--print"],
        ..NONE
    },
    Grammar { names: &["luajit", "lua"], code: b"e", valued: b"l", ..NONE },
    Grammar { names: &["tclsh", "expect"], code: b"c", valued: b"f", ..NONE },
];

impl Grammar {
    /// The first argument that is no option.
    fn argument<'a>(&self, file: &'a [u8], seeks: bool) -> Said<'a> {
        match file.contains(&b'/') {
            false if seeks => Said::Sought(file),
            false if self.falls_back => Said::FileOrSought(file),
            _ => Said::File(file),
        }
    }
}

/// `php8.2`, `python3.11`, `perl5.36.0-x86_64-linux-gnu` and so on.
fn is_called(program: &[u8], name: &str) -> bool {
    let Some(rest) = program.strip_prefix(name.as_bytes()) else { return false };
    match rest {
        [] => true,
        [b'-', rest @ ..] | rest => rest.first().is_some_and(u8::is_ascii_digit),
    }
}

fn grammar(program: &[u8]) -> Option<&'static Grammar> {
    let program = file_name(program);
    GRAMMARS.iter().find(|grammar| grammar.names.iter().any(|name| is_called(program, name)))
}

/// Whether a program with this path runs scripts.
pub(super) fn is_interpreter(program: &[u8]) -> bool {
    grammar(program).is_some()
}

/// What the command line `args` of `program` (its path, or name) says. Words that were cut off are not told from others:
/// whoever knows that some are missing at the end passes those before.
pub(super) fn said<'a>(program: &[u8], args: &[&'a [u8]]) -> Said<'a> {
    let Some(grammar) = grammar(program) else { return Said::Nothing };
    let mut words = args.iter().skip(1);
    let mut seeks = false;
    while let Some(word) = words.next() {
        match *word {
            b"--" if grammar.no_file_after_dashes => return Said::Inline,
            b"--" => return words.next().map_or(Said::Inline, |file| grammar.argument(file, seeks)),
            b"-" => return Said::Inline,
            [b'-', b'-', ..] => {
                let (name, value) = match word.iter().position(|b| *b == b'=') {
                    Some(at) => (&word[..at], Some(&word[at + 1..])),
                    None => (*word, None),
                };
                let is = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
                if is(grammar.long_code) {
                    return Said::Inline;
                }
                if is(grammar.long_file) {
                    return value.or_else(|| words.next().copied()).map_or(Said::Nothing, Said::File);
                }
                if is(grammar.long_valued) && value.is_none() {
                    words.next();
                }
            }
            [b'-' | b'+', options @ ..] if !options.is_empty() => {
                for (at, option) in options.iter().enumerate() {
                    let rest = &options[at + 1..];
                    if grammar.code.contains(option) {
                        return Said::Inline;
                    }
                    if grammar.file.contains(option) {
                        let file = if rest.is_empty() { words.next().copied() } else { Some(rest) };
                        return file.map_or(Said::Nothing, Said::File);
                    }
                    if grammar.valued.contains(option) {
                        if rest.is_empty() {
                            words.next();
                        }
                        break;
                    }
                    if grammar.attached.contains(option) {
                        break;
                    }
                    seeks |= grammar.seeks.contains(option);
                }
            }
            file => return grammar.argument(file, seeks),
        }
    }
    Said::Nothing
}

/// A command line's words: each ends with NUL.
pub(super) fn words(args: &[u8]) -> Vec<&[u8]> {
    let args = args.strip_suffix(&[0]).unwrap_or(args);
    if args.is_empty() { Vec::new() } else { args.split(|b| *b == 0).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(line: &str) -> Option<String> {
        let args: Vec<_> = line.split(' ').map(str::as_bytes).collect();
        match said(args[0], &args) {
            Said::File(file) => Some(String::from_utf8(file.to_vec()).unwrap()),
            Said::Sought(file) => Some(format!("(sought) {}", String::from_utf8_lossy(file))),
            Said::FileOrSought(file) => Some(format!("(near) {}", String::from_utf8_lossy(file))),
            Said::Inline => Some("(inline)".into()),
            Said::Nothing => None,
        }
    }

    #[test]
    fn the_script_is_found_where_the_interpreter_looks_for_it() {
        for (line, script) in [
            ("php mail.php", Some("mail.php")),
            ("/usr/bin/php8.2 -d memory_limit=1G -q /home/shop/cron.php --once", Some("/home/shop/cron.php")),
            ("php -dmemory_limit=1G x.php", Some("x.php")),
            ("php -f x.php", Some("x.php")),
            ("php --file=x.php", Some("x.php")),
            ("php -r mail();", Some("(inline)")),
            ("php-cgi -c /etc/php.ini", None),
            ("ea-php81 x.php", None),
            ("perl bot.pl", Some("bot.pl")),
            ("perl -w -T /tmp/.x/bot.pl 25", Some("/tmp/.x/bot.pl")),
            ("perl -we print x.pl", Some("(inline)")),
            ("perl -I lib -Mstrict s.pl", Some("s.pl")),
            ("perl -i.bak s.pl", Some("s.pl")),
            ("python3.11 -u -W ignore spam.py", Some("spam.py")),
            ("python3 -m smtplib", Some("(inline)")),
            ("python3 -c import x", Some("(inline)")),
            ("python3 -", Some("(inline)")),
            ("/bin/sh -c sendmail", Some("(inline)")),
            ("bash -e -o pipefail ./run.sh a", Some("./run.sh")),
            ("bash --norc run.sh", Some("(near) run.sh")),
            ("dash run.sh", Some("run.sh")),
            ("perl -S bot.pl", Some("(sought) bot.pl")),
            ("perl -wST -- bot.pl", Some("(sought) bot.pl")),
            ("perl -S ./bot.pl", Some("./bot.pl")),
            ("perl -ISx bot.pl", Some("bot.pl")),
            ("ruby -S bot.rb", Some("(sought) bot.rb")),
            ("php -- /home/victim/x.php", Some("(inline)")),
            ("php --", Some("(inline)")),
            ("perl --", Some("(inline)")),
            ("perl -- x.pl", Some("x.pl")),
            ("node --experimental-loader l.mjs app.js", Some("app.js")),
            ("-bash", None),
            ("bash -i", None),
            ("sh -- -odd", Some("(near) -odd")),
            ("ruby -Ilib app.rb", Some("app.rb")),
            ("node --require ./x.js app.js", Some("app.js")),
            ("node -e code", Some("(inline)")),
            ("exim4 -bd x", None),
            ("phpunit x.php", None),
            ("shell x", None),
        ] {
            assert_eq!(of(line).as_deref(), script, "{line}");
        }
    }

    #[test]
    fn words_end_with_nul() {
        assert_eq!(words(b"a\0\0b\0"), [&b"a"[..], b"", b"b"]);
        assert_eq!(words(b"cut off"), [&b"cut off"[..]]);
        assert_eq!(words(b""), [b""; 0]);
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(program in "(php|perl|python|sh|ruby|node)", args: Vec<Vec<u8>>) {
            let args: Vec<_> = args.iter().map(Vec::as_slice).collect();
            let _ = said(program.as_bytes(), &args);
        }
    }
}

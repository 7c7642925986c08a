//! A process that is looked at: the one that connects, or one above it.

use smtp_common::portrait::{self, Execution, Lineage, Portrait, ProcessKey, flag};

use super::{
    Memory,
    culprit::how,
    fpm::{self, Scoreboards},
    living::Living,
    origin::Step,
    path,
    php::{self, Serves},
    script::{self, Said},
};

use crate::accounts::label::printable_until_nul;

/// The processes on both sides of one, on the way up.
#[derive(Clone, Copy)]
pub(super) struct Near<'a> {
    pub(super) child: Option<&'a Subject>,
    pub(super) parent: Option<&'a Subject>,
}

/// Where shells have the script open that they read: bash, the others.
const SCRIPT_NUMBERS: [u32; 4] = [255, 10, 11, 12];

pub(super) struct Subject {
    pub(super) process: ProcessKey,
    pub(super) uid: u32,
    pub(super) comm: String,
    pub(super) exe: Option<Vec<u8>>,
    pub(super) cwd: Option<Vec<u8>>,
    /// The command line as the process shows it.
    pub(super) args: Vec<u8>,
    /// More follows.
    args_cut: bool,
    execution: Option<Box<Execution>>,
    /// Of its own, or of the process it was forked from.
    executed_itself: bool,
    living: Option<Living>,
}

impl Subject {
    pub(super) fn of_portrait(portrait: &Portrait, comm: &[u8; 16], uid: u32, memory: &dyn Memory) -> Self {
        let living = Living::open(portrait.process);
        let mut args = portrait.args().to_vec();
        let mut args_cut = portrait.flags & flag::ARGS_CUT != 0;
        // What the kernel had no room for, or could not wait for; unless it was written over since.
        if args_cut || args.is_empty() {
            let whole = living.as_ref().and_then(Living::command_line).filter(|whole| whole.starts_with(&args));
            if let Some(whole) = whole {
                (args, args_cut) = (whole, false);
            }
        }
        Self {
            process: portrait.process,
            uid,
            comm: printable_until_nul(comm),
            exe: path::of(&portrait.exe).filter(|_| portrait.file.inode != 0),
            cwd: path::of(&portrait.cwd),
            args,
            args_cut,
            execution: memory.execution(portrait.image),
            executed_itself: portrait.image == portrait.process,
            living,
        }
    }

    pub(super) fn of_ancestor(ancestor: &portrait::Ancestor, memory: &dyn Memory) -> Self {
        let process = ancestor.process;
        let living = Living::open(process);
        let image = memory.lineage(process).map_or(process, |Lineage { image, .. }| image);
        let execution = memory.execution(image);
        let shown = living.as_ref().and_then(Living::command_line);
        // Of one that has ended there is only what it was started as.
        let args = shown.or_else(|| execution.as_ref().map(|execution| execution.args().to_vec()));
        Self {
            process,
            // What is remembered is from before a worker of a server became another user.
            uid: living.as_ref().and_then(Living::uid).unwrap_or(ancestor.uid),
            comm: printable_until_nul(&ancestor.comm),
            exe: living.as_ref().and_then(Living::exe),
            cwd: living.as_ref().and_then(Living::cwd),
            args: args.unwrap_or_default(),
            args_cut: false,
            execution,
            executed_itself: image == process,
            living,
        }
    }

    /// The command line of its execve(2), where that is another than it shows.
    pub(super) fn started_as(&self) -> Option<&[u8]> {
        let args = self.execution.as_ref()?.args();
        (!args.is_empty() && !self.args.starts_with(args)).then_some(args)
    }

    pub(super) fn step(&self) -> Step<'_> {
        Step { comm: &self.comm, uid: self.uid, args: &self.args, exe: self.exe.as_deref() }
    }

    /// The script it runs, and how that is known; of a process above another, what it ran when it started that.
    pub(super) fn script(&self, near: Near<'_>, boards: &Scoreboards) -> Option<(Vec<u8>, &'static str)> {
        let execution = self.execution.as_deref();
        if let Some(execution) = execution.filter(|execution| execution.flags & flag::INTERPRETED != 0) {
            return Some((executed(execution), how::SHEBANG));
        }
        let program = self.program()?;
        if fpm::is_fpm(&program) {
            return self.served_by_fpm(near, boards);
        }
        // LiteSpeed's PHP says it in its title; any other program can as well.
        if path::file_name(&program).starts_with(b"lsphp")
            && let Some(script) = self.args.strip_prefix(b"lsphp:").and_then(|title| title.split(|b| *b == 0).next())
            && script.starts_with(b"/")
        {
            return Some((script.trim_ascii_end().to_vec(), how::TITLE));
        }
        let (args, cut) = match execution.filter(|execution| !execution.args().is_empty()) {
            Some(execution) => (execution.args(), execution.flags & flag::ARGS_CUT != 0),
            None => (&self.args[..], self.args_cut),
        };
        let mut words = script::words(args);
        if cut {
            words.pop();
        }
        match script::said(&program, &words) {
            Said::File(file) => return Some((meant(execution, file), how::ARGUMENT)),
            Said::Sought(name) => return Some((name.to_vec(), how::ARGUMENT)),
            Said::FileOrSought(name) => return Some((self.read_by_shell(execution, name), how::ARGUMENT)),
            Said::Inline => return None,
            Said::Nothing => {}
        }
        if script::is_interpreter(&program) {
            let script = self.living.as_ref().and_then(|living| living.variable("SCRIPT_FILENAME"));
            if let Some(script) = script.filter(|script| script.starts_with(b"/")) {
                return Some((script, how::ENVIRONMENT));
            }
            return if php::is_cgi(&program) { self.served_by_php(near) } else { None };
        }
        if php::is_web_server(&program) { self.served_by_php(near) } else { None }
    }

    /// A file of the directory that the shell began in, if it is what it reads from; else only a name.
    fn read_by_shell(&self, execution: Option<&Execution>, name: &[u8]) -> Vec<u8> {
        let meant = meant(execution, name);
        let reads = self.living.as_ref().is_some_and(|living| {
            let mut open = SCRIPT_NUMBERS.iter().filter_map(|number| living.open_file(*number));
            open.any(|file| file.strip_suffix(b" (deleted)").unwrap_or(&file) == meant)
        });
        if reads { meant } else { name.to_vec() }
    }

    fn served_by_fpm(&self, near: Near<'_>, boards: &Scoreboards) -> Option<(Vec<u8>, &'static str)> {
        let directory = self.directory(near)?;
        let script = self.living.as_ref().and_then(|living| boards.script(living, self.process, directory));
        script.map(|script| (script, how::FPM)).or_else(|| in_directory(directory, near))
    }

    fn served_by_php(&self, near: Near<'_>) -> Option<(Vec<u8>, &'static str)> {
        let directory = self.directory(near)?;
        match self.living.as_ref().map(|living| php::serves(living, directory)) {
            Some(Serves::Script(script)) => Some((script, how::PHP)),
            // One that has ended: PHP had gone to the script's directory by then.
            Some(Serves::SomeScript) | None => in_directory(directory, near),
            Some(Serves::Nothing) => None,
        }
    }

    /// The directory it was seen in. Of a process above another that is what it is in now, which says nothing of its child
    /// once it is about something else: a child is executed where its parent is.
    fn directory(&self, near: Near<'_>) -> Option<&[u8]> {
        let directory = self.cwd.as_deref()?;
        let executed = near.child.filter(|child| child.executed_itself).and_then(|child| child.execution.as_ref());
        let then = executed.and_then(|execution| path::of(&execution.cwd));
        then.is_none_or(|then| then == directory).then_some(directory)
    }

    /// The program it runs: its file, or of one that has ended what it was executed as.
    fn program(&self) -> Option<Vec<u8>> {
        let named = || {
            let execution = self.execution.as_ref().filter(|execution| execution.flags & flag::FILE_CUT == 0)?;
            let file = execution.file.split(|b| *b == 0).next()?.to_vec();
            (!file.is_empty()).then_some(file)
        };
        let exe = self.exe.as_deref().map(|exe| exe.strip_suffix(b" (deleted)").unwrap_or(exe).to_vec());
        exe.or_else(named)
    }
}

/// A worker without a script is where the process is that forked it.
fn in_directory(directory: &[u8], near: Near<'_>) -> Option<(Vec<u8>, &'static str)> {
    let rests = directory == b"/" || near.parent.is_some_and(|parent| parent.cwd.as_deref() == Some(directory));
    (!rests).then(|| ([directory, b"/"].concat(), how::DIRECTORY))
}

/// The file that was executed. Of a name without room the rest may stand in the command line, where the kernel writes it for
/// the interpreter; else it ends with `…`, which names no other file.
fn executed(execution: &Execution) -> Vec<u8> {
    let file = execution.file.split(|b| *b == 0).next().unwrap_or_default();
    if execution.flags & flag::FILE_CUT == 0 {
        return meant(Some(execution), file);
    }
    let mut words = script::words(execution.args());
    if execution.flags & flag::ARGS_CUT != 0 {
        words.pop();
    }
    match words.into_iter().skip(1).find(|word| word.len() > file.len() && word.starts_with(file)) {
        Some(whole) => meant(Some(execution), whole),
        None => [file, "…".as_bytes()].concat(),
    }
}

/// A file as the process meant it when it began; as it was written where its directory of then is not remembered.
fn meant(execution: Option<&Execution>, file: &[u8]) -> Vec<u8> {
    let directory = execution.and_then(|execution| path::of(&execution.cwd));
    path::resolve(directory.as_deref(), file).unwrap_or_else(|| file.to_vec())
}

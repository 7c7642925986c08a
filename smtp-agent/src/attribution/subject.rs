//! A process that is looked at: the one that connects, or one above it.

use smtp_common::portrait::{self, Execution, Lineage, Portrait, ProcessKey, flag};

use super::{
    Memory,
    culprit::how,
    fpm,
    living::Living,
    origin::Step,
    path,
    script::{self, Said},
};

use crate::accounts::label::printable_until_nul;

/// Web servers that run PHP in their own processes, which go to the script's directory.
const WEB_SERVERS: [&[u8]; 6] = [b"apache2", b"httpd", b"httpd.worker", b"httpd.event", b"litespeed", b"lshttpd"];

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
            uid: ancestor.uid,
            comm: printable_until_nul(&ancestor.comm),
            exe: living.as_ref().and_then(Living::exe),
            cwd: living.as_ref().and_then(Living::cwd),
            args: args.unwrap_or_default(),
            args_cut: false,
            execution,
            living,
        }
    }

    /// The command line of its execve(2), where that is another than it shows.
    pub(super) fn started_as(&self) -> Option<&[u8]> {
        let args = self.execution.as_ref()?.args();
        (!args.is_empty() && !self.args.starts_with(args)).then_some(args)
    }

    pub(super) fn step(&self) -> Step<'_> {
        Step { comm: &self.comm, uid: self.uid, args: &self.args }
    }

    /// The script it runs, and how that is known.
    pub(super) fn script(&self) -> Option<(Vec<u8>, &'static str)> {
        let execution = self.execution.as_deref();
        if let Some(execution) = execution.filter(|execution| execution.flags & flag::INTERPRETED != 0) {
            let file = execution.file.split(|b| *b == 0).next().unwrap_or_default();
            return Some((meant(Some(execution), file), how::SHEBANG));
        }
        let program = self.program()?;
        if fpm::is_fpm(&program) {
            return self.served_by_fpm();
        }
        // LiteSpeed's PHP says it in its title.
        if let Some(script) = self.args.strip_prefix(b"lsphp:").and_then(|title| title.split(|b| *b == 0).next())
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
            Said::Inline => return None,
            Said::Nothing => {}
        }
        if script::is_interpreter(&program) {
            let script = self.living.as_ref().and_then(|living| living.variable("SCRIPT_FILENAME"));
            if let Some(script) = script.filter(|script| script.starts_with(b"/")) {
                return Some((script, how::ENVIRONMENT));
            }
            // A CGI that has ended: PHP has gone to the script's directory by then.
            let is_cgi = path::file_name(&program).starts_with(b"php-cgi");
            return is_cgi.then(|| self.in_directory()).flatten();
        }
        WEB_SERVERS.contains(&path::file_name(&program)).then(|| self.in_directory()).flatten()
    }

    fn served_by_fpm(&self) -> Option<(Vec<u8>, &'static str)> {
        let directory = self.cwd.as_deref()?;
        let script = self.living.as_ref().and_then(|living| fpm::script(living, self.process, directory));
        script.map(|script| (script, how::FPM)).or_else(|| self.in_directory())
    }

    fn in_directory(&self) -> Option<(Vec<u8>, &'static str)> {
        let directory = self.cwd.as_deref().filter(|directory| *directory != b"/")?;
        Some(([directory, b"/"].concat(), how::DIRECTORY))
    }

    /// The program it runs: its file, or of one that has ended what it was executed as.
    fn program(&self) -> Option<Vec<u8>> {
        let named = || {
            let file = self.execution.as_ref()?.file.split(|b| *b == 0).next()?.to_vec();
            (!file.is_empty()).then_some(file)
        };
        let exe = self.exe.as_deref().map(|exe| exe.strip_suffix(b" (deleted)").unwrap_or(exe).to_vec());
        exe.or_else(named)
    }
}

/// A file as the process meant it when it began; as it was written where its directory of then is not remembered.
fn meant(execution: Option<&Execution>, file: &[u8]) -> Vec<u8> {
    let directory = execution.and_then(|execution| path::of(&execution.cwd));
    path::resolve(directory.as_deref(), file).unwrap_or_else(|| file.to_vec())
}

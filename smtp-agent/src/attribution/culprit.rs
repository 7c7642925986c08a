//! Who was behind an attempt, as far as it is known. What is not known is absent, never guessed.
//!
//! All text in it is safe on a terminal (control characters and foreign bytes are escaped) and secrets are masked.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Culprit {
    /// Path of the program that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The program's file had no name any more.
    #[serde(skip_serializing_if = "is_false")]
    pub exe_deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The command line as the process shows it, which it may have written over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The command line of its execve(2), where it shows another one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_as: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// The processes above it, its parent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<Ancestor>,
    /// What set it going: the last that can be named above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Whose login it comes from, by the kernel's login uid, which survives `su` and `sudo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_user: Option<String>,
    /// When the process began: RFC 3339, UTC, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The account's domains, where a control panel knows them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// The account's package, where a control panel knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// The file an interpreter runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Script {
    pub path: String,
    /// How it is known: one of [`how`].
    pub how: String,
}

/// Values of [`Script::how`], the most certain first.
pub mod how {
    /// The kernel ran the file itself, by its `#!` line.
    pub const SHEBANG: &str = "shebang";
    /// PHP-FPM's scoreboard names it for the request that the worker serves.
    pub const FPM: &str = "fpm";
    /// The PHP in the process names it for the request that it serves (Apache's module, FastCGI).
    pub const PHP: &str = "php";
    /// It stands in the command line, where the interpreter expects it.
    pub const ARGUMENT: &str = "argument";
    /// `SCRIPT_FILENAME` of the environment (CGI, suPHP).
    pub const ENVIRONMENT: &str = "environment";
    /// The process says so in its title (lsphp).
    pub const TITLE: &str = "title";
    /// Only the directory it works in, which a web server's PHP sets to the script's: the path ends with `/`.
    pub const DIRECTORY: &str = "directory";
}

/// A process above the culprit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Ancestor {
    pub tgid: u32,
    /// RFC 3339, UTC, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// `cron`, `at`, `login`, `service`, `container`, `web` or `kernel`.
    pub kind: String,
    /// The job's user, the login's terminal or address, the unit, the container.
    pub name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// 64 hexadecimal digits, or what the runtime calls it.
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Pod {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Culprit {
    /// What reports call its service: container, pod, unit, else what set it going.
    pub fn service(&self) -> Option<&str> {
        let container = self.container.as_ref().map(|one| one.name.as_deref().unwrap_or(&one.id));
        let pod = self.pod.as_ref().map(|pod| pod.name.as_str());
        let origin = self.origin.as_ref().map(|origin| origin.name.as_str());
        container.or(pod).or(self.unit.as_deref()).or(origin)
    }

    /// What reports call its script.
    pub fn script_path(&self) -> Option<&str> {
        self.script.as_ref().map(|script| script.path.as_str())
    }
}

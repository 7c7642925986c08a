//! Files on disk: what is read, in which order, and what is said about those that cannot be.

use std::{
    fs::{self, Permissions},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, fs::symlink},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::texts;
use crate::config::{Loaded, Mode, Problems, load};

/// A directory with `config.toml` and what stands beside it; removed at the end.
struct Dir(TempDir);

impl Dir {
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = Self(TempDir::new().unwrap());
        for (name, text) in files {
            dir.write(name, text.as_bytes());
        }
        dir
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }

    fn load(&self) -> Result<Loaded, Problems> {
        load(&self.path("config.toml"))
    }

    /// Everything that is said, with the directory's name taken out.
    fn says(&self) -> String {
        let said = match self.load() {
            Ok(loaded) => loaded.warnings.to_string(),
            Err(problems) => problems.to_string(),
        };
        said.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn drop_ins_are_read_in_the_order_of_their_names_and_the_last_word_counts() {
    let dir = Dir::with(&[
        (
            "config.toml",
            "mode = \"enforce\"\n[smtp]\nports = [25]\n[host]\nper_day = 1\nstrict = true\n[allow]\nusers = [\"a\"]",
        ),
        ("conf.d/20-b.toml", "[host]\nper_day = 3\n[allow]\nusers = [\"c\"]"),
        ("conf.d/10-a.toml", "mode = \"observe\"\n[host]\nper_day = 2\n[allow]\nusers = [\"b\"]\ngroups = [\"g\"]"),
    ]);
    let Loaded { config, sources, warnings } = dir.load().unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!((config.mode, config.ports), (Mode::Observe, vec![25]));
    assert_eq!((config.host.connections.per_day, config.host.strict), (Some(3), true));
    assert_eq!((texts(&config.allow.users), texts(&config.allow.groups)), (vec!["c".to_owned()], vec!["g".to_owned()]));
    assert!(config.allow.users[0].at.source().name().ends_with("conf.d/20-b.toml"));
    let names: Vec<_> = sources.iter().map(|source| Path::new(source.name()).file_name().unwrap()).collect();
    assert_eq!(names, ["config.toml", "10-a.toml", "20-b.toml"]);
}

#[test]
fn plans_and_rules_add_up_and_the_keys_of_one_plan_merge() {
    let dir = Dir::with(&[
        ("config.toml", "[plan.bulk]\nper_hour = 1\nper_day = 9\n[[rule]]\nuser = \"a\"\nplan = \"other\""),
        (
            "conf.d/1.toml",
            "[plan.other]\nper_day = 5\n[plan.bulk]\nper_hour = 2\n[[rule]]\nuser = \"b\"\nplan = \"bulk\"",
        ),
    ]);
    let config = dir.load().unwrap().config;
    let plans: Vec<_> = config
        .plans
        .iter()
        .map(|plan| (plan.name.as_str(), plan.connections.per_hour, plan.connections.per_day))
        .collect();
    assert_eq!(plans, [("bulk", Some(2), Some(9)), ("other", None, Some(5)), ("standard", Some(100), Some(1000))]);
    let rules: Vec<_> = config.rules.iter().map(|rule| config.plan_name(rule.plan)).collect();
    assert_eq!(rules, ["other", "bulk"]);
}

#[test]
fn other_files_beside_the_drop_ins_are_left_alone() {
    let dir = Dir::with(&[
        ("config.toml", ""),
        ("conf.d/.hidden.toml", "nonsense"),
        ("conf.d/a.toml~", "nonsense"),
        ("conf.d/README", "nonsense"),
        ("conf.d/a.toml.bak", "nonsense"),
    ]);
    assert_eq!(dir.load().unwrap().sources.len(), 1);
}

#[test]
fn two_files_that_contradict_each_other_are_both_named() {
    let dir = Dir::with(&[
        ("config.toml", "[allow]\nusers = [\"shop\"]\n"),
        ("conf.d/1.toml", "[deny]\nusers = [\"shop\"]\n"),
    ]);
    assert_eq!(
        dir.says(),
        "\
error: conf.d/1.toml:2:10: user `shop` is denied here and allowed at config.toml:2:10
    2 | users = [\"shop\"]
      |          ^^^^^^ remove one of the two"
    );
}

#[test]
fn faults_of_all_files_are_shown_together_even_of_values_that_a_later_file_replaces() {
    let dir = Dir::with(&[
        ("config.toml", "mode = \"enforced\"\n"),
        ("conf.d/1.toml", "mode = \"observe\"\nx = 1\n[default]\nplan = \"nope\"\n"),
        ("conf.d/2.toml", "[host]\nstrict = maybe\n"),
    ]);
    assert_eq!(
        dir.says(),
        "\
error: config.toml:1:8: `mode` must be \"enforce\" or \"observe\", not \"enforced\"
    1 | mode = \"enforced\"
      |        ^^^^^^^^^^ did you mean \"enforce\"?
error: conf.d/1.toml:2:1: unknown key `x` at the top level
    2 | x = 1
      | ^ valid here: `mode`, `watch`, `smtp`, `allow`, `deny`, `default`, `plan`, `containers`, `host`, `group`, `rule`, `control`, `paths`, `kernel`, `metrics`, `page`, `events`, `attribution`, `notify`, `history`, `log`
error: conf.d/2.toml:2:10: this is not a value; a text must be in quotes
    2 | strict = maybe
      |          ^^^^^ write \"maybe\""
    );
}

#[test]
fn a_missing_file_is_named_with_the_way_out() {
    let said = "error: cannot read config.toml: no such file or directory\n      = create it, or name another file with --config PATH";
    assert_eq!(Dir::with(&[]).says(), said);
    assert_eq!(Dir::with(&[("conf.d/1.toml", "mode = 1")]).says(), said, "drop-ins alone are no configuration");
}

#[test]
fn a_directory_is_no_file() {
    let dir = Dir::with(&[("config.toml/x", "")]);
    assert_eq!(dir.says(), "error: cannot read config.toml: it is a directory");
    let dir = Dir::with(&[("config.toml", ""), ("conf.d/a.toml/x", "")]);
    assert_eq!(dir.says(), "error: cannot read conf.d/a.toml: it is a directory");
}

#[test]
fn a_file_is_no_directory() {
    let dir = Dir::with(&[("config.toml", ""), ("conf.d", "")]);
    assert_eq!(
        dir.says(),
        "error: cannot read the directory conf.d: not a directory\n      = make it a readable directory, or remove it"
    );
}

#[test]
fn links_are_followed_and_those_to_nothing_are_errors() {
    let dir = Dir::with(&[("config.toml", ""), ("real", "mode = \"observe\""), ("conf.d/x", "")]);
    symlink("../real", dir.path("conf.d/1.toml")).unwrap();
    assert_eq!(dir.load().unwrap().config.mode, Mode::Observe);
    symlink("nothing", dir.path("conf.d/2.toml")).unwrap();
    symlink("3.toml", dir.path("conf.d/3.toml")).unwrap();
    assert_eq!(
        dir.says(),
        "\
error: cannot read conf.d/2.toml: no such file or directory
      = it is a link to nothing: mend or remove it
error: cannot read conf.d/3.toml: too many levels of symbolic links
      = smtp-agent must be able to read it; run as root"
    );
}

#[test]
fn a_device_is_no_file() {
    let dir = Dir::with(&[]);
    symlink("/dev/zero", dir.path("config.toml")).unwrap();
    assert_eq!(dir.says(), "error: cannot read config.toml: it is not a regular file");
}

#[test]
fn bytes_that_are_no_text_are_shown_where_they_are() {
    let dir = Dir::with(&[]);
    dir.write("config.toml", b"mode = \"observe\"\n# caf\xe9\n");
    assert_eq!(
        dir.says(),
        "error: config.toml:2:6: byte 0xe9 is not UTF-8\n    2 | # caf\u{fffd}\n      |      ^ save the file as UTF-8"
    );
}

#[test]
fn a_file_of_four_mebibytes_is_read_and_a_larger_one_refused() {
    let text = "#".repeat(4 << 20);
    let dir = Dir::with(&[("config.toml", &text)]);
    assert_eq!(dir.says(), "");
    dir.write("config.toml", (text + "#").as_bytes());
    assert_eq!(dir.says(), "error: config.toml is larger than 4 MiB, which no configuration is");
}

#[test]
fn a_file_that_everyone_can_change_is_suspicious() {
    let dir = Dir::with(&[("config.toml", "")]);
    fs::set_permissions(dir.path("config.toml"), Permissions::from_mode(0o666)).unwrap();
    assert_eq!(
        dir.says(),
        "warning: config.toml can be changed by every user of this host\n      = run: chmod o-w config.toml"
    );
}

#[test]
fn names_of_files_are_escaped_too() {
    let dir = Dir::with(&[("config.toml", "")]);
    let name = std::ffi::OsStr::from_bytes(b"\x1b[2J\xff.toml");
    fs::create_dir(dir.path("conf.d")).unwrap();
    fs::write(dir.path("conf.d").join(name), "x = 1").unwrap();
    let said = dir.says();
    assert!(said.starts_with("error: conf.d/\\u{1b}[2J\u{fffd}.toml:1:1: unknown key `x`"), "{said}");
}

#[test]
fn a_plan_takes_its_brake_from_one_file_and_its_minimum_from_another() {
    let dir = Dir::with(&[
        ("config.toml", "[plan.a]\nmin_failed = 9\nmessages_per_hour = 5\n[host]\nlist_users = [\"sympa\"]"),
        (
            "conf.d/1.toml",
            "[plan.a]\nmax_failed_percent = 30\nmessages_per_hour = 6\nlocal = true\n[host]\ncount_lists = false",
        ),
    ]);
    let Loaded { config, warnings, .. } = dir.load().unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    let plan = &config.plans[0];
    let brake = plan.brake.unwrap();
    assert_eq!((brake.max_failed_percent, brake.min_failed), (30, 9));
    assert_eq!((plan.messages.per_hour, plan.local), (Some(6), true));
    assert_eq!((config.host.count_lists, texts(&config.host.list_users)), (false, vec!["sympa".to_owned()]));
}

#[test]
fn a_limit_in_one_file_and_the_switch_in_another_are_both_named() {
    let dir = Dir::with(&[
        ("config.toml", "[plan.a]\nmessages_per_hour = 5\n"),
        ("conf.d/1.toml", "[smtp]\nmessages = false\n"),
    ]);
    assert_eq!(
        dir.says(),
        "\
error: config.toml:2:21: `messages_per_hour` cannot hold: `messages` in [smtp] is false at conf.d/1.toml:2:12, so none are counted
    2 | messages_per_hour = 5
      |                     ^ remove one of the two"
    );
}

#[test]
fn a_rule_in_a_later_file_takes_the_place_of_the_earlier_one() {
    let dir = Dir::with(&[
        ("config.toml", "[[rule]]\ngroup = \"a\"\nplan = \"deny\"\n[[rule]]\ngroup = \"b\"\nplan = \"deny\"\n"),
        (
            "conf.d/1.toml",
            "[[rule]]\nuser = \"a\"\nplan = \"deny\"\n[[rule]]\ngroup = \"a\"\nplan = \"allow\"\n\
             [[rule]]\ncgroup = \"/c\"\nplan = \"deny\"\n[[rule]]\nto = \"::1\"\nports = [25, 465]\nplan = \"deny\"\n",
        ),
        (
            "conf.d/2.toml",
            "[[rule]]\ncgroup = \"/c\"\nplan = \"allow\"\n[[rule]]\ngroup = \"a\"\nplan = \"standard\"\n\
             [[rule]]\nports = [465, 25]\nto = [\"::1\"]\nplan = \"allow\"\n",
        ),
    ]);
    let Loaded { config, warnings, .. } = dir.load().unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    let short = |place: &crate::config::Place| {
        place.to_string().rsplit('/').next().expect("a name").trim_end_matches(":1").to_owned()
    };
    let rules: Vec<_> = config
        .rules
        .iter()
        .map(|rule| (config.plan_name(rule.plan), short(&rule.at), rule.replaces.as_ref().map(short)))
        .collect();
    let at = |text: &str| text.to_owned();
    assert_eq!(
        rules,
        [
            ("standard", at("2.toml:4"), Some(at("1.toml:4"))),
            ("deny", at("config.toml:4"), None),
            ("deny", at("1.toml"), None),
            ("allow", at("2.toml"), Some(at("1.toml:7"))),
        ],
        "the order is that of the rules replaced"
    );
    let [exception] = &config.exceptions[..] else { panic!("{:?}", config.exceptions) };
    assert!(exception.allow);
    assert_eq!(exception.replaces.as_ref().map(short), Some(at("1.toml:10")));
}

#[test]
fn totals_and_groups_merge_by_their_keys_and_schedules_are_replaced() {
    let dir = Dir::with(&[
        (
            "config.toml",
            "watch = true\n[plan.a.total]\nper_hour = 1\nper_day = 2\n[[plan.a.schedule]]\ndays = [\"mon\"]\nper_day = 3\n\
             [[plan.a.schedule]]\ndays = [\"tue\"]\nper_day = 4\n[group.50]\nper_hour = 5\nper_day = 6\n",
        ),
        (
            "conf.d/1.toml",
            "watch = false\n[plan.a.total]\nper_day = 12\n[[plan.a.schedule]]\ndays = [\"wed\"]\nper_day = 13\n\
             [group.050]\nper_day = 16\n[control]\ngroup = \"adm\"\n",
        ),
    ]);
    let Loaded { config, warnings, .. } = dir.load().unwrap();
    assert!(warnings.warnings() == 1, "{warnings}");
    let total = config.plans[0].total.connections;
    assert_eq!((total.per_hour, total.per_day), (Some(1), Some(12)));
    let days: Vec<_> = config.plans[0].schedules.iter().map(|schedule| schedule.quotas.connections.per_day).collect();
    assert_eq!(days, [Some(13)]);
    let [group] = &config.groups[..] else { panic!("{:?}", config.groups) };
    assert_eq!((group.quotas.connections.per_hour, group.quotas.connections.per_day), (Some(5), Some(16)));
    assert_eq!(
        (config.watch, config.control_group.map(|name| name.value.to_string())),
        (false, Some("adm".to_owned()))
    );
}

#[test]
fn twenty_thousand_drop_ins_are_read_and_no_more() {
    let dir = Dir::with(&[("config.toml", "")]);
    fs::create_dir(dir.path("conf.d")).unwrap();
    for n in 0..20_000 {
        fs::write(dir.path(&format!("conf.d/{n}.toml")), "").unwrap();
    }
    assert_eq!(dir.load().unwrap().sources.len(), 20_001);
    dir.write("conf.d/x.toml", b"");
    assert_eq!(dir.says(), "error: conf.d has 20001 files, and up to 20000 are read\n      = join some of them");
}

#[test]
fn drop_ins_of_more_than_sixty_four_mebibytes_together_are_refused() {
    let text = "#".repeat(4 << 20);
    let dir = Dir::with(&[("config.toml", "#")]);
    for n in 10..26 {
        dir.write(&format!("conf.d/{n}.toml"), text.as_bytes());
    }
    assert_eq!(
        dir.says(),
        "error: up to conf.d/25.toml and the files before it are larger than 64 MiB together\n      \
         = no configuration is: the rest was not read"
    );
}

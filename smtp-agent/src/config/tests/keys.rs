//! Keys and their values, one by one.

use super::cases;

cases! {
    a_slip_in_a_key_names_the_key: "[plan.standard]\nper_houre = 100" => [
        "error 2:1: unknown key `per_houre` in [plan.standard] -> did you mean `per_hour`?",
    ];
    a_slip_in_a_table_names_the_table: "[hostt]\nper_day = 5" => [
        "error 1:2: unknown table `hostt` at the top level -> did you mean `host`?",
    ];
    a_dash_is_a_slip_for_an_underscore: "[host]\nPer-Hour = 5" => [
        "error 2:1: unknown key `Per-Hour` in [host] -> did you mean `per_hour`?",
    ];
    a_key_below_the_wrong_header_is_sent_home: "[smtp]\nmode = \"observe\"" => [
        "error 2:1: unknown key `mode` in [smtp] -> `mode` belongs at the top of the file, above the first [table]",
    ];
    a_key_with_two_homes_names_both: "per_hour = 3" => [
        "error 1:1: unknown key `per_hour` at the top level -> `per_hour` belongs in [plan.NAME], in [host], in [group.NAME] or in [[rule]]",
    ];
    a_key_like_no_other_lists_all: "[log]\nzzzzz = 1" => [
        "error 2:1: unknown key `zzzzz` in [log] -> valid here: `level`, `format`, `probe`",
    ];
    an_inline_table_is_checked_too: "allow = {users = [\"x\"], grups = []}" => [
        "error 1:25: unknown key `grups` in [allow] -> did you mean `groups`?",
    ];
    a_key_with_homes_within_plans_only_names_them: "[host]\nhours = \"08:00-18:00\"" => [
        "error 2:1: unknown key `hours` in [host] -> `hours` belongs in [[plan.NAME.schedule]]",
    ];
    a_key_in_a_rule_is_checked_too: "[[rule]]\nuser = \"a\"\nplan = \"allow\"\nlocal = true" => [
        "error 4:1: unknown key `local` in [[rule]] -> `local` belongs in [plan.NAME]",
    ];

    a_table_is_no_number: "host = 3" => [
        "error 1:1: `host` is a table, not a number -> write [host] on a line of its own and its keys below",
    ];
    a_table_is_no_list: "[[host]]\nper_day = 1" => [
        "error 1:3: `host` is a table, not a list -> write [host], in single brackets and once",
    ];

    both_modes_are_modes: "mode = \"observe\"" => [];
    a_mode_has_a_nearest_mode: "mode = \"Observed\"" => [
        "error 1:8: `mode` must be \"enforce\" or \"observe\", not \"Observed\" -> did you mean \"observe\"?",
    ];
    a_mode_like_no_other_gets_no_guess: "mode = \"dry-run\"" => [
        "error 1:8: `mode` must be \"enforce\" or \"observe\", not \"dry-run\"",
    ];
    a_mode_is_no_boolean: "mode = true" => ["error 1:8: `mode` must be \"enforce\" or \"observe\", not true"];

    watching_is_a_boolean: "watch = \"yes\"" => [
        "error 1:9: `watch` must be true or false, not a text -> write watch = true",
    ];
    the_socket_is_opened_to_one_group: "[control]\ngroup = [\"a\", \"b\"]" => [
        "error 2:9: `group` takes names or numeric ids, not a list",
    ];

    ports_go_from_1_to_65535: "[smtp]\nports = [1, 65535]" => [];
    port_0_is_none: "[smtp]\nports = [0]" => ["error 2:10: `ports` must be from 1 to 65535, not 0"];
    port_65536_is_none: "[smtp]\nports = [65536]" => ["error 2:10: `ports` must be from 1 to 65535, not 65536"];
    a_port_in_quotes_loses_them: "[smtp]\nports = [\"587\"]" => [
        "error 2:10: `ports` must be a whole number from 1 to 65535, not a text -> write 587",
    ];
    a_port_stands_once: "[smtp]\nports = [25, 587, 25]" => ["error 2:19: port 25 is listed twice -> remove one"];
    there_is_a_port: "[smtp]\nports = []" => [
        "error 2:9: `ports` is empty: nothing would be counted or limited -> leave the key out for 25, 465 and 587",
    ];
    thirty_two_ports_fit: &format!("[smtp]\nports = {:?}", (1..=32).collect::<Vec<_>>()) => [];
    thirty_three_ports_do_not: &format!("[smtp]\nports = {:?}", (1..=33).collect::<Vec<_>>()) => [
        "error 2:129: `ports` takes up to 32 ports, not 33",
    ];
    one_port_is_a_list_too: "[smtp]\nports = 25" => [
        "error 2:9: `ports` must be a list of ports, not a number -> write ports = [25]",
    ];

    one_name_is_a_list_too: "[allow]\nusers = \"root\"" => [
        "error 2:9: `users` must be a list of names, not a text -> write users = [\"root\"]",
    ];
    a_name_may_be_any_that_nss_can_return: "[allow]\nusers = [\"EXAMPLE\\\\jo hn\", \"jörg\", \"svc$\", \"a@b.example\"]" => [
        ,
    ];
    a_name_is_not_empty: "[allow]\nusers = [\"\"]" => ["error 2:10: a name is empty"];
    a_group_has_no_sign: "[allow]\nusers = [\"%wheel\"]" => [
        "error 2:10: \"%wheel\" is not a name -> groups are written without the sign: groups = [\"wheel\"]",
    ];
    a_name_has_no_colon: "[deny]\nusers = [\"a:b\"]" => [
        "error 2:10: \"a:b\" is not a name: `:` cannot be part of one",
    ];
    a_list_in_one_text_is_several_names: "[deny]\nusers = [\"a,b\"]" => [
        "error 2:10: \"a,b\" is not a name: `,` cannot be part of one -> write each name in quotes of its own",
    ];
    a_name_has_no_blanks_around_it: "[deny]\nusers = [\" a\"]" => [
        "error 2:10: \" a\" has blanks around it -> remove them",
    ];
    a_name_has_no_terminal_escapes: "[deny]\nusers = [\"a\\u001b[2Jb\"]" => [
        "error 2:10: \"a\\u{1b}[2Jb\" is not a name: `\\u{1b}` cannot be part of one",
    ];
    a_name_has_an_end: &format!("[deny]\nusers = [\"{}\"]", "x".repeat(257)) => [
        &format!("error 2:10: \"{}…\" is not a name: it is longer than 256 bytes", "x".repeat(60)),
    ];
    the_highest_uid_is_one: "[allow]\nusers = [\"4294967294\", 0]" => [];
    minus_one_is_no_uid: "[allow]\nusers = [4294967295]" => [
        "error 2:10: 4294967295 is not a uid or gid: they go from 0 to 4294967294",
    ];
    minus_one_is_no_uid_in_quotes_either: "[allow]\nusers = [\"4294967295\"]" => [
        "error 2:10: 4294967295 is not a uid or gid: they go from 0 to 4294967294",
    ];
    a_uid_is_not_negative: "[allow]\nusers = [-1]" => [
        "error 2:10: -1 is not a uid or gid: they go from 0 to 4294967294",
    ];
    a_uid_has_32_bits: "[allow]\nusers = [\"99999999999\"]" => [
        "error 2:10: 99999999999 is not a uid or gid: they go from 0 to 4294967294",
    ];
    a_name_is_no_list: "[allow]\ngroups = [[]]" => ["error 2:11: `groups` takes names or numeric ids, not a list"];

    a_limit_ends_at_a_billion: "[host]\nper_day = 1_000_000_000" => [];
    a_limit_above_a_billion_is_an_error: "[host]\nper_day = 1_000_000_001" => [
        "error 2:11: `per_day` must be from 0 to 1000000000, not 1000000001",
    ];
    a_limit_of_any_size_is_read: "[host]\nper_day = 99999999999999999999999" => [
        "error 2:11: `per_day` must be from 0 to 1000000000, not 99999999999999999999999",
    ];
    minus_one_is_no_word_for_no_limit: "[host]\nper_hour = -1" => [
        "error 2:12: `per_hour` must be from 0 to 1000000000, not -1 -> for no limit leave the key out",
    ];
    unlimited_is_said_by_silence: "[host]\nper_hour = \"unlimited\"" => [
        "error 2:12: `per_hour` must be a whole number from 0 to 1000000000, not a text \
         -> for no limit leave the key out",
    ];
    infinity_is_said_by_silence_too: "[host]\nper_hour = inf" => [
        "error 2:12: `per_hour` must be a whole number from 0 to 1000000000, not a number with a fraction \
         -> for no limit leave the key out",
    ];
    a_limit_in_quotes_loses_them: "[host]\nper_hour = \"100\"" => [
        "error 2:12: `per_hour` must be a whole number from 0 to 1000000000, not a text -> write 100",
    ];
    a_limit_has_no_fraction: "[host]\nper_hour = 100.0" => [
        "error 2:12: `per_hour` must be a whole number from 0 to 1000000000, not a number with a fraction \
         -> write 100",
    ];
    a_limit_of_0_is_not_unlimited: "[host]\nper_hour = 0" => [
        "warning 2:12: `per_hour = 0` refuses every connection -> for no limit leave the key out",
    ];
    an_hour_above_the_day_says_nothing: "[host]\nper_hour = 10\nper_day = 5" => [
        "warning 2:12: `per_hour` is never reached: `per_day` is 5",
    ];
    an_hour_as_long_as_the_day_is_reached: "[host]\nper_hour = 5\nper_day = 5" => [];
    strict_is_a_boolean: "[host]\nstrict = \"yes\"" => [
        "error 2:10: `strict` must be true or false, not a text -> write strict = true",
    ];
    strict_is_no_number: "[host]\nstrict = 0" => [
        "error 2:10: `strict` must be true or false, not a number -> write strict = false",
    ];

    a_path_is_absolute: "[paths]\npins = \"bpf\"" => [
        "error 2:8: `pins` is not a usable path: it is not absolute -> begin it with /",
    ];
    a_path_has_no_tilde: "[paths]\nstate = \"~/state\"" => [
        "error 2:9: `state` is not a usable path: it is not absolute \
         -> `~` is not expanded here; write the path in full",
    ];
    a_path_does_not_climb: "[paths]\nstate = \"/a/../b\"" => [
        "error 2:9: `state` is not a usable path: it contains `..` -> write the path without it",
    ];
    two_dots_in_a_name_do_not_climb: "[paths]\nstate = \"/a..b/..c\"" => [];
    a_path_is_not_empty: "[paths]\nrun = \"\"" => ["error 2:7: `run` is not a usable path: it is empty"];
    a_path_is_not_the_root: "[paths]\nrun = \"//\"" => [
        "error 2:7: `run` is not a usable path: it is the root directory -> name a directory below it",
    ];
    a_path_has_no_nul: "[paths]\nrun = \"/a\\u0000\"" => [
        "error 2:7: `run` is not a usable path: it contains a control character",
    ];
    a_socket_in_the_run_directory_can_be_bound: &format!("[paths]\nrun = \"/{}\"", "r".repeat(93)) => [];
    a_socket_beyond_its_address_cannot: &format!("[paths]\nrun = \"/{}\"", "r".repeat(94)) => [
        "error 2:7: `run` is not a usable path: longer than 94 bytes, a socket in it would have no valid address \
         -> choose a shorter path",
    ];
    a_cgroup_is_auto_or_a_path: "[kernel]\ncgroup = \"Auto\"" => [
        "error 2:10: `cgroup` must be \"auto\" or a cgroup v2 directory: it is not absolute \
         -> did you mean \"auto\"?",
    ];
    a_cgroup_is_absolute: "[kernel]\ncgroup = \"system.slice\"" => [
        "error 2:10: `cgroup` must be \"auto\" or a cgroup v2 directory: it is not absolute -> begin it with /",
    ];

    metrics_listen_on_ipv6_too: "[metrics]\nlisten = \"[::1]:0\"" => [];
    an_address_has_a_port: "[metrics]\nlisten = \"127.0.0.1\"" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not \"127.0.0.1\" \
         -> add a port: \"127.0.0.1:9725\"",
    ];
    an_ipv6_address_has_brackets: "[metrics]\nlisten = \"::1\"" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not \"::1\" -> add a port: \"[::1]:9725\"",
    ];
    a_port_has_an_address: "[metrics]\nlisten = \":9725\"" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not \":9725\" -> write \"127.0.0.1:9725\"",
    ];
    a_bare_port_has_an_address: "[metrics]\nlisten = 9100" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not a number -> write \"127.0.0.1:9100\"",
    ];
    localhost_is_an_address_here: "[metrics]\nlisten = \"localhost:9725\"" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not \"localhost:9725\" \
         -> write \"127.0.0.1:9725\"",
    ];
    a_star_is_an_address_here: "[metrics]\nlisten = \"*:9725\"" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not \"*:9725\" \
         -> write \"0.0.0.0:9725\" or \"[::]:9725\"",
    ];
    names_are_not_looked_up: "[metrics]\nlisten = \"mail.example:9725\"" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not \"mail.example:9725\" \
         -> write an IP address; names are not looked up here",
    ];
    false_is_off: "[metrics]\nlisten = false" => [
        "error 2:10: `listen` must be an address with a port, or \"off\", not false -> write \"off\"",
    ];
    at_least_one_user_has_a_label: "[metrics]\nmax_users = 0" => [
        "error 2:13: `max_users` must be from 1 to 100000, not 0",
    ];
    what_the_page_shows_is_a_word: "[page]\nshow = true" => [
        "error 2:8: `show` must be \"off\", \"accounts\" or \"all\", not true",
    ];
    a_word_for_the_page_is_near: "[page]\nshow = \"account\"" => [
        "error 2:8: `show` must be \"off\", \"accounts\" or \"all\", not \"account\" -> did you mean \"accounts\"?",
    ];
    hosts_are_names: "[page]\nhosts = [\"ok.example\", \"https://a.example:9725/\", \"*.example\", 7]" => [
        "error 2:24: \"https://a.example:9725/\" in hosts is no name of a host \
         -> write it without scheme, port and path: \"a.example\"",
        "error 2:51: \"*.example\" in hosts is no name of a host \
         -> write it as it stands in the address bar: \"mail.example.org\"; addresses need not be listed",
        "error 2:64: `hosts` takes names in quotes, not a number",
    ];
    events_have_a_ceiling: "[events]\nper_second = 10001" => [
        "error 2:14: `per_second` must be from 0 to 10000, not 10001",
    ];
    masks_are_words: "[attribution]\nmask = \"all\"" => [
        "error 2:8: `mask` must be \"secrets\", \"arguments\" or \"nothing\", not \"all\"",
    ];
    patterns_are_regular_expressions: "[attribution]\nmask_also = [\"ok\", \"(\"]" => [
        "error 2:20: `(` in mask_also is no regular expression: unclosed group \
         -> write it as the crate regex does, without look-around: 'customer-(\\d+)'",
    ];
    history_is_kept_for_an_hour_at_least: "[history]\nkeep = \"30m\"" => [
        "error 2:8: `keep` must be from \"1h\" to \"3650d\", not \"30m\" -> `m` is a minute; write `M` for months",
    ];
    a_time_to_keep_has_a_unit: "[history]\nkeep = 31" => [
        "error 2:8: `keep` must be a length of time in quotes, as in \"31d\", not a number -> write \"31d\" for days",
    ];
    a_size_has_a_unit: "[history]\nmax_size = 512" => [
        "error 2:12: `max_size` must be a size in quotes, as in \"512MiB\", not a number \
         -> write \"512MiB\", or another unit",
    ];
    a_size_is_whole: "[history]\nmax_size = \"1.5GiB\"" => [
        "error 2:12: `max_size` must be a size such as \"512MiB\", not \"1.5GiB\" \
         -> write a whole number and KiB, MiB, GiB, kB, MB or GB",
    ];
    a_size_has_a_floor: "[history]\nmax_size = \"15MiB\"" => [
        "error 2:12: `max_size` must be from \"16MiB\" to \"1024GiB\", not \"15MiB\"",
    ];
    names_are_asked_for_in_two_ways: "[history]\nresolve = [\"prt\", \"whois\", 1]" => [
        "error 2:12: `resolve` takes \"ptr\" and \"mx\", not \"prt\" -> did you mean \"ptr\"?",
        "error 2:19: `resolve` takes \"ptr\" and \"mx\", not \"whois\" -> for no lookups write []",
        "error 2:28: `resolve` takes \"ptr\" and \"mx\" in quotes, not a number",
    ];
    a_way_to_ask_is_in_a_list: "[history]\nresolve = \"ptr\"" => [
        "error 2:11: `resolve` must be a list of \"ptr\" and \"mx\", not a text -> write resolve = [\"ptr\"]",
    ];
    a_resolver_is_an_address: "[history]\nresolver = \"dns.example.org\"" => [
        "error 2:12: `resolver` must be an address, not \"dns.example.org\" -> it is no address of a resolver; \
         write 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:53",
    ];
    domains_are_no_mailboxes: "[history]\nmx_domains = [\"postmaster@example.org\", \"com\"]" => [
        "error 2:15: \"postmaster@example.org\" in mx_domains is no domain \
         -> write the part behind the @, as in \"example.org\"",
        "error 2:41: \"com\" in mx_domains is no domain -> write the part behind the @, as in \"example.org\"",
    ];
    a_longer_form_of_a_level_is_near: "[log]\nlevel = \"warning\"" => [
        "error 2:9: `level` must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\", not \"warning\" \
         -> did you mean \"warn\"?",
    ];
    the_probe_has_no_trace: "[log]\nprobe = \"trace\"" => [
        "error 2:9: `probe` must be \"off\", \"error\", \"warn\", \"info\" or \"debug\", not \"trace\"",
    ];
    a_format_is_a_text: "[log]\nformat = [\"json\"]" => [
        "error 2:10: `format` must be \"text\" or \"json\", not a list",
    ];
}

//! The web page, in a real browser that looks at a real agent.

use crate::scene::{SOON, assert_has};
use base64::{Engine, prelude::BASE64_STANDARD};
use nix::unistd::chown;
use serde_json::{Value, json};
use smtp_tests::{
    Etc, Must, World,
    browser::{Browser, Look},
    eventually, process, scratch, uid,
};
use std::{
    fs::{self, Permissions},
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// Several looks of the page's, on a busy machine.
const LIVE: Duration = Duration::from_secs(30);

const LIMITS: &str = "[plan.standard]\nper_hour = 100\nper_day = 1000\n[host]\nper_day = 2000\n";
const ALL: &str = "[page]\nshow = 'all'\n";

/// A user may be called so, as far as the files of users are concerned.
const HOSTILE: &str = "<script>document.title=1</script><img src=x onerror=\"document.title=2\">'&amp;";

const ENTER: &str = "\u{e007}";
const ESCAPE: &str = "\u{e00c}";

fn users() -> Etc {
    let named = |name, user| (name, user, user);
    Etc::with_users(&[
        named("shop", uid::SENDER),
        named("blog", uid::OTHER),
        named("wiki", 61_005),
        named(HOSTILE, 61_006),
    ])
}

fn world(etc: &Etc, toml: &str) -> World {
    World::built(&format!("{LIMITS}{toml}"), |builder| builder.etc(etc))
}

fn url(world: &World) -> String {
    format!("http://{}/", world.agent.metrics_address())
}

/// A script of the user shop that connects to the sink, with a password in its command line.
struct Newsletter(TempDir);

impl Newsletter {
    #[track_caller]
    fn written() -> Self {
        let dir = scratch::dir();
        let newsletter = Self(dir);
        let code = "use Socket; my $to = sockaddr_in(25, inet_aton(shift @ARGV)); \
                    socket(my $s, PF_INET, SOCK_STREAM, 0) or die; connect($s, $to);";
        fs::write(newsletter.path(), code).must("cannot write a script");
        fs::set_permissions(newsletter.path(), Permissions::from_mode(0o755)).must("cannot make a script of it");
        chown(&newsletter.path(), Some(uid::SENDER.into()), Some(uid::SENDER.into())).must("cannot give it away");
        newsletter
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().must("it exists").join("newsletter.pl")
    }

    #[track_caller]
    fn send(&self, world: &World) {
        let mut command = Command::new("perl");
        command.current_dir(self.0.path()).arg(self.path()).arg(world.veth.far.v4.to_string()).arg("--password=geheim");
        world.cgroup().enter(&mut command);
        let ran = process::output(command.uid(uid::SENDER).gid(uid::SENDER).stdin(Stdio::null()), SOON);
        ran.expect_ok("perl");
    }
}

/// The cells of an account's row, by their labels.
fn row(browser: &Browser, account: &str) -> Value {
    let script = "
        const row = [...document.querySelectorAll('#rows tr')].find((row) =>
            row.querySelector('th')?.innerText.trim() === arguments[0]);
        const cells = row ? [...row.querySelectorAll('td')] : [];
        return Object.fromEntries(cells.map((td) => [td.dataset.label, td.innerText.trim()]));";
    browser.run(script, &[account.into()])
}

fn accounts(browser: &Browser) -> Vec<String> {
    browser.texts("#rows tr > th")
}

#[track_caller]
fn open(world: &World, look: Look) -> Browser {
    let browser = Browser::start(look);
    browser.open(&url(world));
    browser
}

#[track_caller]
fn assert_quiet(browser: &Browser) {
    assert_eq!(browser.console(), [] as [String; 0], "the console");
}

/// Opens the row of an account and returns when it is open.
#[track_caller]
fn open_account(browser: &Browser, account: &str) {
    browser.find("#rows button.open");
    let button =
        "return [...document.querySelectorAll('#rows button.open')].find((b) => b.textContent === arguments[0])";
    eventually(LIVE, "the account is in the table", || !browser.run(button, &[account.into()]).is_null());
    browser.run(&format!("{}.focus()", button.replacen("return ", "(", 1).to_owned() + ")"), &[account.into()]);
    // By the keyboard, as somebody without a mouse does.
    browser.press(ENTER);
    browser.find("#rows tr.details");
}

/// One answer, over a connection of its own: status, headers in lower case, body.
#[track_caller]
fn ask(world: &World, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(world.agent.metrics_address()).must("the agent listens");
    stream.write_all(request.as_bytes()).must("cannot ask");
    let mut text = String::new();
    stream.read_to_string(&mut text).must("no answer");
    let (head, body) = text.split_once("\r\n\r\n").must(format_args!("no HTTP: {text}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).must(format_args!("no status: {head}"));
    (status, head.to_lowercase(), body.to_owned())
}

#[track_caller]
fn ask_as(world: &World, method: &str, path: &str, host: &str) -> (u16, String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    ask(world, &request)
}

#[test]
fn the_table_grows_while_it_is_looked_at_and_an_account_opens_down_to_the_culprit() {
    let (etc, script) = (users(), Newsletter::written());
    let world = world(&etc, ALL);
    world.dial().uid(uid::SENDER).count(3).run();
    world.dial().uid(uid::OTHER).count(85).run();
    let browser = open(&world, Look::default());
    eventually(LIVE, "the account is shown", || row(&browser, "shop")["Hour"] == "3/100");
    assert_eq!(row(&browser, "blog")["Hour"], "85/100 near limit");
    assert_eq!(browser.texts(".badge"), ["gate in force", "mode enforce"]);
    assert_has(&browser.texts("#host").concat(), &["88/2000"]);

    world.dial().uid(uid::SENDER).count(4).run();
    eventually(LIVE, "the count grows by itself", || row(&browser, "shop")["Hour"] == "7/100");
    let rate = row(&browser, "shop")["Per minute"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    assert!(rate > 1.0, "{rate}");
    assert_eq!(accounts(&browser), ["shop", "blog"], "by rate");

    script.send(&world);
    open_account(&browser, "shop");
    let path = script.path().display().to_string();
    eventually(LIVE, "the script is named", || browser.texts(".attempts summary").concat().contains(&path));
    browser.click(&browser.find(".attempts summary"));
    let told = browser.text(&browser.find(".attempts details[open]"));
    let own = std::process::id().to_string();
    assert_has(&told, &["(argument)", "/perl", "--password=***", &own, "parents", "directory"]);
    assert!(!told.contains("geheim"), "{told}");
    let standing = || browser.text(&browser.find("tr.details"));
    eventually(LIVE, "the details go on", || standing().contains("8/100"));
    assert_has(&standing(), &["connections / hour", "connections / day", "8 allowed", "[default] plan", "sessions"]);
    script.send(&world);
    eventually(LIVE, "the attempts go on", || browser.all(".attempts details").len() == 9);
    assert_eq!(browser.all(".attempts details[open]").len(), 1, "what was opened stays open");

    if let Some(picture) = std::env::var_os("SMTP_TEST_SCREENSHOT") {
        world.dial().uid(61_005).count(120).run();
        world.dial().uid(61_006).count(40).run();
        world.mailer(uid::OTHER).messages(5).run();
        eventually(LIVE, "they are shown", || row(&browser, "wiki")["Hour"] == "100/100 at limit");
        // Down to the parents, which are those of this test.
        let bottom =
            "return document.querySelector('.attempts details[open] dt:last-of-type').getBoundingClientRect().top";
        let bottom = browser.run(bottom, &[]).as_f64().must("a number");
        browser.screen(1280, bottom as u32 - 4);
        let png = BASE64_STANDARD.decode(browser.screenshot()).must("not base64");
        fs::write(picture, png).must("cannot write the picture");
    }
    browser.press(ESCAPE);
    assert_eq!(browser.all("tr.details").len(), 0);
    assert_quiet(&browser);
}

#[test]
fn a_message_that_was_stopped_is_among_the_attempts_with_who_was_behind_it() {
    let etc = users();
    let world =
        world(&etc, &format!("{ALL}[plan.few]\nmessages_per_hour = 2\n[[rule]]\nuser = 'shop'\nplan = 'few'\n"));
    world.mailer(uid::SENDER).messages(4).run();
    let browser = open(&world, Look::default());
    open_account(&browser, "shop");
    eventually(LIVE, "it is shown", || browser.texts(".attempts summary").concat().contains("a message:"));
    let summaries = browser.texts(".attempts summary");
    assert_has(&summaries[0], &["UTC a message: refused (messages_hour) remote ", "smtp-mailer"]);
    assert_has(summaries.last().must("the connection"), &["UTC allowed (within_limits) remote "]);
    browser.click(&browser.find(".attempts summary"));
    let told = browser.text(&browser.find(".attempts details[open]"));
    assert_has(&told, &["parents", &std::process::id().to_string(), "directory", "since"]);
    let (status, _, body) = ask_as(&world, "GET", "/api/recent", "localhost");
    let recent: Value = serde_json::from_str(&body).must("JSON");
    assert_eq!(
        (status, &recent["attempts"][0]["event"], &recent["attempts"][0]["unit"]),
        (200, &"stop".into(), &"message".into())
    );
    assert_quiet(&browser);
}

#[test]
fn accounts_are_filtered_and_sorted_by_mouse_and_keyboard() {
    let etc = users();
    let world = world(&etc, "");
    world.dial().uid(uid::SENDER).count(1).run();
    world.dial().uid(uid::OTHER).count(2).run();
    world.dial().uid(61_005).count(130).run();
    let browser = open(&world, Look::default());
    eventually(LIVE, "all are shown", || accounts(&browser).len() == 3);
    for (head, order, wanted) in [
        ("stopped", "descending", ["wiki", "blog", "shop"]),
        ("account", "ascending", ["blog", "shop", "wiki"]),
        ("hour", "descending", ["wiki", "blog", "shop"]),
    ] {
        let head = format!("th[data-sort={head}]");
        browser.run("document.querySelector(arguments[0]).focus()", &[format!("{head} button").into()]);
        browser.press(ENTER);
        assert_eq!(accounts(&browser), wanted, "{head}");
        let said = browser.run("return document.querySelector(arguments[0]).ariaSort", &[head.clone().into()]);
        assert_eq!(said, order, "{head}");
        assert_eq!(browser.all("th[aria-sort]").len(), 1);
        let focus = browser.run("return document.activeElement.closest('th').dataset.sort", &[]);
        assert!(head.contains(focus.as_str().must("a heading")), "the focus stays");
    }
    assert_eq!(row(&browser, "wiki")["Hour"], "100/100 at limit");
    browser.type_into(&browser.find("#filter"), "LO");
    assert_eq!(accounts(&browser), ["blog"]);
    assert_eq!(browser.texts("#count"), ["1 of 3 accounts"]);
    browser.type_into(&browser.find("#filter"), "x");
    assert_eq!(browser.texts("#rows"), ["no such account"]);
    assert_quiet(&browser);
}

#[test]
fn what_may_not_be_shown_is_nowhere_and_the_page_says_so() {
    let (etc, script) = (users(), Newsletter::written());
    let world = world(&etc, "");
    script.send(&world);
    let browser = open(&world, Look::default());
    open_account(&browser, "shop");
    let details = browser.text(&browser.find("tr.details"));
    assert_has(&details, &["1 allowed", "are not shown", "show = \"all\" in [page]"]);
    let (status, _) = world.agent.get("/api/recent").must("an answer");
    assert_eq!(status, 403);
    let paths = ["/", "/page.js", "/page.css", "/api/overview", "/api/recent", "/report"];
    let everything = paths.map(|path| world.agent.get(path).must("an answer").1).concat();
    let shown = browser.run("return document.documentElement.outerHTML", &[]);
    for secret in ["newsletter", "geheim", "/usr/bin/perl", &script.0.path().display().to_string()] {
        assert!(!everything.contains(secret), "{secret}");
        assert!(!shown.as_str().must("a text").contains(secret), "{secret}");
    }
    assert_has(&everything, &["shop"]);
    assert_quiet(&browser);

    // Allowed, and taken back: from then on, and not of what was before.
    let recent = || world.agent.get("/api/recent").must("an answer");
    world.reload(&format!("{LIMITS}{ALL}"));
    assert_eq!(recent(), (200, json!({"attempts": []}).to_string()));
    script.send(&world);
    eventually(SOON, "it is told", || recent().1.contains("newsletter.pl"));
    assert!(!recent().1.contains("geheim"));
    world.reload(LIMITS);
    assert_eq!(recent().0, 403);
}

#[test]
fn a_name_that_is_markup_stays_a_name() {
    let etc = users();
    let world = world(&etc, ALL);
    world.dial().uid(61_006).count(2).run();
    let shown = world.agent.get("/api/overview").must("an answer").1;
    let told: Value = serde_json::from_str(&shown).must("JSON");
    let name = told["accounts"][0]["account"].as_str().must("a name").to_owned();
    assert_has(&name, &["<script>", "<img src=x onerror="]);
    for scripts in [true, false] {
        let browser = open(&world, Look { scripts, ..Look::default() });
        eventually(LIVE, "it is shown", || accounts(&browser) == [name.as_str()]);
        assert_eq!(browser.all("img").len(), 0);
        if scripts {
            open_account(&browser, &name);
            eventually(LIVE, "its attempts are shown", || browser.all(".attempts details").len() == 2);
            assert_eq!(browser.run("return [document.title, document.images.length]", &[]), json!(["smtp-agent", 0]));
            assert_quiet(&browser);
            // Even markup that came in would do nothing, and the console would tell.
            let markup = "const p = document.createElement('p'); \
                          p.innerHTML = '<img src=\"x:\" onerror=\"window.ran = 1\">'; \
                          const s = document.createElement('script'); s.textContent = 'window.ran = 2'; \
                          document.body.append(p, s); return window.ran ?? 'nothing';";
            assert_eq!(browser.run(markup, &[]), "nothing");
            assert_has(&browser.console().concat(), &["Content Security Policy"]);
        }
    }
}

#[test]
fn without_scripts_the_table_is_there_as_it_was_when_it_was_asked_for() {
    let etc = users();
    let world = world(&etc, "");
    world.dial().uid(uid::SENDER).count(130).run();
    let browser = open(&world, Look { scripts: false, ..Look::default() });
    assert_eq!(accounts(&browser), ["shop"]);
    let cells = browser.texts("#rows td");
    // Those that only a script can fill are not shown.
    assert_eq!(cells, ["", "100/100 at limit", "100/1000", "30", "0", "0", "0", ""]);
    assert!(!browser.texts("thead").concat().contains("Per minute"));
    assert_eq!(browser.texts(".controls"), [""], "nothing that does nothing");
    assert_has(&browser.texts("noscript").concat(), &["Load the page again"]);
    let width = browser.find("#rows svg rect");
    assert_eq!(browser.text(&width), "");
    assert_quiet(&browser);
}

#[test]
fn it_fits_a_small_screen_rests_in_the_background_and_can_be_paused() {
    let (etc, script) = (users(), Newsletter::written());
    let world = world(&etc, ALL);
    script.send(&world);
    let browser = open(&world, Look::default());
    let overflows = "return document.documentElement.scrollWidth - window.innerWidth";
    for (width, dark) in [(360, false), (360, true), (768, true), (1280, true)] {
        browser.screen(width, 800);
        browser.dark(dark);
        if browser.all("tr.details").is_empty() {
            open_account(&browser, "shop");
            browser.click(&browser.find(".attempts summary"));
        }
        let room = browser.run(overflows, &[]).as_i64().must("a number");
        assert!(room <= 0, "{room} beyond a width of {width}");
        assert_eq!(row(&browser, "shop")["Hour"], "1/100");
        let colours = "const s = getComputedStyle(document.body); return s.backgroundColor + s.color";
        let colours = browser.run(colours, &[]).as_str().must("colours").to_owned();
        assert_eq!(colours.starts_with("rgb(20, 23, 26)"), dark, "{colours}");
    }

    let looks = || {
        let count =
            "return performance.getEntriesByType('resource').filter((r) => r.name.endsWith('/api/overview')).length";
        browser.run(count, &[]).as_u64().must("a number")
    };
    let before = looks();
    eventually(LIVE, "it looks again", || looks() > before);
    let page = browser.leave();
    // One may have been under way; in this time there would be three more.
    std::thread::sleep(Duration::from_secs(7));
    browser.go_to(&page);
    let hidden = "return performance.getEntriesByType('visibility-state').map((one) => one.name)";
    assert_has(&browser.run(hidden, &[]).to_string(), &["hidden"]);
    let starts = "const states = performance.getEntriesByType('visibility-state'); \
                  const hidden = states.find((one) => one.name === 'hidden'); \
                  return performance.getEntriesByType('resource').filter((r) => r.name.endsWith('/api/overview') && \
                  r.startTime > hidden.startTime && r.startTime < hidden.startTime + 6500).length";
    assert_eq!(browser.run(starts, &[]), 0, "it rests while nobody sees it");
    let before = looks();
    eventually(LIVE, "it goes on when it is seen again", || looks() > before);

    let pause = browser.find("#pause");
    browser.click(&pause);
    assert_eq!(browser.run("return document.querySelector('#pause').ariaPressed", &[]), "true");
    std::thread::sleep(Duration::from_secs(1));
    let before = looks();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(looks(), before);
    browser.click(&pause);
    eventually(LIVE, "it goes on", || looks() > before);
    assert_quiet(&browser);
}

#[test]
fn a_gate_that_was_detached_and_an_agent_that_is_gone_are_alarms() {
    let etc = users();
    let mut world = world(&etc, "");
    let browser = open(&world, Look::default());
    eventually(LIVE, "it stands", || browser.texts(".badge").first().is_some_and(|text| text == "gate in force"));
    assert_eq!(browser.texts("#rows"), ["no SMTP connection has been seen yet"]);
    world.agent.cli(&["detach"]).expect_ok("detach");
    eventually(LIVE, "the alarm", || browser.texts(".badge.alarm").concat().contains("NOT ATTACHED"));
    world.agent.kill9();
    eventually(LIVE, "the notice", || browser.texts("#notice").concat().contains("The agent does not answer"));
}

#[test]
fn it_is_read_only_guarded_and_answers_to_its_own_names_alone() {
    let etc = users();
    let world = world(&etc, "[page]\nhosts = ['mail.example.org']\n");
    let address = world.agent.metrics_address();
    let port = address.split(':').nth(1).must("a port").to_owned();
    let policy = "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
                  connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n";
    let headers = [
        policy,
        "x-content-type-options: nosniff\r\n",
        "referrer-policy: no-referrer\r\n",
        "cross-origin-resource-policy: same-origin\r\n",
        "cache-control: no-store",
    ];
    let guarded = |(status, head, body): (u16, String, String)| {
        let head = head + "\r\n";
        for header in headers {
            assert!(head.contains(header), "{header} is missing in {head}");
        }
        assert!(!head.contains("set-cookie") && !head.contains("access-control"), "{head}");
        (status, head, body)
    };
    let paths = ["/", "/page.js", "/page.css", "/api/overview"];
    for path in paths {
        for host in [&*address, "localhost", &format!("[::1]:{port}"), &format!("mail.example.org:{port}")] {
            let (status, head, body) = guarded(ask_as(&world, "GET", path, host));
            assert_eq!((status, body.is_empty()), (200, false), "{path} {host} {head}");
        }
        let (status, _, body) = guarded(ask_as(&world, "HEAD", path, &address));
        assert_eq!((status, body.as_str()), (200, ""), "{path}");
    }
    for path in paths.into_iter().chain(["/api/recent", "/report"]) {
        for host in ["rebound.example", "127.0.0.1.rebound.example", ""] {
            let (status, _, body) = guarded(ask_as(&world, "GET", path, host));
            assert_eq!(status, 421, "{path} {host}");
            assert_has(&body, &["add the name to `hosts` in [page]"]);
        }
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
            let (status, head, _) = guarded(ask_as(&world, method, path, &address));
            assert_eq!(status, 405, "{method} {path}");
            assert_has(&head, &["allow: get,head\r\n"]);
        }
    }
    let (status, _, _) = ask(&world, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(status, 421, "no name at all");
    // Prometheus may call the host as it likes.
    assert_eq!(ask_as(&world, "GET", "/metrics", "rebound.example").0, 200);
}

#[test]
fn many_viewers_cost_one_look() {
    let etc = users();
    let world = world(&etc, "");
    let looks = |_| {
        let told: Value = serde_json::from_str(&world.agent.get("/api/overview").must("an answer").1).must("JSON");
        told["millis"].as_u64().must("a time")
    };
    let mut times: Vec<u64> = (0..40).map(looks).collect();
    let (first, last) = (times[0], times[39]);
    assert!(times.is_sorted(), "{times:?}");
    times.dedup();
    // A look is shown for a second.
    assert!(times.len() as u64 <= (last - first) / 1000 + 1, "{times:?}");
    eventually(LIVE, "a new look", || looks(0) > last);
}

#[test]
fn it_can_be_switched_off_and_on_without_a_restart() {
    let etc = users();
    let world = world(&etc, "[page]\nshow = 'off'\n");
    let status = |path| world.agent.get(path).must("an answer").0;
    let landing = world.agent.get("/").must("an answer").1;
    assert_has(&landing, &["<h1>smtp-agent", "href=\"/metrics\""]);
    assert!(!landing.contains("<table") && !landing.contains("<script"), "{landing}");
    for path in ["/page.js", "/page.css", "/api/overview", "/api/recent", "/report"] {
        assert_eq!(status(path), 404, "{path}");
    }
    world.reload(&format!("{LIMITS}[page]\nshow = 'accounts'\n"));
    assert_eq!((status("/page.js"), status("/api/overview")), (200, 200));
    assert_has(&world.agent.get("/").must("an answer").1, &["<table", "no SMTP connection has been seen yet"]);
}

#[test]
fn the_report_of_the_last_day_is_linked_and_holds_what_the_metrics_tell() {
    let etc = users();
    let world = world(&etc, "");
    world.dial().uid(uid::SENDER).count(3).run();
    let browser = open(&world, Look::default());
    let link = browser.find("a[href='/report']");
    assert_has(&browser.text(&link), &["Report"]);
    let report = || world.agent.get("/report").must("an answer");
    // One is kept for half a minute, and the history is written each second or two.
    eventually(SOON * 6, "the history has it", || report().1.contains(">shop<"));
    let (status, html) = report();
    assert_eq!(status, 200);
    assert_has(&html, &["<svg", "attempts"]);
    assert!(!html.contains("<script"), "{html}");
}

#[test]
fn without_a_history_there_is_no_report_and_no_link() {
    let etc = users();
    let world = world(&etc, "[history]\nenabled = false\n");
    assert_eq!(world.agent.get("/report").must("an answer").0, 404);
    assert!(!world.agent.get("/").must("an answer").1.contains("/report"));
}

//! A real browser: Debian's Chromium, driven over the WebDriver protocol (W3C), as far as tests need it.

use crate::{Must, poll, port, process::Running, scratch};
use serde_json::{Value, json};
use std::{path::Path, process::Command, time::Duration};
use tempfile::TempDir;

const DRIVER: &str = "/usr/bin/chromedriver";
const BROWSER: &str = "/usr/bin/chromium";

const PATIENCE: Duration = Duration::from_secs(60);

/// How an element is named in WebDriver's answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Root needs `--no-sandbox`; the rest keeps the browser from asking anybody for anything.
const OPTIONS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
];

/// What the browser is to be like.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub scripts: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { width: 1280, height: 900, scripts: true }
    }
}

/// A browser with a profile of its own; dropping it ends it.
pub struct Browser {
    session: String,
    client: ureq::Agent,
    _driver: Running,
    _dir: TempDir,
}

/// Something on the page.
pub struct Element(String);

impl Browser {
    #[track_caller]
    pub fn start(look: Look) -> Self {
        for program in [DRIVER, BROWSER] {
            assert!(Path::new(program).is_file(), "{program} is missing: run `cargo xtask setup`");
        }
        let dir = scratch::dir();
        let port = port::free();
        let mut command = Command::new(DRIVER);
        // Whatever the browser leaves lies in our directory, and goes with it.
        command.arg(format!("--port={port}")).env("TMPDIR", dir.path()).env("HOME", dir.path());
        let driver = Running::start_logged(&mut command, &dir.path().join("driver.log"));
        let client = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let base = format!("http://127.0.0.1:{port}");
        let mut browser = Self { session: base.clone(), client, _driver: driver, _dir: dir };
        let ready = poll::holds_within(PATIENCE, || {
            let answer = browser.try_ask("GET", "/status", None);
            answer.is_ok_and(|value| value["ready"] == true)
        });
        assert!(ready, "chromedriver is not ready:\n{}", browser._driver.log());
        let mut options: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
        options.push(format!("--user-data-dir={}", browser._dir.path().join("profile").display()));
        options.push(format!("--window-size={},{}", look.width, look.height));
        let mut chrome = json!({ "binary": BROWSER, "args": options });
        if !look.scripts {
            // 2 is "block".
            chrome["prefs"] = json!({ "profile.managed_default_content_settings.javascript": 2 });
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": chrome,
            "goog:loggingPrefs": { "browser": "ALL" },
        }}});
        let begun = browser.ask("POST", "/session", Some(wanted));
        let id = begun["sessionId"].as_str().must("no session");
        browser.session = format!("{base}/session/{id}");
        browser
    }

    fn try_ask(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let answer = match (method, body) {
            ("GET", _) => self.client.get(&url).call(),
            ("DELETE", _) => self.client.delete(&url).call(),
            (_, body) => {
                let body = body.unwrap_or_else(|| json!({})).to_string();
                self.client.post(&url).content_type("application/json").send(body)
            }
        };
        let mut answer = answer.map_err(|error| format!("{method} {url}: {error}"))?;
        let text = answer.body_mut().with_config().limit(64 << 20).read_to_string();
        let text = text.map_err(|error| format!("{method} {url}: {error}"))?;
        let value: Value = serde_json::from_str(&text).map_err(|_| format!("{method} {url}: not JSON: {text}"))?;
        match value["value"]["error"].as_str() {
            Some(error) => Err(format!("{method} {path}: {error}: {}", value["value"]["message"])),
            None => Ok(value["value"].clone()),
        }
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        self.try_ask(method, path, body).must("the browser")
    }

    /// Opens a page and waits until it is loaded.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.ask("POST", "/url", Some(json!({ "url": url })));
    }

    /// What the body of a function returns; its arguments are `arguments[0]` and so on.
    #[track_caller]
    pub fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.ask("POST", "/execute/sync", Some(json!({ "script": script, "args": arguments })))
    }

    /// The elements that a CSS selector matches.
    #[track_caller]
    pub fn all(&self, selector: &str) -> Vec<Element> {
        let found = self.ask("POST", "/elements", Some(json!({ "using": "css selector", "value": selector })));
        let id = |element: &Value| element[ELEMENT].as_str().map(|id| Element(id.to_owned()));
        found.as_array().into_iter().flatten().filter_map(id).collect()
    }

    /// The first of them, waiting for it.
    #[track_caller]
    pub fn find(&self, selector: &str) -> Element {
        poll::eventually_some(PATIENCE, &format!("{selector} is there"), || self.all(selector).into_iter().next())
    }

    /// The text of an element as a person sees it; empty where it is not shown or has gone meanwhile.
    pub fn text(&self, element: &Element) -> String {
        let text = self.try_ask("GET", &format!("/element/{}/text", element.0), None);
        text.ok().and_then(|text| Some(text.as_str()?.to_owned())).unwrap_or_default()
    }

    /// The texts of everything that a CSS selector matches.
    pub fn texts(&self, selector: &str) -> Vec<String> {
        self.all(selector).iter().map(|element| self.text(element)).collect()
    }

    #[track_caller]
    pub fn click(&self, element: &Element) {
        self.ask("POST", &format!("/element/{}/click", element.0), None);
    }

    /// Types into an element. Keys without a letter are those of WebDriver's table: U+E007 is Enter.
    #[track_caller]
    pub fn type_into(&self, element: &Element, text: &str) {
        self.ask("POST", &format!("/element/{}/value", element.0), Some(json!({ "text": text })));
    }

    /// Types to whatever has the focus.
    #[track_caller]
    pub fn press(&self, key: &str) {
        let actions = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let source = json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] });
        self.ask("POST", "/actions", Some(source));
    }

    /// Opens an empty tab and goes to it: the one before is hidden from then on. Returns how to go back.
    #[track_caller]
    pub fn leave(&self) -> String {
        let before = self.ask("GET", "/window", None).as_str().must("a window").to_owned();
        let new = self.ask("POST", "/window/new", Some(json!({ "type": "tab" })));
        self.go_to(new["handle"].as_str().must("a window"));
        before
    }

    #[track_caller]
    pub fn go_to(&self, window: &str) {
        self.ask("POST", "/window", Some(json!({ "handle": window })));
    }

    /// Says whether the page is to be shown as to people who like it dark.
    #[track_caller]
    pub fn dark(&self, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    /// Makes the page so wide and high, as on a small screen: windows have a least width of their own.
    #[track_caller]
    pub fn screen(&self, width: u32, height: u32) {
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", screen);
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: Value) {
        self.ask("POST", "/goog/cdp/execute", Some(json!({ "cmd": command, "params": parameters })));
    }

    /// What was written to the console since the last call: errors of scripts and of the network, violations of the
    /// page's policy.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let log = self.ask("POST", "/se/log", Some(json!({ "type": "browser" })));
        log.as_array().into_iter().flatten().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect()
    }

    /// The page as a PNG, base64.
    #[track_caller]
    pub fn screenshot(&self) -> String {
        self.ask("GET", "/screenshot", None).as_str().must("a picture").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser's processes; the driver alone would leave them.
        if let Err(error) = self.try_ask("DELETE", "", None) {
            eprintln!("the browser was not ended: {error}");
        }
    }
}

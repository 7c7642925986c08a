// The live table: asks for /api/overview every other second and shows it. Texts are only ever set as text
// (textContent), so no name can become markup; elements are made by hand for the same reason.
"use strict";

(() => {
  const INTERVAL = 2000;
  // Samples of each account, a minute's worth and more; a gap longer than this begins them anew.
  const SAMPLES = 61;
  const MINUTE = 60000;
  const GAP = 15000;
  const PATIENCE = 10000;

  const STOPPED = ["deferred", "redirected", "refused", "would_defer", "would_redirect", "would_refuse"];
  const DIRECTIONS = { account: "ascending" };
  const SVG = "http://www.w3.org/2000/svg";
  const HIDDEN = "Attempts, scripts, programs and command lines are not shown: every user of this host can open this "
    + "page. show = \"all\" in [page] of the configuration shows them here; on the host, smtp-agent top does.";

  const byId = (id) => document.getElementById(id);
  const state = { told: null, sort: "rate", filter: "", paused: false, open: null, timer: null, asking: false };
  // By account: counts over time, and the elements of its row.
  const samples = new Map();
  const rows = new Map();
  // When the samples were taken.
  let times = [];

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  // Only what has changed is written: a screen reader tells of every change in some places.
  function say(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  // The same for what is drawn: `now` is what it is drawn from.
  function put(element, now, draw) {
    if (element.dataset.now === now) return;
    element.dataset.now = now;
    element.replaceChildren(...draw());
  }

  const sum = (counts) => Object.values(counts || {}).reduce((all, n) => all + n, 0);
  const routes = (account) => [account.remote, account.local, account.pipe];
  const attempts = (account) => routes(account).reduce((all, counts) => all + sum(counts), 0);
  // Connections, messages and recipients.
  const stopped = (account) => [...routes(account), ...Object.values(account.message_verdicts)]
    .reduce((all, counts) => all + STOPPED.reduce((n, verdict) => n + (counts[verdict] || 0), 0), 0);

  function percent(usage) {
    if (!usage || usage.limit === null) return null;
    return usage.limit === 0 ? 100 : Math.floor((usage.used * 100) / usage.limit);
  }

  // Of the limits of a window the one that is used most; of several the first, which is that of connections.
  function fullest(account, window) {
    const held = account.limits.filter((one) => one.window === window);
    return held.reduce((most, one) => (most && percent(most) >= percent(one) ? most : one), null);
  }

  // ---- rates

  function sample(told) {
    const last = times[times.length - 1];
    if (told.millis === last) return;
    if (told.millis < last || told.millis - last > GAP) {
      samples.clear();
      times = [];
    }
    const names = new Set();
    for (const account of told.accounts) {
      names.add(account.account);
      let list = samples.get(account.account);
      if (!list) {
        // What is seen at the first look was there before; what comes later has begun since.
        list = times.map((at) => ({ at, count: 0 }));
        samples.set(account.account, list);
      }
      list.push({ at: told.millis, count: attempts(account) });
      if (list.length > SAMPLES) list.shift();
    }
    times.push(told.millis);
    if (times.length > SAMPLES) times.shift();
    for (const name of samples.keys()) if (!names.has(name)) samples.delete(name);
  }

  function rate(name) {
    const list = samples.get(name) || [];
    const end = list[list.length - 1];
    const begin = list.find((one) => end.at - one.at <= MINUTE);
    if (!begin || begin.at === end.at) return 0;
    return (Math.max(0, end.count - begin.count) * MINUTE) / (end.at - begin.at);
  }

  function steps(name) {
    const list = samples.get(name) || [];
    return list.slice(1).map((one, n) => Math.max(0, one.count - list[n].count));
  }

  // ---- pieces

  // As the server draws it in render.rs.
  function usage(held, unit = "") {
    const used = percent(held);
    if (used === null) {
      const none = make("span", { class: "none" }, "no limit");
      return held ? [make("span", { class: "numbers" }, String(held.used)), " ", none] : [none];
    }
    const level = used >= 100 ? "full" : used >= 80 ? "near" : "";
    const fill = draw("rect", { class: "fill", width: Math.min(used, 100), height: 8 });
    const look = { class: `bar ${level}`, viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" };
    const parts = [draw("svg", look, fill), " ", make("span", { class: "numbers" }, `${held.used}/${held.limit}${unit}`)];
    if (level) parts.push(" ", make("span", { class: `mark ${level}` }, level === "full" ? "at limit" : "near limit"));
    return parts;
  }

  function spark(name) {
    const list = steps(name);
    const most = Math.max(1, ...list);
    // A stroke for each, the last on the right.
    const stroke = (n, at) => (n > 0 ? `M${(at + SAMPLES - 1 - list.length) * 2 + 1} 20V${18 - (n * 16) / most}` : "");
    const label = list.length ? `up to ${Math.max(...list)} attempts between two looks` : "no attempts seen yet";
    const look = { class: "spark", viewBox: "0 0 120 20", role: "img", "aria-label": label };
    return draw("svg", look, draw("path", { d: list.map(stroke).join("") }));
  }

  function listed(counts) {
    const told = Object.entries(counts || {}).filter(([, n]) => n > 0);
    return told.map(([what, n]) => `${n} ${what.replaceAll("_", " ")}`).join(", ");
  }

  function facts(pairs) {
    const element = make("dl", { class: "facts" });
    for (const [name, value] of pairs) {
      const values = Array.isArray(value) ? value : [value];
      element.append(make("dt", {}, name), ...values.map((one) => make("dd", {}, one)));
    }
    return element;
  }

  // ---- the head

  function head(told) {
    const stands = ["connect4", "connect6"].every((hook) => told.attached[hook] === true);
    const badges = [
      stands ? ["good", "gate in force"] : ["alarm", "gate NOT ATTACHED: nothing is limited or counted"],
      ["", `mode ${told.mode}`],
    ];
    if (!told.messages_wanted) badges.push(["", "messages are not followed"]);
    else if (stands && !told.messages_followed) {
      badges.push(["alarm", "messages NOT FOLLOWED: neither counted nor limited"]);
    }
    if (sum(told.lost) > 0) badges.push(["", `${sum(told.lost)} events lost, never counts`]);
    const now = badges.map(([, text]) => text).join("\n");
    put(byId("state"), now, () => badges.map(([kind, text]) => {
      const role = kind === "alarm" ? { role: "alert" } : {};
      return make("span", { class: `badge ${kind}`, ...role }, text);
    }));
    document.title = stands ? "smtp-agent" : "NOT ATTACHED - smtp-agent";
    say(byId("version"), told.version);
    const limits = told.host.limits.filter((held) => held.limit !== null || held.unit === "connection");
    byId("host").replaceChildren(...limits.map((held) =>
      make("div", {}, make("dt", {}, `host ${held.unit}s / ${held.window}`), make("dd", {}, ...usage(held)))));
    const hidden = told.accounts_in_all - told.accounts.length;
    say(byId("more"), hidden === 0 ? ""
      : `${hidden} more accounts are not shown: those that attempted nothing for the longest time.`);
  }

  // ---- the table

  const ORDERS = {
    rate: (account) => Math.round(rate(account.account) * 10),
    hour: (account) => percent(fullest(account, "hour")) ?? -1,
    day: (account) => percent(fullest(account, "day")) ?? -1,
    stopped,
    accepted: (account) => account.messages.accepted,
    deferred: (account) => account.messages.deferred,
    rejected: (account) => account.messages.rejected,
  };

  function sorted(told) {
    const wanted = state.filter.toLowerCase();
    const shown = told.accounts.filter((account) => account.account.toLowerCase().includes(wanted));
    const byName = (a, b) => (a.account < b.account ? -1 : a.account > b.account ? 1 : 0);
    const order = ORDERS[state.sort];
    if (!order) return shown.sort(byName);
    const keys = new Map(shown.map((account) => [account, [order(account), attempts(account)]]));
    const by = (a, b, n) => keys.get(b)[n] - keys.get(a)[n];
    return shown.sort((a, b) => by(a, b, 0) || by(a, b, 1) || byName(a, b));
  }

  function newRow(name) {
    const open = make("button", { type: "button", class: "open", "aria-expanded": "false" }, name);
    open.addEventListener("click", () => toggle(name));
    const brake = make("span", { class: "mark full" });
    const cell = (label, kind) => make("td", { role: "cell", "data-label": label, class: kind });
    const cells = {
      rate: cell("Per minute", "number"),
      hour: cell("Hour", ""),
      day: cell("Day", ""),
      stopped: cell("Stopped", "number"),
      accepted: cell("Accepted", "number"),
      deferred: cell("Deferred", "number"),
      rejected: cell("Rejected", "number"),
      spark: cell("Attempts", ""),
    };
    const first = make("th", { role: "rowheader", scope: "row" }, open, " ", brake);
    return { row: make("tr", { role: "row" }, first, ...Object.values(cells)), open, brake, cells, details: null };
  }

  function show(account) {
    const name = account.account;
    if (!rows.has(name)) rows.set(name, newRow(name));
    const { row, cells, brake } = rows.get(name);
    say(brake, account.brake && account.brake.holds ? "brake holds" : "");
    say(cells.rate, rate(name).toFixed(1));
    for (const window of ["hour", "day"]) {
      const held = fullest(account, window);
      put(cells[window], JSON.stringify(held), () => usage(held, held && held.unit !== "connection" ? ` ${held.unit}s` : ""));
    }
    say(cells.stopped, String(stopped(account)));
    cells.stopped.classList.toggle("some", stopped(account) > 0);
    for (const outcome of ["accepted", "deferred", "rejected"]) say(cells[outcome], String(account.messages[outcome]));
    put(cells.spark, steps(name).join(), () => [spark(name)]);
    return row;
  }

  function table(told) {
    const shown = sorted(told);
    const wanted = [];
    for (const account of shown) {
      wanted.push(show(account));
      const { details } = rows.get(account.account);
      if (details) wanted.push(details.row);
    }
    const known = new Set(told.accounts.map((account) => account.account));
    for (const name of rows.keys()) if (!known.has(name)) rows.delete(name);
    if (wanted.length === 0) {
      const why = told.accounts.length === 0 ? "no SMTP connection has been seen yet" : "no such account";
      wanted.push(make("tr", { role: "row" }, make("td", { role: "cell", colspan: "9" }, why)));
    }
    const body = byId("rows");
    if (wanted.length !== body.children.length || wanted.some((row, n) => row !== body.children[n])) {
      // Rows that move lose the focus, which must stay where somebody has put it.
      const focused = document.activeElement;
      body.replaceChildren(...wanted);
      if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
    }
    const all = state.filter ? ` of ${told.accounts.length}` : "";
    say(byId("count"), `${shown.length}${all} accounts`);
  }

  // ---- one account

  function toggle(name) {
    const before = state.open;
    if (before !== null) {
      const entry = rows.get(before);
      if (entry) {
        entry.open.setAttribute("aria-expanded", "false");
        entry.details = null;
      }
    }
    state.open = before === name ? null : name;
    if (state.open !== null) {
      const entry = rows.get(name);
      entry.open.setAttribute("aria-expanded", "true");
      const standing = make("div");
      const told = make("div", { class: "attempts" });
      const heading = make("p", { class: "none" });
      const cell = make("td", { role: "cell", colspan: "9" }, standing, make("h2", {}, "Last attempts"), heading, told);
      const row = make("tr", { role: "row", class: "details" }, cell);
      entry.details = { row, standing, told, heading, of: new Map() };
    }
    render();
    if (state.open !== null) recent().catch(failed);
  }

  function details(account) {
    const { details } = rows.get(account.account);
    const limits = account.limits.map((held) => {
      const name = make("dt", {}, `${held.unit}s / ${held.window}`);
      return make("div", {}, name, make("dd", {}, ...usage(held)));
    });
    const told = [
      ["rule", account.rule],
      ["remote", listed(account.remote)],
      ["local", listed(account.local)],
      ["sendmail", listed(account.pipe)],
      ["sessions", listed(account.sessions)],
      ["messages", listed(account.messages)],
      ["recipients", listed(account.recipients)],
      ["messages judged", listed(account.message_verdicts.message)],
      ["recipients judged", listed(account.message_verdicts.recipient)],
      ["not all counted", listed(account.unseen)],
    ].filter(([, value]) => value !== "");
    if (account.brake) {
      const { failed_percent: failed, holds } = account.brake;
      const share = failed === null ? "nothing has an outcome yet" : `${failed.toFixed(0)} % of the last hour failed`;
      told.push(["failure brake", holds ? `HOLDS, ${share}` : share]);
    }
    const bars = limits.length ? make("dl", { class: "bars" }, ...limits) : make("p", { class: "none" }, "no limits");
    details.standing.replaceChildren(bars, facts(told));
    if (state.told.show !== "all") say(details.heading, HIDDEN);
  }

  const words = (command) => (command ? command.join(" ") : null);

  function culprit(attempt) {
    const behind = attempt.culprit || {};
    const orUnknown = (value) => value || "unknown";
    const pod = behind.pod && [behind.pod.namespace, behind.pod.name, behind.pod.container].filter(Boolean).join("/");
    const told = [
      ["process", `pid ${attempt.tgid}, uid ${attempt.uid}, ${attempt.comm}`],
      ["script", behind.script ? `${behind.script.path} (${behind.script.how})` : "unknown"],
      ["program", orUnknown(attempt.exe)],
      ["command", orUnknown(words(attempt.command))],
      ["began as", words(behind.started_as)],
      ["directory", orUnknown(behind.cwd)],
      ["since", orUnknown(behind.started)],
      ["unit", behind.unit],
      ["container", behind.container && (behind.container.name || behind.container.id)],
      ["pod", pod],
      ["set going by", behind.origin && `${behind.origin.kind} ${behind.origin.name}`],
      ["login", behind.login_user],
      ["domains", behind.domains && behind.domains.join(" ")],
      ["plan", behind.plan],
    ].filter(([, value]) => value);
    const parents = (behind.lineage || []).map((one) =>
      `${one.tgid} ${one.user || one.uid} ${words(one.command) || one.exe || one.comm}`);
    if (parents.length) told.push(["parents", parents]);
    return facts(told);
  }

  // Who was behind a message that was stopped is told by its connection: of the same process, to the same place, and not
  // after it. Here all are the last first.
  function withCulprit(attempt, all) {
    if (attempt.event !== "stop") return attempt;
    const same = ["account", "tgid", "destination", "port"];
    const connection = all.find((one) => one.event === "connect" && one.time <= attempt.time
      && same.every((key) => one[key] === attempt[key]));
    if (!connection) return attempt;
    const { exe, command } = attempt;
    return {
      ...attempt, exe: exe || connection.exe, command: command || connection.command, culprit: connection.culprit,
    };
  }

  function attemptElement(told, all) {
    const attempt = withCulprit(told, all);
    const what = attempt.culprit?.script?.path || attempt.exe || attempt.comm;
    const unit = attempt.event === "stop" ? ` a ${attempt.unit}:` : "";
    const to = attempt.destination.includes(":") ? `[${attempt.destination}]` : attempt.destination;
    // RFC 3339, UTC as everywhere else: the time of day stands behind the T.
    const time = make("time", { datetime: attempt.time, title: attempt.time }, attempt.time.slice(11, 19));
    const summary = make("summary", {}, time, ` UTC${unit} ${attempt.verdict} (${attempt.reason}) ${attempt.route} `
      + `${to}:${attempt.port} `, make("strong", {}, what));
    return make("details", {}, summary, culprit(attempt));
  }

  async function recent() {
    const name = state.open;
    if (name === null || !state.told || state.told.show !== "all") return;
    const { attempts: all } = await ask("/api/recent");
    const entry = rows.get(name);
    if (state.open !== name || !entry || !entry.details) return;
    const { told, heading, of } = entry.details;
    const now = all.filter((attempt) => attempt.account === name);
    say(heading, now.length ? "" : "none since the agent was started, or it was asked to show them");
    const numbers = new Set(now.map((attempt) => attempt.n));
    for (const [n, element] of of) {
      if (!numbers.has(n)) {
        element.remove();
        of.delete(n);
      }
    }
    // The last first; those that are there stay as they are, open or not.
    let after = null;
    for (const attempt of now.reverse()) {
      if (!of.has(attempt.n)) of.set(attempt.n, attemptElement(attempt, all));
      const element = of.get(attempt.n);
      if (element.parentNode !== told || element.nextSibling !== after) told.insertBefore(element, after);
      after = element;
    }
  }

  // ---- going on

  function render() {
    const { told } = state;
    if (!told) return;
    head(told);
    if (state.open !== null && !told.accounts.some((account) => account.account === state.open)) state.open = null;
    table(told);
    const opened = told.accounts.find((account) => account.account === state.open);
    if (opened && rows.has(opened.account)) details(opened);
  }

  async function ask(path) {
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).trim()}`);
    return answer.json();
  }

  function notice(text) {
    say(byId("notice"), text);
    byId("notice").hidden = text === "";
  }

  function failed(error) {
    const since = state.told ? ` What is shown is from ${state.told.time}.` : "";
    notice(`The agent does not answer: ${error.message}.${since}`);
  }

  const rests = () => state.paused || document.hidden;

  async function look() {
    clearTimeout(state.timer);
    if (rests() || state.asking) return;
    state.asking = true;
    try {
      const told = await ask("/api/overview");
      state.told = told;
      sample(told);
      render();
      await recent();
      notice("");
    } catch (error) {
      failed(error);
    } finally {
      state.asking = false;
    }
    if (!rests()) state.timer = setTimeout(look, INTERVAL);
  }

  function sort(by) {
    state.sort = by;
    byId("sort").value = by;
    for (const head of document.querySelectorAll("th[data-sort]")) {
      if (head.dataset.sort === by) head.setAttribute("aria-sort", DIRECTIONS[by] || "descending");
      else head.removeAttribute("aria-sort");
    }
    render();
  }

  function pause() {
    state.paused = !state.paused;
    byId("pause").setAttribute("aria-pressed", String(state.paused));
    look();
  }

  function begin() {
    document.documentElement.classList.add("scripted");
    for (const head of document.querySelectorAll("th[data-sort]")) {
      const button = make("button", { type: "button" }, head.textContent);
      button.addEventListener("click", () => sort(head.dataset.sort));
      head.replaceChildren(button);
    }
    byId("sort").addEventListener("change", (event) => sort(event.target.value));
    byId("filter").addEventListener("input", (event) => {
      state.filter = event.target.value;
      render();
    });
    byId("pause").addEventListener("click", pause);
    document.addEventListener("visibilitychange", look);
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && state.open !== null) toggle(state.open);
    });
    sort("rate");
    look();
  }

  begin();
})();

// The live page: what comes over the socket is put into two tables. Nothing here is trusted to be HTML.
"use strict";

(() => {
  const LATEST_MAX = 50, RATE_WINDOW_MS = 10000, SILENT_MS = 15000, GONE_PROCESS_MS = 5000;
  const BACKOFF_MIN_MS = 500, BACKOFF_MAX_MS = 15000;
  const SIGNED_OUT = 4401;
  const root = document.getElementById("live");
  const element = (name) => document.getElementById(`live-${name}`);
  const number = new Intl.NumberFormat();

  const running = new Map();   // request id → {event, process, row}
  const processes = new Map(); // process → {count, heardAt}
  let finishes = [];           // [time, how many], within the window
  let latest = [];             // events not shown yet
  const ended = [];            // rows of requests that run no more
  const down = new Set();
  let finished = 0, failed = 0, missed = 0;
  let socket = null, heardAt = 0, liveAt = 0, attempts = 0, held = false, over = false;

  // --- What is shown ---------------------------------------------------------------------------------------------

  function say(state, text) {
    element("state").dataset.state = state;
    if (element("state-text").textContent !== text) element("state-text").textContent = text;
  }

  function cell(row, label, text, kind) {
    const made = row.insertCell();
    made.dataset.label = label;
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }

  function clock(ms) {
    return new Date(ms).toLocaleTimeString(undefined, { hour12: false });
  }

  function seconds(ms) {
    return ms < 1000 ? `${Math.round(ms)} ms` : ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
  }

  function dollars(text) {
    if (text === null) return "not known";
    const short = text.replace(/0+$/, "").replace(/\.$/, "");
    return `$${short.includes(".") || short !== "0" ? short : "0"}`;
  }

  function state(event) {
    if (!event.streamed) return "waiting for the answer";
    return event.first_token_ms === undefined ? "waiting for the first token" : `streaming, first token after ${seconds(event.first_token_ms)}`;
  }

  function showRunning() {
    const body = element("running");
    for (const row of ended.splice(0)) row.remove();
    for (const item of [...running.values()].sort((a, b) => a.event.at_ms - b.event.at_ms)) {
      const event = item.event;
      if (!item.row) {
        item.row = body.insertRow(0);
        cell(item.row, "Since", clock(event.at_ms), "live-short");
        cell(item.row, "Model", event.model);
        cell(item.row, "Provider", event.provider || "–");
        cell(item.row, "Organization", event.organization || `#${event.organization_id}`).title = event.user;
        cell(item.row, "Key", event.key || "–", "live-short");
        cell(item.row, "State", "");
        cell(item.row, "For", "", "live-number");
      }
      item.row.cells[5].textContent = state(event);
      item.row.cells[6].textContent = seconds(Math.max(0, Date.now() - event.at_ms));
    }
  }

  function showLatest() {
    const body = element("latest");
    for (const event of latest.splice(0)) {
      const row = body.insertRow(0);
      cell(row, "Time", clock(event.at_ms + event.duration_ms), "live-short");
      const model = cell(row, "Model", "");
      const link = document.createElement("a");
      link.href = `${root.dataset.usage}${encodeURIComponent(event.id)}/change/`;
      link.textContent = event.model;
      model.append(link);
      cell(row, "Provider", event.provider || "–");
      cell(row, "Organization", event.organization || `#${event.organization_id}`).title = event.user;
      cell(row, "Key", event.key || "–", "live-short");
      cell(row, "Status", event.error ? `${event.status} ${event.error}` : `${event.status}`, event.status < 400 ? "live-good" : "live-bad");
      cell(row, "Tokens in", number.format(event.input_tokens), "live-number");
      cell(row, "Tokens out", number.format(event.output_tokens), "live-number");
      cell(row, "Cost", dollars(event.cost), "live-number");
      cell(row, "Duration", seconds(event.duration_ms), "live-number");
    }
    while (body.rows.length > LATEST_MAX) body.deleteRow(-1);
  }

  // An empty table is a sentence.
  function tell(name, any) {
    element(name).parentElement.hidden = !any;
    element(`${name}-empty`).hidden = any;
  }

  function show() {
    const now = Date.now();
    for (const [name, process] of processes) if (now - process.heardAt > GONE_PROCESS_MS) processes.delete(name);
    for (const [id, item] of running) if (!processes.has(item.process)) forget(id);
    finishes = finishes.filter(([at]) => now - at < RATE_WINDOW_MS);
    if (held) return;
    const known = socket && liveAt;
    const count = Math.max(running.size, [...processes.values()].reduce((sum, process) => sum + process.count, 0));
    const rate = finishes.reduce((sum, [, many]) => sum + many, 0) / Math.max(1, Math.min(RATE_WINDOW_MS, now - liveAt) / 1000);
    element("running-count").textContent = known ? number.format(count) : "–";
    element("rate").textContent = known ? rate.toFixed(1) : "–";
    element("finished").textContent = number.format(finished);
    element("failed").textContent = number.format(failed);
    element("failed").className = failed ? "live-bad" : "";
    showRunning();
    showLatest();
    tell("running", running.size > 0);
    tell("latest", element("latest").rows.length > 0);
    element("running-empty").textContent = known ? "No request is running." : "Not known until events come again.";
    element("providers").hidden = down.size === 0;
    element("providers").textContent = `Out of the routing plan: ${[...down].sort().join(", ")}.`;
    element("missed").hidden = missed === 0;
    element("missed").textContent = `${number.format(missed)} events came too fast to be listed here.`;
  }

  // --- What is told ----------------------------------------------------------------------------------------------

  function forget(id) {
    const item = running.get(id);
    if (item?.row) ended.push(item.row);
    running.delete(id);
  }

  function requests(message) {
    finished += message.finished;
    failed += message.failed;
    missed += message.missed;
    if (message.finished) finishes.push([Date.now(), message.finished]);
    for (const event of message.events) {
      if (event.event === "started") running.set(event.id, { event, process: message.process });
      else if (event.event === "first_token" && running.has(event.id)) running.get(event.id).event.first_token_ms = event.first_token_ms;
      else if (event.event === "finished") {
        forget(event.id);
        latest.push(event);
      }
    }
    latest = latest.slice(-LATEST_MAX);
    heard(message.process);
  }

  function heard(name) {
    const process = processes.get(name) || { count: 0 };
    process.heardAt = Date.now();
    processes.set(name, process);
  }

  function allRunning(message) {
    const there = new Set(message.running.map((event) => event.id));
    for (const [id, item] of running) if (item.process === message.process && !there.has(id)) forget(id);
    for (const event of message.running) {
      const item = running.get(event.id);
      if (item) item.event = event;
      else running.set(event.id, { event, process: message.process });
    }
    heard(message.process);
    processes.get(message.process).count = message.count;
  }

  const TOLD = {
    live() {
      liveAt = Date.now();
      say("live", "Live");
    },
    paused() {
      liveAt = 0;
      say("paused", "Live view paused: Redis does not answer. Requests are served all the same.");
    },
    requests,
    running: allRunning,
    provider(message) {
      if (message.up) down.delete(message.provider);
      else down.add(message.provider);
    },
    missed(message) {
      missed += message.messages;
    },
  };

  // --- The socket ------------------------------------------------------------------------------------------------

  function open() {
    const address = new URL(root.dataset.address, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(address);
    heardAt = Date.now();
    socket.onmessage = (frame) => {
      heardAt = Date.now();
      attempts = 0;
      const message = JSON.parse(frame.data);
      TOLD[message.type]?.(message);
    };
    socket.onclose = closed;
  }

  function closed(end) {
    socket = null;
    liveAt = 0;
    if (end.code === SIGNED_OUT) {
      over = true;
      say("over", "You are signed out. Reload the page to sign in.");
      return;
    }
    const wait = Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** attempts) * (0.5 + Math.random() / 2);
    attempts += 1;
    say("connecting", attempts > 4 ? "Not connected. Still trying; reload the page if you were signed out." : "Connection lost, connecting again…");
    setTimeout(open, wait);
  }

  function look() {
    if (socket && Date.now() - heardAt > SILENT_MS) socket.close();
    show();
  }

  element("hold").addEventListener("click", (click) => {
    held = !held;
    click.target.setAttribute("aria-pressed", String(held));
    click.target.textContent = held ? "Go on" : "Hold still";
  });
  addEventListener("pagehide", () => { if (!over) socket?.close(); });
  addEventListener("pageshow", (shown) => { if (shown.persisted && !socket && !over) open(); });
  setInterval(look, 250);
  open();
})();

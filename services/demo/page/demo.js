// The demo's page. What of it an application needs is in the first part: tell the
// Watcher which of one's own messages are being read, and the Reporter which of the
// others'.
import { OnScreen, Reporter, Watcher } from "./seenby.js";

const $ = (id) => document.getElementById(id);
const me = new URLSearchParams(location.search).get("as");
const people = new Map([["demo-ada", "Ada"], ["demo-ben", "Ben"], ["demo-chloe", "Chloe"], ["demo-dan", "Dan"], ["demo-eve", "Eve"], ["demo-finn", "Finn"]]);
const nameOf = (id) => (id === me ? "You" : (people.get(id) ?? id));
const messages = new Map();
const onScreen = new Set(); // one's own, being read

for (const list of [$("people"), $("choose")]) {
  for (const [id, name] of people) {
    const link = element("a", name);
    link.href = `?as=${encodeURIComponent(id)}`;
    if (id === me) link.setAttribute("aria-current", "page");
    const item = document.createElement("li");
    item.append(link);
    list.append(item);
  }
}

let cached = null;
/** An application asks its own session. */
async function token({ refused = null, signal } = {}) {
  if (!cached || cached === refused) {
    const response = await fetch(`token?person=${encodeURIComponent(me)}`, { signal });
    if (!response.ok) throw new Error(`no token: ${response.status}`);
    cached = (await response.json()).token;
  }
  return cached;
}

let watcher;
let reporter;
let screen;

function begin() {
  watcher = new Watcher({ baseURL: "/", token, onChange: paint });
  reporter = new Reporter({ baseURL: "/", token, key: `seenby:${me}`, onSent: meter, onError: meter });
  screen = new OnScreen({
    root: $("messages"),
    enter(ids) {
      const mine = ids.filter((id) => messages.get(id).sender_id === me);
      mine.forEach((id) => onScreen.add(id));
      watcher.look(...mine.map((id) => ({ id, positions: [messages.get(id).position] })));
      reporter.begin(...ids.filter((id) => !mine.includes(id)));
      meter();
    },
    leave(ids) {
      ids.forEach((id) => onScreen.delete(id));
      watcher.leave(...ids);
      reporter.end(...ids);
      meter();
    },
  });
  receive();
  setInterval(meter, 500);
}

/** The chat itself: what an application has already. */
async function receive() {
  for (let after = 0; ; ) {
    try {
      const response = await call(`room?after=${after}`);
      const news = (await response.json()).messages;
      $("connection").hidden = true;
      news.forEach(add);
      after = news.at(-1)?.sequence ?? after;
      if (news.length === 0 && after === 0) await new Promise((done) => setTimeout(done, 500));
    } catch {
      $("connection").hidden = false;
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

async function call(path, init = {}) {
  const bearer = await token();
  const response = await fetch(path, { ...init, headers: { Authorization: `Bearer ${bearer}`, "Content-Type": "application/json" } });
  if (response.status === 401) cached = null;
  if (!response.ok) throw Object.assign(new Error((await response.json().catch(() => ({}))).detail ?? response.statusText), { status: response.status });
  return response;
}

function element(tag, text = "", className = "") {
  const e = document.createElement(tag);
  e.textContent = text;
  if (className) e.className = className;
  return e;
}

const clock = (iso) => new Date(iso).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function add(m) {
  if (messages.has(m.message_id)) return;
  messages.set(m.message_id, m);
  const list = $("messages");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
  const item = element("li", "", m.sender_id === me ? "mine" : "");
  item.dataset.id = m.message_id;
  const head = element("div", "", "head");
  head.append(element("span", nameOf(m.sender_id), "name"), element("time", clock(m.sent_at)));
  if (m.conversation_id === "demo-everybody") head.append(element("span", "to 2,000 people"));
  item.append(head, element("p", m.text, "text"));
  if (m.sender_id === me) {
    const button = element("button", "…", "receipts");
    button.type = "button";
    button.setAttribute("aria-haspopup", "dialog");
    button.addEventListener("click", () => open(m.message_id));
    item.append(button);
  }
  list.append(item);
  screen.observe(item, m.message_id);
  if (atEnd || m.sender_id === me) list.scrollTop = list.scrollHeight;
}

function summary(v) {
  if (!v.version) return v.error ? "cannot be told yet" : "…";
  if (v.state === "recalled") return "recalled";
  const number = (n) => n.toLocaleString("en");
  return v.complete ? `read by all ${number(v.recipient_count)}` : `read by ${number(v.read_count)} of ${number(v.recipient_count)}`;
}

function paint(id) {
  const v = watcher.view(id);
  const button = $("messages").querySelector(`[data-id="${CSS.escape(id)}"] .receipts`);
  if (button) {
    button.textContent = summary(v);
    button.classList.toggle("looking", v.looking);
  }
  if (shown === id) paintDetails();
  meter();
}

let requests = 0;
let lastBytes = 0;
let lastUnchanged = 0;

/** Shows what the pull does. */
function meter() {
  const total = watcher.totals();
  const mine = [...messages.values()].filter((m) => m.sender_id === me).map((m) => watcher.view(m.message_id));
  const unchanged = mine.reduce((sum, v) => sum + v.unchanged, 0);
  const number = (n) => n.toLocaleString();
  $("pulls").textContent = number(total.requests);
  $("unchanged").textContent = number(unchanged);
  $("bytes").textContent = number(total.bytes);
  $("waiting").textContent = number(reporter.pending());
  if (total.requests > requests && total.bytes > lastBytes) {
    const beat = element("i", "", total.bytes - lastBytes < 250 && unchanged > lastUnchanged ? "unchanged" : "");
    beat.style.setProperty("--height", `${Math.min(26, 3 + Math.log2(1 + (total.bytes - lastBytes) / 64) * 3)}px`);
    $("beats").append(beat);
    if ($("beats").childElementCount > 60) $("beats").firstChild.remove();
    [requests, lastBytes, lastUnchanged] = [total.requests, total.bytes, unchanged];
  }
  const views = [...onScreen].map((id) => watcher.view(id));
  const looking = views.filter((v) => v.looking).length;
  const trouble = views.find((v) => v.looking && v.error);
  let state;
  if (document.visibilityState !== "visible") state = "stopped: not looking";
  else if (trouble) state = "no answer, trying again";
  else if (looking > 0) state = looking === 1 ? "pulling: one message is being looked at" : `pulling: ${looking} messages are being looked at`;
  else if (views.length === 0) state = mine.length > 0 ? "stopped: not looking" : "nothing to pull: none of your messages is on screen";
  else if (views.some((v) => v.ended === "failed")) state = `stopped: ${views.find((v) => v.ended === "failed").error.message}`;
  else if (views.some((v) => v.ended === "window over")) state = "stopped: looked for 20 seconds";
  else state = "stopped: all have read";
  if ($("state").textContent !== state) $("state").textContent = state;
  $("again").hidden = looking > 0 || !views.some((v) => v.ended === "window over" || v.ended === "failed");
}

$("again").addEventListener("click", () => watcher.refresh(...onScreen));

$("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value;
  try {
    await call("messages", { method: "POST", body: JSON.stringify({ text }) });
    if ($("text").value === text) $("text").value = "";
  } catch {
    $("connection").hidden = false;
  }
});

$("crowd").addEventListener("click", async () => {
  $("crowd").disabled = true;
  try {
    await call("crowd", { method: "POST" });
  } catch (error) {
    $("state").textContent = error.message;
  }
  setTimeout(() => ($("crowd").disabled = false), 3000);
});

// The details: who and when, who not, and how it came to be.
let shown = null;
let painted = "";

function open(id) {
  shown = id;
  painted = "";
  $("at").value = $("at").max;
  $("details-text").textContent = messages.get(id).text;
  $("details").showModal();
  paintDetails();
}

$("details").addEventListener("close", () => (shown = null));
$("at").addEventListener("input", () => paintDetails());

const isPast = () => Number($("at").value) < Number($("at").max);

function moment(v) {
  const from = Date.parse(v.sent_at);
  const to = Math.max(from + 1000, ...v.readers.slice(-1).map((r) => Date.parse(r.read_at)));
  return { from, to, at: from + ((to - from) * Number($("at").value)) / Number($("at").max) };
}

async function paintDetails() {
  const v = watcher.view(shown);
  if (!v.version) return;
  const key = `${shown} ${v.version} ${$("at").value}`;
  if (key === painted) return;
  painted = key;
  $("details-title").textContent = summary(v)[0].toUpperCase() + summary(v).slice(1);
  const { from, to, at } = moment(v);
  drawCurve(v, from, to, at);
  if (isPast()) {
    const time = new Date(Math.floor(at)).toISOString();
    $("at-text").textContent = clock(time);
    // The server's set as of then.
    const past = await pages(`/v1/messages/${encodeURIComponent(shown)}/receipts`, { limit: "2000", at: time }, "readers");
    if (key !== painted || !past) return;
    list("readers", past.items.map((r) => [nameOf(r.reader_id), r.read_at]));
    $("read-count").textContent = past.first.read_count;
    $("unread-count").textContent = "";
    list("unread", []);
    $("unread").append(element("li", "Move to the end to see who has not"));
    return;
  }
  $("at-text").textContent = "now";
  list("readers", v.readers.map((r) => [nameOf(r.reader_id), r.read_at]));
  $("read-count").textContent = v.read_count;
  const rest = await pages(`/v1/messages/${encodeURIComponent(shown)}/unread`, { limit: "2000" }, "members");
  if (key !== painted || !rest) return;
  $("unread-count").textContent = rest.first.unread_count;
  list("unread", rest.items.map((id) => [nameOf(id)]));
}

/** All pages of a list, or null. */
async function pages(path, query, name) {
  const items = [];
  let first = null;
  try {
    for (let cursor = null; ; ) {
      const page = await (await call(`${path}?${new URLSearchParams(cursor ? { cursor } : query)}`)).json();
      first ??= page;
      items.push(...page[name]);
      cursor = page.next;
      if (cursor === null) return { first, items };
    }
  } catch {
    return null;
  }
}

function list(id, rows) {
  $(id).replaceChildren(...rows.map(([name, time]) => {
    const item = element("li");
    item.append(element("span", name));
    if (time) item.append(element("time", clock(time)));
    return item;
  }));
}

function drawCurve(v, from, to, at) {
  const most = Math.max(1, v.recipient_count);
  const x = (t) => (((t - from) / (to - from)) * 320).toFixed(1);
  const y = (n) => (86 - (n / most) * 82).toFixed(1);
  const times = v.readers.map((r) => Date.parse(r.read_at)).sort((a, b) => a - b);
  const points = [`0,${y(0)}`];
  times.forEach((t, i) => points.push(`${x(t)},${y(i)}`, `${x(t)},${y(i + 1)}`));
  points.push(`320,${y(times.length)}`);
  const svg = (tag, attributes) => {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
    return e;
  };
  $("curve").replaceChildren(svg("polyline", { points: points.join(" ") }), svg("line", { x1: x(at), x2: x(at), y1: 0, y2: 90 }));
  $("curve").setAttribute("aria-label", `Reads over time: ${v.read_count} of ${v.recipient_count} since ${clock(v.sent_at)}`);
}

if (people.has(me)) {
  document.title = `${people.get(me)}: seenby`;
  $("chat").hidden = false;
  begin();
} else {
  $("welcome").hidden = false;
}

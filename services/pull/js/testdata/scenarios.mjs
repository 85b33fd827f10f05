// Runs the table of scenarios that all clients share. Each line of the output is a
// scenario: {name, problems}.
import { readFileSync } from "node:fs";
import { Watcher } from "../seenby.js";
import { VirtualClock } from "./clock.mjs";

const { scenarios } = JSON.parse(readFileSync(process.argv[2], "utf8"));

function expandAll(texts) {
  return texts.flatMap((text) => {
    const m = /^(.*?)\[(\d+)-(\d+)\](.*)$/.exec(text);
    if (!m) return [text];
    const [from, to] = [Number(m[2]), Number(m[3])];
    return Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => m[1] + (from < to ? from + i : from - i) + m[4]);
  });
}

function expandLine(line) {
  const space = line.indexOf(" ");
  return `${line.slice(0, space)} ${expandAll(line.slice(space + 1).split(", ")).join(", ")}`;
}

async function run(s, problems) {
  const clock = new VirtualClock();
  const server = new ScriptedServer(clock, s.answers, problems);
  let tokens = 1;
  let draws = 0;
  const watcher = new Watcher({
    baseURL: "https://receipts.example", fetch: (url, init) => server.fetch(new URL(url), init), clock,
    token: async ({ refused }) => `t${refused ? ++tokens : tokens}`,
    random: () => (s.random?.length ? s.random[draws++ % s.random.length] : 0),
  });
  const events = [
    ...(s.steps ?? []).map((step) => ({ at: step.at, run: () => take(watcher, clock, step) })),
    // After everything that happens at that time.
    ...(s.views ?? []).map((v) => ({ at: v.at + 0.001, run: () => check(v, watcher.view(v.message), problems) })),
    { at: s.until, run() {} },
  ].sort((a, b) => a.at - b.at);
  for (const e of events) {
    await clock.reach(e.at);
    e.run();
    await clock.reach(e.at);
  }
  watcher.close();
  const want = s.requests.map(expandLine);
  if (JSON.stringify(server.log) !== JSON.stringify(want)) problems.push(`requests:\n${server.log.join("\n")}\nwant:\n${want.join("\n")}`);
}

function take(watcher, clock, step) {
  if (step.look) watcher.look(...expandAll(step.look).map((id) => ({ id, positions: step.positions ?? [] })));
  else if (step.leave) watcher.leave(...expandAll(step.leave));
  else if (step.refresh) watcher.refresh(...expandAll(step.refresh));
  else clock.sleep(step.sleep);
}

function check(want, view, problems) {
  const got = {
    ...view,
    readers: view.readers.map((r) => r.reader_id),
    error: view.error === null ? "" : (view.error.code ?? view.error.message),
  };
  for (const name of ["looking", "ended", "error", "version", "state", "readers", "read_count", "complete", "pulls", "unchanged"]) {
    if (name in want && JSON.stringify(want[name]) !== JSON.stringify(got[name])) {
      problems.push(`${want.at} ${want.message}: ${name} is ${JSON.stringify(got[name])}, want ${JSON.stringify(want[name])}`);
    }
  }
}

const isWhole = (a) => a.network || a.body !== undefined || (a.status && a.status !== 304 && a.code !== "not_found");

/** Gives a scenario's answers, and writes down what it is asked. */
class ScriptedServer {
  log = [];
  #asked = new Map();
  #inFlight = 0;

  constructor(clock, answers, problems) {
    Object.assign(this, { clock, answers: answers ?? {}, problems });
  }

  note(line) {
    this.log.push(`${this.clock.now()} ${line}`);
  }

  async fetch(url, init) {
    const { ids, line } = this.describe(url, init);
    const batch = init.method === "POST";
    const answers = this.enter(ids, line, batch);
    try {
      const after = Math.max(...answers.map((a) => a.after ?? 0));
      if (after > 0) await this.wait(after, init.signal);
      const [a] = answers;
      if (a.network) throw new TypeError("connection reset");
      return batch && !isWhole(a) ? respond(200, batchBody(ids, answers), {}) : whole(a, ids[0]);
    } finally {
      this.#inFlight--;
    }
  }

  wait(ms, signal) {
    return new Promise((done, fail) => {
      const stop = this.clock.after(ms, done);
      signal.addEventListener("abort", () => {
        stop();
        this.note("aborted");
        fail(signal.reason);
      });
    });
  }

  describe(url, init) {
    let ids;
    let line;
    if (init.method === "POST") {
      const { messages, limit, min_position: positions = [], ...others } = JSON.parse(init.body);
      ids = messages.map((m) => m.message_id);
      line = messages.map((m) => m.message_id + (m.since ? ` since=${m.since}` : "")).join(", ");
      if (positions.length > 0) line += ` position=${positions.join(",")}`;
      if (url.pathname !== "/v1/pulls" || limit !== 200 || Object.keys(others).length > 0) this.problems.push(`${url}: no batch: ${init.body}`);
    } else {
      ids = [decodeURIComponent(/^\/v1\/messages\/([^/]+)\/receipts$/.exec(url.pathname)?.[1])];
      line = `page ${ids[0]}`;
      for (const name of ["since", "cursor"]) if (url.searchParams.get(name)) line += ` ${name}=${url.searchParams.get(name)}`;
      if (url.searchParams.get("limit") !== "2000") this.problems.push(`${line}: limit is ${url.searchParams.get("limit")}`);
    }
    const token = init.headers.Authorization.replace(/^Bearer /, "");
    return { ids, line: token === "t1" ? line : `${line} token=${token}` };
  }

  enter(ids, line, batch) {
    this.note(line);
    if (++this.#inFlight > 1) this.problems.push(`${line}: another request is in flight`);
    const count = (id) => this.#asked.set(id, (this.#asked.get(id) ?? 0) + 1);
    const answers = [];
    for (const id of ids) {
      const scripted = this.answers[id] ?? this.answers["*"];
      const a = scripted[Math.min(this.#asked.get(id) ?? 0, scripted.length - 1)];
      if (batch && isWhole(a)) {
        count(id);
        return [a];
      }
      answers.push(a);
    }
    ids.forEach(count);
    return answers;
  }
}

function whole(a, id) {
  const status = a.status ?? 200;
  let body = "";
  if (status === 200) body = JSON.stringify(message(a, id));
  else if (a.code) body = JSON.stringify({ type: "about:blank", title: "No", status, code: a.code, detail: "as scripted", errors: a.errors });
  return respond(status, a.body ?? body, a);
}

function respond(status, body, a) {
  const headers = new Headers({ "Content-Type": "application/json" });
  if (a.retry_after) headers.set("Retry-After", a.retry_after);
  if (a.date) headers.set("Date", a.date);
  return new Response([204, 304].includes(status) ? null : body, { status, headers });
}

function batchBody(ids, answers) {
  const messages = [];
  const unchanged = [];
  const failed = [];
  let poll = { interval: 2000, window: 20000 };
  answers.forEach((a, i) => {
    poll = a.poll ?? poll;
    if (a.failed) failed.push({ message_id: ids[i], code: a.failed });
    else if (a.status === 404) failed.push({ message_id: ids[i], code: "not_found" });
    else if (a.status === 304) unchanged.push(ids[i]);
    else messages.push(message(a, ids[i]));
  });
  const asked = { stop: false, added_in_a_later_v1: 1 };
  for (const [name, value] of Object.entries(poll)) asked[`${name}_ms`] = value;
  return JSON.stringify({ messages, unchanged, failed, poll: asked });
}

function message(a, id) {
  const readers = (a.readers ?? []).map((r) => ({ reader_id: r, read_at: "2026-11-23T08:00:04.120Z" }));
  return {
    message_id: a.message_id ?? id, conversation_id: "c1", sender_id: "alice", sent_at: "2026-11-23T08:00:00.000Z",
    state: a.state ?? "active", version: a.version ?? "", read_count: a.read_count ?? readers.length,
    recipient_count: a.recipient_count ?? 5, opted_out_count: 0, complete: a.complete ?? false, truncated: false,
    delta: a.delta ?? false, readers, next: a.next ?? null, added_in_a_later_v1: true,
  };
}

for (const scenario of scenarios) {
  const problems = [];
  try {
    await run(scenario, problems);
  } catch (error) {
    problems.push(error.stack);
  }
  console.log(JSON.stringify({ name: scenario.name, problems }));
}

// Tests of the reader's half. Each line of the output is one: {name, problems}.
import { Reporter } from "../seenby.js";
import { VirtualClock } from "./clock.mjs";

class Storage {
  #items = new Map();
  get length() {
    return this.#items.size;
  }
  key(i) {
    return [...this.#items.keys()][i] ?? null;
  }
  getItem(name) {
    return this.#items.get(name) ?? null;
  }
  setItem(name, value) {
    if (this.full) throw new Error("QuotaExceededError");
    this.#items.set(name, String(value));
  }
  removeItem(name) {
    this.#items.delete(name);
  }
}

/** A reader whose server gives these answers, the last one again and again. */
function reader(answers = [{}], config = {}) {
  const clock = config.clock ?? new VirtualClock();
  const log = [];
  const errors = [];
  let asked = 0;
  let tokens = 1;
  const reporter = new Reporter({
    baseURL: "https://receipts.example", clock, random: () => 0, storage: null,
    wall: () => new Date(Date.UTC(2026, 10, 23, 8) + clock.now()),
    token: async ({ refused }) => `t${refused ? ++tokens : tokens}`,
    onError: (error, dropped) => errors.push(`${error.code || error.message}: ${dropped.map((r) => r.message_id)}`),
    fetch: async (url, init) => {
      const { receipts } = JSON.parse(init.body);
      const items = receipts.map((r) => `${r.message_id}@${(Date.parse(r.read_at) - Date.UTC(2026, 10, 23, 8)) / 1000}`);
      log.push(`${clock.now()} ${items.join(" ")}${init.keepalive ? " keepalive" : ""}${init.headers.Authorization === "Bearer t1" ? "" : " refreshed"}`);
      const a = answers[Math.min(asked++, answers.length - 1)];
      if (a.after) await new Promise((done) => clock.after(a.after, done));
      if (a.network) throw new TypeError("connection reset");
      const status = a.status ?? 202;
      return new Response(JSON.stringify(a.body ?? {}), { status, headers: a.headers });
    },
    ...config,
  });
  return { clock, log, errors, reporter };
}

const tests = {
  async "500 ms of being read, then collected for a second"(is) {
    const { clock, log, reporter } = reader();
    reporter.begin("m1");
    await clock.reach(300);
    reporter.begin("m2");
    await clock.reach(400);
    reporter.end("m2");
    await clock.reach(900);
    reporter.begin("m3");
    await clock.reach(60_000);
    is(log, ["1500 m1@0.5 m3@1.4"]);
    is(reporter.pending(), 0);
    is(clock.pending(), 0);
  },
  async "less is not read, and begins anew"(is) {
    const { clock, log, reporter } = reader();
    for (let t = 0; t < 5000; t += 500) {
      await clock.reach(t);
      reporter.begin("m1");
      await clock.reach(t + 499);
      reporter.end("m1");
    }
    is(log, []);
  },
  async "once per message and device"(is) {
    const storage = new Storage();
    const first = reader([{}], { storage });
    first.reporter.begin("m1");
    await first.clock.reach(5000);
    first.reporter.end("m1");
    first.reporter.begin("m1");
    await first.clock.reach(10_000);
    is(first.log, ["1500 m1@0.5"]);
    const second = reader([{}], { storage });
    second.reporter.begin("m1", "m2");
    await second.clock.reach(5000);
    is(second.log, ["1500 m2@0.5"]);
    const another = reader([{}], { storage, key: "seenby:bob" });
    another.reporter.begin("m1");
    await another.clock.reach(5000);
    is(another.log, ["1500 m1@0.5"]);
  },
  async "sent on leaving the page"(is) {
    const { clock, log, reporter } = reader();
    reporter.begin("m1", "m2");
    await clock.reach(600);
    reporter.flush();
    reporter.flush();
    await clock.reach(5000);
    is(log, ["600 m1@0.5 m2@0.5 keepalive"]);
  },
  async "leaving with much waiting: no more than browsers take"(is) {
    const { clock, log, reporter } = reader();
    reporter.begin(...Array.from({ length: 600 }, (_, i) => `${i}`.padStart(128, "x")));
    await clock.reach(600);
    reporter.flush();
    await clock.reach(601);
    const items = log[0].split(" ").length - 2;
    is(items > 300 && items < 400, true);
    await clock.reach(10_000);
    is(reporter.pending(), 0);
  },
  async "at most 500 in a request"(is) {
    const { clock, log, reporter } = reader();
    reporter.begin(...Array.from({ length: 700 }, (_, i) => `m${i}`));
    await clock.reach(10_000);
    is(log.map((line) => line.split(" ").length - 1), [500, 200]);
  },
  async "network loss: everything is kept, with its time"(is) {
    const { clock, log, reporter, errors } = reader([{ network: true }, { network: true }, { status: 502 }, { network: true }, {}]);
    reporter.begin("m1");
    await clock.reach(1600);
    reporter.begin("m2");
    await clock.reach(60_000);
    is(log, ["1500 m1@0.5", "3500 m1@0.5 m2@2.1", "7500 m1@0.5 m2@2.1", "15500 m1@0.5 m2@2.1", "23500 m1@0.5 m2@2.1"]);
    is(errors.length, 4);
    is(reporter.pending(), 0);
  },
  async "what is not sent survives the page"(is) {
    const storage = new Storage();
    const before = reader([{ network: true }], { storage });
    before.reporter.begin("m1");
    await before.clock.reach(1600);
    is(before.reporter.pending(), 1);
    before.reporter.close();
    const after = reader([{}], { storage });
    await after.clock.reach(5000);
    is(after.log, ["1000 m1@0.5"]);
    const last = reader([{}], { storage });
    await last.clock.reach(5000);
    is(last.log, []);
  },
  async "Retry-After"(is) {
    const { clock, log, reporter } = reader([{ status: 429, headers: { "Retry-After": "3" } }, { status: 503, headers: { "Retry-After": "1" } }, {}]);
    reporter.begin("m1");
    await clock.reach(60_000);
    is(log, ["1500 m1@0.5", "4500 m1@0.5", "5500 m1@0.5"]);
  },
  async "a 4xx drops the items that it names"(is) {
    const { clock, log, reporter, errors } = reader([{ status: 400, body: { code: "invalid_body", errors: [{ index: 1, code: "bad_id" }] } }, {}]);
    reporter.begin("m1", "m2", "m3");
    await clock.reach(60_000);
    is(log, ["1500 m1@0.5 m2@0.5 m3@0.5", "1500 m1@0.5 m3@0.5"]);
    is(errors, ["invalid_body: m2"]);
  },
  async "a 4xx that names none drops all"(is) {
    const { clock, log, reporter, errors } = reader([{ status: 403, body: { code: "foreign_reader" } }, {}]);
    reporter.begin("m1", "m2");
    await clock.reach(10_000);
    reporter.begin("m3");
    await clock.reach(60_000);
    is(log, ["1500 m1@0.5 m2@0.5", "11500 m3@10.5"]);
    is(errors, ["foreign_reader: m1,m2"]);
  },
  async "401: another token, once"(is) {
    const { clock, log, reporter } = reader([{ status: 401 }, {}]);
    reporter.begin("m1");
    await clock.reach(60_000);
    is(log, ["1500 m1@0.5", "1500 m1@0.5 refreshed"]);
  },
  async "401 again: kept"(is) {
    const { clock, log, reporter } = reader([{ status: 401 }, { status: 401 }, {}]);
    reporter.begin("m1");
    await clock.reach(60_000);
    is(log.length, 3);
    is(reporter.pending(), 0);
  },
  async "one request in flight"(is) {
    const { clock, log, reporter } = reader([{ after: 5000 }, {}]);
    reporter.begin("m1");
    await clock.reach(1600);
    reporter.begin("m2");
    await clock.reach(60_000);
    is(log, ["1500 m1@0.5", "6500 m2@2.1"]);
  },
  async "a storage that is full keeps nothing, and nothing is lost of this page"(is) {
    const storage = new Storage();
    storage.full = true;
    const { clock, log, reporter } = reader([{}], { storage });
    reporter.begin("m1");
    await clock.reach(5000);
    reporter.end("m1");
    reporter.begin("m1");
    await clock.reach(10_000);
    is(log, ["1500 m1@0.5"]);
  },
};

for (const [name, run] of Object.entries(tests)) {
  const problems = [];
  const is = (got, want) => {
    if (JSON.stringify(got) !== JSON.stringify(want)) problems.push(`got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  };
  try {
    await run(is);
  } catch (error) {
    problems.push(error.stack);
  }
  console.log(JSON.stringify({ name, problems }));
}

// The client side of seenby, in a page: who has read the messages that are on screen,
// and which of them this person has read. It needs no other module. Types, and what
// each thing is for, are in seenby.d.ts; the rules are those of services/pull in Go,
// and both run the same table of scenarios.

const DEFAULTS = { interval: 2000, window: 20_000, timeout: 10_000, pageSize: 2000, keep: 1000 };

/** How many looks one pull is for: the newest. */
const MAX_BATCH = 200;
/** How many readers of each message a batch may ask for. */
const MAX_BATCH_READERS = 200;
/** How many positions a request may present. */
const MAX_POSITIONS = 8;
/** The pauses after failures in a row; the last one repeats. */
const BACK_OFFS = [2000, 4000, 8000];
/** Bounds what a server may set, in milliseconds: a day. */
const MAX_POLL = 86_400_000;
/** Bounds an answer, in bytes, and all pages of a set together. */
const MAX_BODY = 8 << 20;
const MAX_PULL = 64 << 20;

/** An answer of the server that is not a success, or what it says of one message. */
export class SeenbyError extends Error {
  constructor(status, problem = {}) {
    const text = (name) => (typeof problem[name] === "string" ? problem[name] : "");
    const said = text("detail") || text("title");
    super([status, text("code")].filter(Boolean).join(" ") + (said && `: ${said}`));
    this.name = "SeenbyError";
    this.status = status;
    this.code = text("code");
    this.title = text("title");
    this.detail = text("detail");
    /** The items of a request that it names: {index, code}. */
    this.items = (Array.isArray(problem.errors) ? problem.errors : [])
      .filter((e) => Number.isInteger(e?.index))
      .map((e) => ({ index: e.index, code: String(e.code) }));
  }
}

/**
 * A clock that goes on while the device sleeps: of the two clocks of a page, one may
 * stand still meanwhile, and the other may be set back.
 */
function systemClock() {
  const began = { monotonic: performance.now(), wall: Date.now() };
  let last = 0;
  return {
    now() {
      last = Math.max(last, performance.now() - began.monotonic, Date.now() - began.wall);
      return last;
    },
    after(ms, f) {
      const timer = setTimeout(f, ms);
      return () => clearTimeout(timer);
    },
  };
}

const stretched = (ms, stretch) => ms + (stretch * ms) / 10;

const opaque = (s) => typeof s === "string" && /^[A-Za-z0-9_-]+$/.test(s);

const isWhole = (n) => Number.isInteger(n) && n >= 0;

/** Well-formed Unicode: what is not cannot be an ID. */
const wellFormed = (s) => !/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/.test(s);

// What a request came to, for all that it was for:
//   answered      by a set, or by the news that there is none
//   dropped       no longer waited for; nothing follows from it
//   absent        the message may not be there yet
//   failed        the message is not answered this time
//   refused       the look ends
//   unauthorized  every look ends, as they share the token
//   delayed       nothing is requested for as long as the server says
//   broken        no answer, or none that the contract knows

/**
 * Decides what is pulled when. It knows neither clock nor network: each method is told
 * the time. A message has one look at most, and one flight exists at most; a message's
 * trip is its part in that flight.
 */
class Schedule {
  constructor({ interval, window, random, keep }) {
    Object.assign(this, { interval, window, random, keep });
    this.messages = new Map();
    this.looks = []; // oldest first
    this.left = 0;
    this.tick = null;
    this.quiet = 0;
    this.failures = 0;
    this.flight = null;
    this.changed = new Set();
  }

  change(m) {
    this.changed.add(m.id);
  }

  enter(id, positions, now) {
    let m = this.messages.get(id);
    if (!m) {
      m = {
        id, beingRead: false, leftAt: 0, look: null, trip: null, pulledAt: null, positions: [], presented: false,
        afresh: false, set: null, readers: [], known: null, lag: 0, ended: "", error: null, pulls: 0, unchanged: 0,
      };
      this.messages.set(id, m);
    }
    for (const p of positions) if (p && !m.positions.includes(p)) m.positions.push(p);
    if (m.beingRead) return;
    m.beingRead = true;
    this.begin(m, now);
    // It cannot be asked for, and would be another in the batch.
    if (!wellFormed(id)) this.end(m.look, "failed", new TypeError("the message ID is not Unicode, so that it is none"));
  }

  refresh(id, now) {
    const m = this.messages.get(id);
    if (m?.beingRead && wellFormed(id)) this.begin(m, now);
  }

  begin(m, now) {
    if (m.look) this.remove(m.look);
    m.look = { message: m, start: now, newcomer: true, stretch: this.random() };
    m.ended = "";
    m.error = null;
    this.looks.push(m.look);
    this.change(m);
  }

  leave(id, now) {
    const m = this.messages.get(id);
    if (!m?.beingRead) return;
    m.beingRead = false;
    m.leftAt = ++this.left;
    if (m.look) this.end(m.look, "left", null);
    this.forget(now);
  }

  /** Ends a look, and its trip. An error of null leaves the last one standing. */
  end(look, why, error) {
    const m = look.message;
    this.remove(look);
    m.look = null;
    m.ended = why;
    if (error) m.error = error;
    if (m.trip) {
      m.trip.cancel?.();
      m.trip = null;
      if (!this.awaited()) this.flight.cancel?.();
    }
    this.change(m);
    if (this.looks.length === 0) this.tick = null;
  }

  remove(look) {
    this.looks = this.looks.filter((other) => other !== look);
  }

  endAll(why, error) {
    while (this.looks.length > 0) this.end(this.looks[0], why, error);
  }

  /**
   * Drops the message that was left first, if there are more than keep. One whose last
   * pull is not an interval ago stays: it could be pulled too soon.
   */
  forget(now) {
    let oldest = null;
    let n = 0;
    for (const m of this.messages.values()) {
      if (m.beingRead) continue;
      n++;
      if ((!oldest || m.leftAt < oldest.leftAt) && this.rested(m, now)) oldest = m;
    }
    if (n > this.keep && oldest) this.messages.delete(oldest.id);
  }

  rested(m, now) {
    return m.pulledAt === null || now >= m.pulledAt + this.interval;
  }

  /** Does what the time calls for. Returns the flight to make now, or null. */
  step(now) {
    const due = this.due(now);
    if (due.length > 0) this.depart(due, now);
    for (const l of [...this.looks].reverse()) {
      // A pull that began within the window may end after it.
      if (now >= l.start + this.window && !l.message.trip) this.end(l, "window over", null);
    }
    return due.length > 0 ? this.flight : null;
  }

  /** Returns the looks to pull now, the newest first. */
  due(now) {
    const ticks = this.tick !== null && now >= this.nextTick();
    // Skipped or not, the next one is an interval later.
    if (ticks) this.tick = { from: now, stretch: this.random() };
    if (this.flight) {
      this.missed(now);
      return [];
    }
    if (now < this.quiet) return [];
    const due = [];
    for (const l of [...this.looks].reverse()) {
      if (now > l.start + this.window) continue;
      if ((l.newcomer && now >= this.newcomerAt(l)) || (ticks && this.rested(l.message, now))) due.push(l);
    }
    for (const l of due) l.newcomer = false;
    return due.slice(0, MAX_BATCH);
  }

  /**
   * Makes newcomers whose time has come while a pull is in flight wait for the next
   * tick. A flight that nobody waits for any more is about to end, and delays nobody.
   */
  missed(now) {
    if (!this.awaited()) return;
    for (const l of this.looks) if (l.newcomer && now >= this.newcomerAt(l)) l.newcomer = false;
  }

  awaited() {
    return this.flight !== null && this.flight.trips.some((t) => t.message.trip === t);
  }

  newcomerAt(l) {
    const at = Math.max(l.start, this.quiet);
    const m = l.message;
    return m.pulledAt === null ? at : Math.max(at, m.pulledAt + stretched(this.interval, l.stretch));
  }

  nextTick() {
    return this.tick.from + stretched(this.interval, this.tick.stretch);
  }

  depart(due, now) {
    this.flight = { trips: [], cancel: null };
    for (const l of due) {
      const trip = { message: l.message, cancel: null };
      l.message.trip = trip;
      this.flight.trips.push(trip);
    }
    // A pull of every look sets the tick, as it puts no other look off.
    if (this.tick === null || (this.tick.from < now && due.length === this.looks.length)) {
      this.tick = { from: now, stretch: this.random() };
    }
  }

  /** Returns when step is to be called next, or null. */
  wake() {
    const times = [];
    if (this.tick) times.push(this.nextTick());
    for (const l of this.looks) {
      if (l.newcomer && (!this.flight || this.awaited())) times.push(this.newcomerAt(l));
      if (!l.message.trip) times.push(l.start + this.window);
    }
    return times.length > 0 ? Math.min(...times) : null;
  }

  /** Says whether a request for the trip may go out now. */
  wanted(trip, now) {
    const m = trip.message;
    return m.trip === trip && m.look !== null && now >= this.quiet && now <= m.look.start + this.window;
  }

  /** Begins a flight. Returns what to ask for, or null if nothing is to be. */
  board(flight, now) {
    const ask = this.manifest(flight, now);
    for (const { message } of flight.trips) {
      message.pulledAt = now;
      message.pulls++;
      this.change(message);
    }
    return ask;
  }

  /** Leaves a flight the trips that are still wanted, and returns what to ask for. */
  manifest(flight, now) {
    flight.trips = flight.trips.filter((t) => {
      const wanted = this.wanted(t, now);
      if (!wanted && t.message.trip === t) t.message.trip = null;
      return wanted;
    });
    const ask = { items: [], positions: [] };
    for (const { message: m } of flight.trips) {
      ask.items.push({ id: m.id, version: m.afresh ? "" : (m.set?.version ?? "") });
      for (const p of m.positions) {
        if (ask.positions.length < MAX_POSITIONS && !ask.positions.includes(p)) ask.positions.push(p);
      }
    }
    return ask.items.length > 0 ? ask : null;
  }

  /** Takes the answer to a flight's batch. Returns the messages whose sets go on. */
  settleBatch(flight, b, now) {
    const more = [];
    this.pace(b, now);
    if (b.poll) this.adopt(b.poll);
    flight.trips.forEach((trip, i) => {
      const m = trip.message;
      if (m.trip !== trip) return;
      const a = b.answers ? b.answers[i] : { verdict: b.verdict, error: b.error };
      m.lag = b.lag ?? 0;
      this.present(m, b, a);
      if (a.verdict === "answered" && a.next) {
        more.push({ trip, item: { id: m.id, version: m.set?.version ?? "" }, first: a });
      } else {
        this.conclude(trip, a);
      }
    });
    return more;
  }

  /**
   * Notes which of a message's positions need not be presented again. A message that is
   * not there although a position of its own was presented will not come.
   */
  present(m, b, a) {
    if (a.verdict !== "answered" && a.verdict !== "absent" && !b.gone) return;
    const before = m.positions.length;
    m.positions = m.positions.filter((p) => !b.presented.includes(p));
    m.presented ||= m.positions.length < before && !b.gone;
    if (a.verdict === "absent" && m.presented) a.verdict = "refused";
  }

  /** Takes the answer to a trip that went on after the batch. */
  settle(trip, a, now) {
    this.pace(a, now);
    if (trip.message.trip === trip) this.conclude(trip, a);
  }

  conclude(trip, a) {
    const m = trip.message;
    this.change(m);
    this.judge(m, a);
    m.trip = null;
  }

  /** Takes what an answer says to the client as a whole, whoever waits for it. */
  pace(o, now) {
    switch (o.verdict) {
      case "dropped":
        return;
      case "delayed":
        this.quiet = Math.max(this.quiet, now + stretched(o.wait, this.random()));
        return;
      case "broken":
        this.quiet = Math.max(this.quiet, now + BACK_OFFS[Math.min(this.failures, BACK_OFFS.length - 1)]);
        this.failures++;
        return;
      case "unauthorized":
        this.endAll("failed", o.error);
    }
    this.failures = 0;
  }

  adopt({ interval, window }) {
    if (interval > 0) this.interval = interval;
    if (window > 0) this.window = window;
  }

  judge(m, a) {
    switch (a.verdict) {
      case "answered":
        this.show(m, a);
        break;
      case "refused":
        m.afresh ||= a.afresh === true;
        this.end(m.look, "failed", a.error);
        break;
      case "absent":
      case "failed":
      case "delayed":
      case "broken":
        m.error = a.error;
    }
  }

  show(m, a) {
    m.error = null;
    m.afresh = false;
    if (a.unchanged) m.unchanged++;
    else apply(m, a.set, a.readers);
    if (m.set.complete || m.set.state === "recalled") this.end(m.look, "stopped", null);
  }

  /** Ends the flight. Trips that were not made are void. */
  land() {
    for (const t of this.flight.trips) if (t.message.trip === t) t.message.trip = null;
    this.flight = null;
  }

  view(id) {
    const m = this.messages.get(id);
    if (!m) return { message_id: id, ...NOTHING };
    return {
      ...NOTHING, ...m.set, message_id: id, readers: m.readers, lag: m.lag, looking: m.look !== null, ended: m.ended,
      error: m.error, pulls: m.pulls, unchanged: m.unchanged,
    };
  }
}

const NOTHING = Object.freeze({
  version: "", conversation_id: "", sender_id: null, sent_at: null, state: "active", read_count: 0, recipient_count: 0,
  opted_out_count: null, complete: false, truncated: false, readers: Object.freeze([]), lag: 0, looking: false, ended: "",
  error: null, pulls: 0, unchanged: 0,
});

/**
 * Applies a complete answer: added readers if it is a delta, else all. Views share the
 * readers, so that a changed list is another.
 */
function apply(m, set, readers) {
  if (!set.delta || !m.known) {
    m.readers = [];
    m.known = new Set();
  }
  const { delta, ...shown } = set;
  m.set = shown;
  const added = readers.filter((r) => !m.known.has(r.reader_id) && m.known.add(r.reader_id));
  if (added.length > 0 || !Object.isFrozen(m.readers)) m.readers = Object.freeze([...m.readers, ...added]);
}

/** Checks what the client relies on of one message's answer. */
function decodePage(p) {
  if (p === null || typeof p !== "object" || typeof p.message_id !== "string") throw new Error("it is about no message");
  if (!opaque(p.version)) throw new Error("it has no version");
  const next = p.next ?? null;
  if (next !== null && !opaque(next)) throw new Error("its next is not a cursor");
  const counts = [p.read_count ?? 0, p.recipient_count ?? 0];
  if (!counts.every(isWhole)) throw new Error("a count is none");
  const readers = (p.readers ?? []).map((r) => {
    if (typeof r?.reader_id !== "string" || r.reader_id === "") throw new Error("a reader has no ID");
    if (Number.isNaN(Date.parse(r.read_at))) throw new Error("a reader has no time");
    return Object.freeze({ reader_id: r.reader_id, read_at: r.read_at });
  });
  return {
    set: {
      message_id: p.message_id, version: p.version, conversation_id: String(p.conversation_id ?? ""), sender_id: p.sender_id ?? null,
      sent_at: p.sent_at ?? null, state: String(p.state ?? "active"), read_count: counts[0], recipient_count: counts[1],
      opted_out_count: p.opted_out_count ?? null, complete: p.complete === true, truncated: p.truncated === true,
      delta: p.delta === true,
    },
    readers, next,
  };
}

function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    throw new Error("it is no JSON");
  }
}

/** Makes an error of whatever body came with a status: proxies answer too. */
function problemOf(response) {
  try {
    const p = JSON.parse(response.body);
    return new SeenbyError(response.status, p !== null && typeof p === "object" ? p : {});
  } catch {
    return new SeenbyError(response.status);
  }
}

/** Returns how long Retry-After asks to wait, or null. A date is relative to the answer's own Date: clocks differ. */
function retryAfter(headers) {
  const value = (headers.get("Retry-After") ?? "").trim();
  if (/^\d+$/.test(value)) return Math.min(Number(value) * 1000, MAX_POLL);
  const until = Date.parse(value);
  const answered = Date.parse(headers.get("Date") ?? "");
  if (Number.isNaN(until) || Number.isNaN(answered)) return null;
  return Math.min(Math.max(0, until - answered), MAX_POLL);
}

function refusal(response, error) {
  const { status } = response;
  if (status === 429 || status === 503) {
    const wait = retryAfter(response.headers);
    return wait === null ? { verdict: "broken", error } : { verdict: "delayed", error, wait };
  }
  return { verdict: status >= 500 || status < 400 ? "broken" : "refused", error };
}

function baseOf(baseURL) {
  const url = new URL(baseURL ?? "", globalThis.location?.href);
  if (!/^https?:$/.test(url.protocol) || url.search || url.hash || url.username) {
    throw new TypeError(`baseURL ${baseURL}: it must begin with http:// or https://, and have no query, no fragment and no user`);
  }
  return url.href.replace(/\/+$/, "");
}

/** Reads a body, as text, up to a bound. */
async function readBody(response, bound) {
  if (!response.body) return "";
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    if (bytes > bound) {
      await reader.cancel();
      throw new Error("the answer is too large");
    }
    text += decoder.decode(value, { stream: true });
  }
}

/** What all requests have in common: one that takes too long is ended. */
class Fetcher {
  constructor({ baseURL, token, fetch: send, timeout, clock }) {
    if (typeof token !== "function") throw new TypeError("token must be a function that returns the bearer token");
    Object.assign(this, { base: baseOf(baseURL), token, timeout, clock });
    this.fetch = send ?? ((...args) => globalThis.fetch(...args));
  }

  async limited(signal, f) {
    signal.throwIfAborted();
    const controller = new AbortController();
    const abort = () => controller.abort(signal.reason);
    signal.addEventListener("abort", abort);
    const stop = this.clock.after(this.timeout, () => controller.abort(new Error("no answer in time")));
    const ended = new Promise((_, reject) => {
      controller.signal.addEventListener("abort", () => reject(controller.signal.reason));
    });
    ended.catch(() => {}); // whoever races with it is told
    try {
      return await Promise.race([f(controller.signal), ended]);
    } finally {
      stop();
      signal.removeEventListener("abort", abort);
    }
  }

  authorize(signal, refused) {
    return this.limited(signal, async (within) => {
      const token = await this.token({ refused, signal: within });
      if (typeof token !== "string" || token === "") throw new Error("there is no token");
      return token;
    });
  }

  send(signal, token, path, init, spent) {
    return this.limited(signal, async (within) => {
      let bytes = 0;
      try {
        const response = await this.fetch(this.base + path, {
          ...init, signal: within, cache: "no-store", credentials: "omit", redirect: "manual",
          headers: { Accept: "application/json", Authorization: `Bearer ${token}`, ...init.headers },
        });
        const body = await readBody(response, MAX_BODY);
        bytes = body.length;
        return { status: response.status, headers: response.headers, body };
      } finally {
        spent(bytes);
      }
    });
  }
}

/** The requests of one pull. They share the token, which is refreshed once if it is refused. */
class Session {
  constructor(fetcher, pageSize, spent) {
    Object.assign(this, { fetcher, pageSize, spent, token: "", refreshed: false });
  }

  lost(signal, error) {
    return { verdict: signal.aborted ? "dropped" : "broken", error };
  }

  /** Returns {response} or {outcome}; a response of 401 is never returned. */
  async authorized(signal, request, again) {
    try {
      this.token ||= await this.fetcher.authorize(signal, null);
      for (;;) {
        const { path, ...init } = request();
        const response = await this.fetcher.send(signal, this.token, path, init, this.spent);
        if (response.status !== 401) return { response };
        const error = problemOf(response);
        if (this.refreshed) return { outcome: { verdict: "unauthorized", error } };
        try {
          this.token = await this.fetcher.authorize(signal, this.token);
        } catch (cause) {
          error.cause = cause;
          return { outcome: { verdict: signal.aborted ? "dropped" : "unauthorized", error } };
        }
        this.refreshed = true;
        if (!again()) return { outcome: { verdict: "dropped", error } };
      }
    } catch (error) {
      return { outcome: this.lost(signal, error) };
    }
  }

  /**
   * Pulls a batch. Where the token or positions are refused it is asked again with
   * another or without them: that is still the same pull.
   */
  async post(signal, ask, again) {
    const b = { verdict: "answered", answers: null, presented: ask.positions, gone: false, poll: null, lag: 0 };
    const still = () => {
      ask = again();
      return ask !== null;
    };
    const request = () => ({
      path: "/v1/pulls", method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        messages: ask.items.map(({ id, version }) => (version ? { message_id: id, since: version } : { message_id: id })),
        limit: Math.min(this.pageSize, MAX_BATCH_READERS),
        ...(ask.positions.length > 0 && !b.gone ? { min_position: ask.positions } : {}),
      }),
    });
    for (;;) {
      const { response, outcome } = await this.authorized(signal, request, still);
      if (outcome) return Object.assign(b, outcome);
      if (response.status === 200) {
        try {
          this.take(b, response, ask.items);
        } catch (error) {
          Object.assign(b, this.lost(signal, new Error(`the answer cannot be understood: ${error.message}`)), { answers: null, poll: null });
        }
        return b;
      }
      const error = problemOf(response);
      if (response.status === 410 && error.code === "position_gone" && !b.gone && b.presented.length > 0) {
        b.gone = true;
        if (still()) continue;
        return Object.assign(b, { verdict: "dropped", error });
      }
      return this.refuse(b, response, error, ask.items.length);
    }
  }

  /** Takes a 200: an answer for each item. */
  take(b, response, items) {
    const body = parse(response.body);
    const answers = new Array(items.length).fill(null);
    const at = (id) => {
      const i = items.findIndex((it) => it.id === id);
      if (i < 0 || answers[i]) throw new Error(`it is about message ${JSON.stringify(id)}, which was not asked for, or is there twice`);
      return i;
    };
    for (const raw of body.messages ?? []) {
      const page = decodePage(raw);
      const i = at(page.set.message_id);
      if (page.set.delta && !items[i].version) throw new Error("it is a difference to what was not presented");
      if (page.readers.length > Math.min(this.pageSize, MAX_BATCH_READERS)) throw new Error("a message has more readers than were asked for");
      answers[i] = { verdict: "answered", ...page };
    }
    for (const id of body.unchanged ?? []) {
      const i = at(id);
      if (!items[i].version) throw new Error("a message is unchanged that nothing was presented of");
      answers[i] = { verdict: "answered", unchanged: true };
    }
    for (const f of body.failed ?? []) {
      answers[at(f?.message_id)] = { verdict: f.code === "not_found" ? "absent" : "failed", error: new SeenbyError(200, { code: f.code }) };
    }
    const missing = answers.indexOf(null);
    if (missing >= 0) throw new Error(`it says nothing of message ${JSON.stringify(items[missing].id)}`);
    const ms = (n) => (Number.isFinite(n) && n > 0 ? Math.min(n, MAX_POLL) : 0);
    Object.assign(b, {
      answers, poll: { interval: ms(body.poll?.interval_ms), window: ms(body.poll?.window_ms) },
      lag: ms(Number(response.headers.get("Seenby-Lag-Ms"))),
    });
  }

  /**
   * Takes an answer that is not a success. A 400 that names items ends their looks
   * alone; the others are asked for again at the next tick.
   */
  refuse(b, response, error, items) {
    Object.assign(b, refusal(response, error));
    if (b.verdict !== "refused") return b;
    b.gone ||= error.code === "bad_position";
    if (error.items.length === 0) return b;
    b.answers = Array.from({ length: items }, () => ({ verdict: "failed", error }));
    for (const { index, code } of error.items) {
      // Presented again, it would be refused again, look after look.
      if (b.answers[index]) Object.assign(b.answers[index], { verdict: "refused", afresh: code === "bad_version" });
    }
    return b;
  }

  /** Gets the pages that a set goes on with. What they say is kept back until the last is there. */
  async follow(signal, { item, first }, wanted) {
    const a = { verdict: "answered", set: first.set, readers: [...first.readers] };
    let cursor = first.next;
    let cursors = new Set([cursor]);
    let restarted = false;
    let bytes = 0;
    const request = () => {
      const query = new URLSearchParams({ limit: String(this.pageSize) });
      if (cursor) query.set("cursor", cursor);
      else if (item.version) query.set("since", item.version);
      return { path: `/v1/messages/${encodeURIComponent(item.id)}/receipts?${query}`, method: "GET" };
    };
    for (;;) {
      const { response, outcome } = await this.authorized(signal, request, wanted);
      if (outcome) return Object.assign(a, outcome);
      if (response.status !== 200) {
        const error = problemOf(response);
        if (response.status === 410 && error.code === "cursor_gone" && !restarted) {
          restarted = true;
          cursor = "";
        } else {
          Object.assign(a, refusal(response, error));
          // It was there a moment ago: it has expired, or the next tick will tell.
          if (response.status === 404 && error.code !== "no_such_route") a.verdict = "absent";
          return a;
        }
      } else {
        try {
          const page = decodePage(parse(response.body));
          bytes += response.body.length;
          if (page.set.message_id !== item.id) throw new Error("it is about another message");
          if (page.readers.length > this.pageSize) throw new Error("it has more readers than were asked for");
          if (!cursor && page.set.delta && !item.version) throw new Error("it is a difference to what was not presented");
          if (bytes > MAX_PULL) throw new Error("the set is too large");
          if (!cursor) {
            Object.assign(a, { set: page.set, readers: page.readers });
            cursors = new Set();
          } else if (page.set.version !== a.set.version) {
            throw new Error("a page is of another version than the first");
          } else {
            a.readers.push(...page.readers);
          }
          if (page.next === null) return a;
          if (cursors.has(page.next)) throw new Error("it continues with a cursor that was followed already");
          cursor = page.next;
          cursors.add(cursor);
        } catch (error) {
          return Object.assign(a, this.lost(signal, new Error(`the answer cannot be understood: ${error.message}`)));
        }
      }
      if (!wanted()) return Object.assign(a, { verdict: "dropped" });
    }
  }
}

/** Calls what is not ours, whose errors must not stop us. */
function tell(f, ...args) {
  try {
    f(...args);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}

/** The sender's half. See seenby.d.ts. */
export class Watcher {
  #schedule;
  #fetcher;
  #clock;
  #pageSize;
  #onChange;
  #totals = { requests: 0, bytes: 0 };
  #closed = false;
  #nudged = false;
  #stopTimer = () => {};

  constructor(config) {
    const c = { ...DEFAULTS, clock: systemClock(), random: Math.random, onChange() {}, ...config };
    const bad = (name, ok, what) => {
      if (!ok) throw new TypeError(`${name} must be ${what}`);
    };
    bad("interval", c.interval > 0 && c.interval <= MAX_POLL, "positive milliseconds, a day at most");
    bad("window", c.window > 0 && c.window <= MAX_POLL, "positive milliseconds, a day at most");
    bad("timeout", c.timeout > 0, "positive milliseconds");
    bad("pageSize", Number.isInteger(c.pageSize) && c.pageSize >= 1 && c.pageSize <= DEFAULTS.pageSize, "1-2000");
    bad("keep", isWhole(c.keep), "a number of messages");
    this.#fetcher = new Fetcher(c);
    this.#clock = c.clock;
    this.#pageSize = c.pageSize;
    this.#onChange = c.onChange;
    this.#schedule = new Schedule(c);
  }

  look(...messages) {
    this.#change((s, now) => {
      for (const m of messages) s.enter(m.id, m.positions ?? [], now);
    });
  }

  leave(...ids) {
    this.#change((s, now) => ids.forEach((id) => s.leave(id, now)));
  }

  refresh(...ids) {
    this.#change((s, now) => ids.forEach((id) => s.refresh(id, now)));
  }

  view(id) {
    return this.#schedule.view(id);
  }

  totals() {
    return { ...this.#totals };
  }

  close() {
    if (this.#closed) return;
    this.#schedule.endAll("closed", null);
    this.#closed = true;
    this.#stopTimer();
    this.#report();
  }

  #change(f) {
    if (this.#closed) return;
    f(this.#schedule, this.#clock.now());
    this.#nudge();
  }

  /** What is done in one go by the app is one step: messages that come together share a pull. */
  #nudge() {
    if (this.#nudged || this.#closed) return;
    this.#nudged = true;
    queueMicrotask(() => {
      this.#nudged = false;
      if (!this.#closed) this.#step();
    });
  }

  #step() {
    const s = this.#schedule;
    this.#stopTimer();
    const flight = s.step(this.#clock.now());
    if (flight) this.#fly(flight);
    this.#report();
    const at = s.wake();
    this.#stopTimer = at === null ? () => {} : this.#clock.after(Math.max(0, at - this.#clock.now()), () => this.#nudge());
  }

  #report() {
    const changed = this.#schedule.changed;
    this.#schedule.changed = new Set();
    for (const id of changed) tell(this.#onChange, id);
  }

  /**
   * Makes one pull: a batch for all of its messages, and then, where a set did not fit,
   * its further pages, one request at a time.
   */
  async #fly(flight) {
    const s = this.#schedule;
    const now = () => this.#clock.now();
    const controller = new AbortController();
    flight.cancel = () => controller.abort();
    try {
      const ask = s.board(flight, now());
      if (!ask) return;
      const session = new Session(this.#fetcher, this.#pageSize, (bytes) => {
        this.#totals.requests++;
        this.#totals.bytes += bytes;
      });
      const batch = await session.post(controller.signal, ask, () => s.manifest(flight, now()));
      const more = s.settleBatch(flight, batch, now());
      this.#nudge();
      for (const c of more) {
        const wanted = () => s.wanted(c.trip, now());
        if (!wanted()) continue;
        // Leaving this message ends its request, while others may still be waited for.
        const own = new AbortController();
        const abort = () => own.abort();
        controller.signal.addEventListener("abort", abort);
        c.trip.cancel = abort;
        const a = await session.follow(own.signal, c, wanted);
        controller.signal.removeEventListener("abort", abort);
        s.settle(c.trip, a, now());
        this.#nudge();
      }
    } finally {
      s.land();
      this.#nudge();
    }
  }
}

/** How long a message is being read until it counts as read, and reads are collected, in milliseconds. */
const READ_AFTER = 500;
const COLLECT = 1000;
/** How many receipts a request may have. */
const MAX_RECEIPTS = 500;
/** Browsers send no more than 64 KiB on leaving, of all requests together. */
const MAX_KEEPALIVE = 60_000;
/** How many messages are remembered as read on this device. */
const REMEMBERED = 5000;

/** Keeps what is to be sent, and what was, where it survives the page. */
class Outbox {
  constructor(storage, key) {
    this.storage = storage;
    this.prefix = `${key}:`;
    this.waiting = new Map();
    this.seen = new Set();
    this.attempt(() => {
      for (let i = 0; i < storage.length; i++) {
        const name = storage.key(i);
        if (name?.startsWith(`${this.prefix}q:`)) this.waiting.set(name.slice(this.prefix.length + 2), storage.getItem(name));
      }
      for (const id of JSON.parse(storage.getItem(`${this.prefix}seen`) ?? "[]")) this.seen.add(id);
    });
  }

  /** A storage that is full, or forbidden, is one that keeps nothing; this page still knows. */
  attempt(f) {
    try {
      if (this.storage) f();
    } catch (error) {
      this.trouble = error;
    }
  }

  has(id) {
    return this.seen.has(id);
  }

  add(id, readAt) {
    this.seen.add(id);
    for (const oldest of this.seen) {
      if (this.seen.size <= REMEMBERED) break;
      this.seen.delete(oldest);
    }
    this.waiting.set(id, readAt);
    this.attempt(() => {
      // One entry a receipt, so that several tabs do not overwrite each other's.
      this.storage.setItem(`${this.prefix}q:${id}`, readAt);
      this.storage.setItem(`${this.prefix}seen`, JSON.stringify([...this.seen]));
    });
  }

  drop(id) {
    this.waiting.delete(id);
    this.attempt(() => this.storage.removeItem(`${this.prefix}q:${id}`));
  }
}

/** The reader's half. See seenby.d.ts. */
export class Reporter {
  #fetcher;
  #clock;
  #random;
  #wall;
  #onSent;
  #onError;
  #outbox;
  #reading = new Map();
  #sending = new Set();
  #stopTimer = null;
  #quiet = 0;
  #failures = 0;
  #busy = 0;
  #closed = false;
  #abort = new AbortController();
  #page;
  #offline = () => globalThis.navigator?.onLine === false;
  #leaving = () => {
    if (!this.#page || this.#page.visibilityState === "hidden") this.flush();
  };
  #online = () => {
    this.#quiet = 0;
    this.#failures = 0;
    this.#stopTimer?.();
    this.#stopTimer = null;
    this.#collect(0);
  };

  constructor(config) {
    const c = {
      timeout: DEFAULTS.timeout, clock: systemClock(), random: Math.random, wall: () => new Date(), onSent() {}, onError() {},
      key: "seenby", ...config,
    };
    let storage = c.storage;
    if (storage === undefined) {
      try {
        storage = globalThis.localStorage ?? null;
      } catch {
        storage = null; // forbidden for this page
      }
    }
    this.#fetcher = new Fetcher(c);
    this.#clock = c.clock;
    this.#random = c.random;
    this.#wall = c.wall;
    this.#onSent = c.onSent;
    this.#onError = c.onError;
    this.#outbox = new Outbox(storage, c.key);
    this.#page = globalThis.document;
    this.#page?.addEventListener("visibilitychange", this.#leaving);
    globalThis.addEventListener?.("pagehide", this.#leaving);
    globalThis.addEventListener?.("online", this.#online);
    if (this.#outbox.waiting.size > 0) this.#collect(COLLECT);
  }

  begin(...ids) {
    for (const id of ids) {
      if (this.#closed || this.#reading.has(id) || this.#outbox.has(id)) continue;
      this.#reading.set(id, this.#clock.after(READ_AFTER, () => {
        this.#reading.delete(id);
        this.#outbox.add(id, this.#wall().toISOString());
        this.#collect(COLLECT);
      }));
    }
  }

  end(...ids) {
    for (const id of ids) {
      this.#reading.get(id)?.();
      this.#reading.delete(id);
    }
  }

  pending() {
    return this.#outbox.waiting.size;
  }

  /** Sends what is collected now, so that it arrives although the page goes away. */
  flush() {
    if (!this.#closed && this.#clock.now() >= this.#quiet) this.#send(true);
  }

  close() {
    this.flush();
    this.#closed = true;
    this.#stopTimer?.();
    for (const stop of this.#reading.values()) stop();
    this.#reading.clear();
    this.#page?.removeEventListener("visibilitychange", this.#leaving);
    globalThis.removeEventListener?.("pagehide", this.#leaving);
    globalThis.removeEventListener?.("online", this.#online);
  }

  /** Sets the timer of the next request, unless it is set for sooner. */
  #collect(ms) {
    if (this.#closed || this.#stopTimer) return;
    const stop = this.#clock.after(Math.max(ms, this.#quiet - this.#clock.now()), () => {
      this.#stopTimer = null;
      this.#send(false);
    });
    this.#stopTimer = stop;
  }

  #next(bound) {
    const receipts = [];
    let bytes = 20;
    for (const [id, readAt] of this.#outbox.waiting) {
      if (this.#sending.has(id)) continue;
      const receipt = { message_id: id, read_at: readAt };
      bytes += new TextEncoder().encode(JSON.stringify(receipt)).length + 1;
      if (receipts.length === MAX_RECEIPTS || bytes > bound) break;
      receipts.push(receipt);
    }
    return receipts;
  }

  async #send(leaving) {
    if ((this.#busy > 0 && !leaving) || this.#offline()) return;
    const receipts = this.#next(leaving ? MAX_KEEPALIVE : 200_000);
    if (receipts.length === 0) return;
    receipts.forEach((r) => this.#sending.add(r.message_id));
    this.#busy++;
    try {
      await this.#post(receipts, leaving);
    } finally {
      receipts.forEach((r) => this.#sending.delete(r.message_id));
      this.#busy--;
      if (this.#outbox.waiting.size > 0) this.#collect(0);
    }
  }

  async #post(receipts, leaving) {
    const session = new Session(this.#fetcher, 0, () => {});
    const { response, outcome } = await session.authorized(this.#abort.signal, () => ({
      path: "/v1/receipts", method: "POST", keepalive: leaving, headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ receipts }),
    }), () => true);
    if (!response) return this.#later(null, outcome.error);
    const { status } = response;
    if (status >= 200 && status < 300) {
      this.#failures = 0;
      receipts.forEach((r) => this.#outbox.drop(r.message_id));
      return tell(this.#onSent, receipts);
    }
    const error = problemOf(response);
    // To be asked to come later is not to be refused.
    if (status < 400 || status >= 500 || status === 408 || status === 429) return this.#later(retryAfter(response.headers), error);
    this.#failures = 0;
    const named = error.items.filter(({ index }) => receipts[index]).map(({ index }) => receipts[index]);
    (named.length > 0 ? named : receipts).forEach((r) => this.#outbox.drop(r.message_id));
    tell(this.#onError, error, named.length > 0 ? named : receipts);
  }

  /** Keeps everything, and tries again after a pause. */
  #later(wait, error) {
    const pause = wait === null ? BACK_OFFS[Math.min(this.#failures++, BACK_OFFS.length - 1)] : stretched(wait, this.#random());
    this.#quiet = Math.max(this.#quiet, this.#clock.now() + pause);
    tell(this.#onError, error, []);
  }
}

/** Tells which elements are being read. See seenby.d.ts. */
export class OnScreen {
  #enter;
  #leave;
  #observer;
  #ids = new Map();
  #visible = new Set();
  #reading = new Set();
  #document;
  #changed = () => this.#settle();
  #gone = () => this.#settle(true);

  constructor({ enter, leave, root = null, document: page = globalThis.document }) {
    this.#enter = enter;
    this.#leave = leave;
    this.#document = page;
    this.#observer = new IntersectionObserver((entries) => this.#observed(entries), {
      root, threshold: Array.from({ length: 21 }, (_, i) => i / 20),
    });
    page.addEventListener("visibilitychange", this.#changed);
    globalThis.addEventListener("pagehide", this.#gone);
    globalThis.addEventListener("pageshow", this.#changed);
  }

  observe(element, id) {
    this.#ids.set(element, id);
    this.#observer.observe(element);
  }

  unobserve(element) {
    this.#observer.unobserve(element);
    this.#ids.delete(element);
    this.#visible.delete(element);
    this.#settle();
  }

  close() {
    this.#observer.disconnect();
    this.#visible.clear();
    this.#settle();
    this.#document.removeEventListener("visibilitychange", this.#changed);
    globalThis.removeEventListener("pagehide", this.#gone);
    globalThis.removeEventListener("pageshow", this.#changed);
  }

  #observed(entries) {
    for (const e of entries) {
      const height = Math.min(e.boundingClientRect.height, e.rootBounds?.height ?? globalThis.innerHeight);
      const shown = e.isIntersecting && height > 0 && e.intersectionRect.height >= height / 2;
      if (shown && this.#ids.has(e.target)) this.#visible.add(e.target);
      else this.#visible.delete(e.target);
    }
    this.#settle();
  }

  /** Tells what has begun and what has ceased to be read. */
  #settle(gone = false) {
    const now = new Set();
    if (!gone && this.#document.visibilityState === "visible") {
      for (const element of this.#visible) now.add(this.#ids.get(element));
    }
    const left = [...this.#reading].filter((id) => !now.has(id));
    const begun = [...now].filter((id) => !this.#reading.has(id));
    this.#reading = now;
    if (left.length > 0) tell(this.#leave, left);
    if (begun.length > 0) tell(this.#enter, begun);
  }
}

// A virtual clock, on which tests run at once whatever they wait for.
export class VirtualClock {
  #now = 0;
  #slept = 0;
  #timers = [];
  #order = 0;

  /** The time, sleep included, in milliseconds. */
  now() {
    return round(this.#now + this.#slept);
  }

  /** Calls f after so many milliseconds, during which the device does not sleep. */
  after(ms, f) {
    const timer = { at: round(this.#now + ms), order: this.#order++, f };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  sleep(ms) {
    this.#slept += ms;
  }

  /** Lets time pass until it is at, sleep included. */
  async reach(time) {
    const at = Math.max(this.#now, round(time - this.#slept));
    await settled();
    for (;;) {
      const [next] = this.#timers.filter((t) => t.at <= at).sort((a, b) => a.at - b.at || a.order - b.order);
      if (!next) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.f();
      await settled();
    }
    this.#now = at;
  }

  pending() {
    return this.#timers.length;
  }
}

/** Sums of tenths are not what they seem. */
export const round = (ms) => Math.round(ms * 1e6) / 1e6;

/** Everything that needs no time has happened. */
export async function settled() {
  for (let i = 0; i < 4; i++) await new Promise((done) => setImmediate(done));
}

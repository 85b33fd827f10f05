// The client side of seenby, for pages: who has read the messages that are on screen
// (Watcher), which of them this person has read (Reporter), and what is on screen
// (OnScreen). Names of what comes from the server are the server's.

/** Returns the bearer token. If refused is not null, it is the token that the server has just refused. */
export type TokenSource = (asked: { refused: string | null; signal: AbortSignal }) => Promise<string> | string;

/** A clock that counts the device's sleep, in milliseconds. For tests. */
export interface Clock {
  now(): number;
  /** Calls f once, after ms; returns what prevents it. */
  after(ms: number, f: () => void): () => void;
}

/** An answer of the server that is not a success, or what it says of one message. Branch on code. */
export class SeenbyError extends Error {
  /** The HTTP status; 200 where other messages of a batch were answered. */
  readonly status: number;
  /** The problem's code, such as "not_found"; empty if the answer was no problem document. */
  readonly code: string;
  readonly title: string;
  readonly detail: string;
  /** The items of a request that it names, by index from 0. */
  readonly items: { index: number; code: string }[];
}

/** One receipt. read_at is RFC 3339 in UTC. */
export interface Reader {
  readonly reader_id: string;
  readonly read_at: string;
}

/** Why a message's last look ended; empty while one is running, or before the first. */
export type Ended = "" | "left" | "window over" | "stopped" | "failed" | "closed";

/** What is known of a message, and of the look at it, at one moment. It never changes. */
export interface View {
  readonly message_id: string;
  /** Empty until an answer has come. */
  readonly version: string;
  readonly conversation_id: string;
  /** null if the sender was erased. */
  readonly sender_id: string | null;
  readonly sent_at: string | null;
  readonly state: "active" | "recalled" | string;
  readonly read_count: number;
  readonly recipient_count: number;
  readonly opted_out_count: number | null;
  /** All have read it. */
  readonly complete: boolean;
  /** readers ends before read_count. */
  readonly truncated: boolean;
  /** In the order in which their receipts came. */
  readonly readers: readonly Reader[];
  /** For how many milliseconds the answering server had not known that it was up to date. */
  readonly lag: number;
  readonly looking: boolean;
  readonly ended: Ended;
  /** What went wrong with the last pull of this look, or null. While looking, it may pass. */
  readonly error: Error | SeenbyError | null;
  /** The pulls that this message was part of, and those that found it unchanged. */
  readonly pulls: number;
  readonly unchanged: number;
}

export interface WatcherConfig {
  /** Where the contract's paths begin; relative to the page if it has no scheme. */
  baseURL: string;
  token: TokenSource;
  /** Called after a view has changed. It may call any method. */
  onChange?: (message_id: string) => void;
  /** Milliseconds; until the server says otherwise. By default 2000 and 20,000. */
  interval?: number;
  window?: number;
  /** Bounds each request, in milliseconds; by default 10,000. */
  timeout?: number;
  /** How many readers a page may have, 1-2000; by default 2000. */
  pageSize?: number;
  /** How many messages that are not being read are remembered; by default 1000. */
  keep?: number;
  fetch?: typeof fetch;
  clock?: Clock;
  /** From 0 to below 1, for the spread of intervals. */
  random?: () => number;
}

/**
 * The sender's half of the proactive pull: it pulls the messages that are being read, as
 * one batch every interval until their window is over, and nothing else. Make one for
 * each signed-in user.
 */
export class Watcher {
  constructor(config: WatcherConfig);
  /**
   * Messages begin to be read. Positions are those that the chat backend got for its
   * writes: with them the first pull cannot miss the message. Messages given together
   * share the first pull.
   */
  look(...messages: { id: string; positions?: string[] }[]): void;
  /** They are no longer being read: their looks end at once, and so does a request that only they wait for. */
  leave(...ids: string[]): void;
  /** The user asks for another look at messages that are being read. */
  refresh(...ids: string[]): void;
  view(id: string): View;
  /** What all pulls have cost: requests, and the length of the answers' bodies, uncompressed. */
  totals(): { requests: number; bytes: number };
  close(): void;
}

export interface Receipt {
  readonly message_id: string;
  readonly read_at: string;
}

export interface ReporterConfig {
  baseURL: string;
  token: TokenSource;
  /** Begins the names of what is kept on the device. Give each user another: a device may have several. */
  key?: string;
  /** Where receipts survive the page; by default localStorage, and null for nowhere. */
  storage?: Storage | null;
  /** Called with receipts that were accepted. */
  onSent?: (receipts: Receipt[]) => void;
  /** Called with what went wrong, and the receipts that are given up because of it; none if all are kept. */
  onError?: (error: Error | SeenbyError, dropped: Receipt[]) => void;
  timeout?: number;
  fetch?: typeof fetch;
  clock?: Clock;
  random?: () => number;
  /** The time of day. */
  wall?: () => Date;
}

/**
 * The reader's half: a message that is being read for 500 ms counts as read, once on this
 * device. Receipts are collected for a second, sent at once when the page is left, and
 * kept while there is no network.
 */
export class Reporter {
  constructor(config: ReporterConfig);
  begin(...ids: string[]): void;
  end(...ids: string[]): void;
  /** How many receipts wait to be sent. */
  pending(): number;
  /** Sends what was collected so that it arrives although the page goes away. Leaving the page does it by itself. */
  flush(): void;
  /** Flushes, and reports no more. */
  close(): void;
}

export interface OnScreenConfig {
  enter(ids: string[]): void;
  leave(ids: string[]): void;
  /** The element that scrolls; by default the viewport. */
  root?: Element | null;
  document?: Document;
}

/**
 * Tells which elements are being read: half of the element, or of the viewport if it is
 * taller, is on screen, and the page is in the foreground.
 */
export class OnScreen {
  constructor(config: OnScreenConfig);
  observe(element: Element, id: string): void;
  unobserve(element: Element): void;
  close(): void;
}

/**
 * What changes over all sessions of the caller: the list of sessions, and what waits for an answer.
 *
 * The stream of the account says when something has changed; the lists are read then, and whenever the stream begins.
 */

import {apiUrl, callApi} from './api.js';
import {readToken} from './credentials.js';

/** @typedef {import('../../types/wire').SessionView} SessionView */
/** @typedef {import('../../types/wire').PendingApproval} PendingApproval */
/** @typedef {import('../../types/wire').PendingInput} PendingInput */
/** @typedef {import('../../types/wire').ServiceInfo} ServiceInfo */

/**
 * @typedef {object} AccountState
 * @property {SessionView[]} sessions Newest activity first.
 * @property {string | null} nextCursor Where older sessions begin.
 * @property {PendingApproval[]} approvals What the caller may answer, by expiry.
 * @property {PendingInput[]} inputs Questions of servers that the caller may answer, by expiry.
 * @property {ServiceInfo} info
 * @property {boolean} reachable Whether the last question was answered.
 */

/** Changes that come together are read together. */
const GATHER_MS = 120;
/** The service says nothing of its MCP servers in the stream. */
const INFO_PERIOD_MS = 30000;
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 8000;
/** A stream that is silent for so long is broken: the service sends a sign of life every 15 s. */
const SILENCE_MS = 40000;
const PAGE_SIZE = 60;

/**
 * Watches the account until it is stopped.
 *
 * @param {(change: Partial<AccountState>) => void} onChange
 * @returns {{refresh: () => Promise<boolean>, stop: () => void}} `refresh` asks at once, and says whether there was an answer.
 */
export function watchAccount(onChange) {
  let stopped = false;
  let timer = 0;
  let wait = FIRST_WAIT_MS;
  /** @type {AbortController | undefined} */
  let stream;

  const refresh = async () => {
    clearTimeout(timer);
    timer = 0;
    try {
      const [list, pending, asked, info] = await Promise.all([
        callApi('GET', `sessions?limit=${PAGE_SIZE}`),
        callApi('GET', 'approvals'),
        callApi('GET', 'inputs'),
        callApi('GET', 'info'),
      ]);
      if (!stopped) {
        const {sessions, next_cursor: nextCursor = null} = list;
        onChange({sessions, nextCursor, approvals: pending.approvals, inputs: asked.inputs, info, reachable: true});
      }
      return true;
    } catch (problem) {
      // Without credentials there is no point in asking again.
      if (!stopped && problem.status !== 401) onChange({reachable: false});
      return false;
    }
  };
  const gather = () => {
    if (!timer && !stopped) timer = setTimeout(refresh, GATHER_MS);
  };

  const follow = async () => {
    const attempt = new AbortController();
    stream = attempt;
    try {
      await readStream(attempt, () => {
        wait = FIRST_WAIT_MS;
        gather();
      });
    } catch (problem) {
      if (problem.status === 401) {
        // The request below reports it.
        await refresh();
        return;
      }
    }
    if (stopped || stream !== attempt) return;
    const answered = await refresh();
    setTimeout(() => {
      if (!stopped && stream === attempt) follow();
    }, answered ? FIRST_WAIT_MS : wait);
    wait = Math.min(wait * 2, MAX_WAIT_MS);
  };
  const restart = () => {
    stream?.abort();
    if (!stopped) follow();
  };
  const period = setInterval(() => {
    if (!document.hidden) gather();
  }, INFO_PERIOD_MS);
  addEventListener('online', restart);
  refresh();
  follow();
  return {
    refresh,
    stop() {
      stopped = true;
      stream?.abort();
      clearTimeout(timer);
      clearInterval(period);
      removeEventListener('online', restart);
    },
  };
}

/**
 * Reads the stream of the account until it ends.
 *
 * @param {AbortController} attempt
 * @param {() => void} onFrame
 */
async function readStream(attempt, onFrame) {
  /** @type {Record<string, string>} */
  const headers = {accept: 'application/x-ndjson'};
  if (readToken()) headers.authorization = `Bearer ${readToken()}`;
  const response = await fetch(apiUrl('events?follow=true'), {headers, signal: attempt.signal});
  if (!response.ok || !response.body) throw Object.assign(new Error('no stream'), {status: response.status});
  const reader = response.body.getReader();
  let silence = setTimeout(() => attempt.abort(), SILENCE_MS);
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => attempt.abort(), SILENCE_MS);
      if (decoder.decode(value, {stream: true}).trim()) onFrame();
    }
  } finally {
    clearTimeout(silence);
  }
}

/**
 * @param {string} cursor
 * @returns {Promise<{sessions: SessionView[], nextCursor: string | null}>} The next page of older sessions.
 */
export async function loadOlderSessions(cursor) {
  const list = await callApi('GET', `sessions?limit=${PAGE_SIZE}&cursor=${encodeURIComponent(cursor)}`);
  return {sessions: list.sessions, nextCursor: list.next_cursor ?? null};
}

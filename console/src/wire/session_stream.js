/**
 * The stream of one session: a WebSocket that reconnects and continues after the last logged event that it has seen.
 */

import {apiUrl, callApi} from './api.js';
import {serviceNow} from './clock.js';
import {readToken} from './credentials.js';

/** @typedef {import('../../types/wire').Frame} Frame */

/**
 * The state of the connection. `waiting` has the time of the next attempt, `ended` the reason.
 *
 * @typedef {{kind: 'connecting' | 'live' | 'offline'} | {kind: 'waiting', until: number} | {kind: 'ended', reason: string}}
 *   ConnectionState
 */

const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 8000;
/** A page that is not visible gets no animation frames. */
const HIDDEN_BATCH_MS = 100;

/**
 * @param {string} sessionId
 * @param {{onFrames: (frames: Frame[]) => void, onState: (state: ConnectionState) => void}} handlers
 * @returns {{close: () => void}}
 */
export function openSessionStream(sessionId, {onFrames, onState}) {
  const stream = {cursor: 0, wait: FIRST_WAIT_MS, closed: false, withSnapshot: false};
  /** @type {Frame[]} */
  let batch = [];
  /** @type {WebSocket | undefined} */
  let socket;
  let timer = 0;

  const deliver = () => {
    const frames = batch;
    batch = [];
    if (!stream.closed && frames.length) onFrames(frames);
  };

  /** @param {Frame} frame */
  const receive = (frame) => {
    if (frame.type === 'ack' || frame.type === 'error') return;
    if (frame.type === 'hello' && stream.cursor === 0 && frame.oldest_seq > 1 && !stream.withSnapshot) {
      // The store keeps only the newest events of this session. What was before them is in the snapshot.
      stream.withSnapshot = true;
      socket?.close();
      return;
    }
    if ('seq' in frame && typeof frame.seq === 'number') stream.cursor = frame.seq;
    if (frame.type === 'snapshot') stream.cursor = frame.as_of_seq;
    if (batch.push(frame) === 1) {
      if (document.hidden) setTimeout(deliver, HIDDEN_BATCH_MS);
      else requestAnimationFrame(deliver);
    }
  };

  const connect = () => {
    onState({kind: 'connecting'});
    const url = apiUrl(`sessions/${sessionId}/ws`);
    url.protocol = url.protocol.replace('http', 'ws');
    url.searchParams.set('after', String(stream.cursor));
    if (stream.withSnapshot && stream.cursor === 0) url.searchParams.set('snapshot', 'true');
    const token = readToken();
    const opened = new WebSocket(url, token ? ['k8sops.v1', `bearer.${token}`] : ['k8sops.v1']);
    socket = opened;
    opened.onopen = () => {
      stream.wait = FIRST_WAIT_MS;
      onState({kind: 'live'});
    };
    opened.onmessage = (message) => receive(JSON.parse(message.data));
    opened.onclose = () => {
      if (!stream.closed && socket === opened) reconnect();
    };
  };

  const reconnect = async () => {
    if (!navigator.onLine) return onState({kind: 'offline'});
    const wait = stream.wait * (0.7 + Math.random() * 0.6);
    stream.wait = Math.min(stream.wait * 2, MAX_WAIT_MS);
    onState({kind: 'waiting', until: serviceNow() + wait});
    timer = setTimeout(async () => {
      const reason = await findEnd(sessionId);
      if (stream.closed) return;
      if (reason) onState({kind: 'ended', reason});
      else connect();
    }, wait);
  };

  const resume = () => {
    clearTimeout(timer);
    socket?.close();
    connect();
  };
  const pause = () => onState({kind: 'offline'});
  addEventListener('online', resume);
  addEventListener('offline', pause);
  connect();
  return {
    close() {
      stream.closed = true;
      clearTimeout(timer);
      removeEventListener('online', resume);
      removeEventListener('offline', pause);
      socket?.close();
    },
  };
}

/**
 * A page cannot see why a WebSocket was refused. The same question over HTTP tells.
 *
 * @param {string} sessionId
 * @returns {Promise<string>} Why there is no point in another attempt, or an empty text.
 */
async function findEnd(sessionId) {
  try {
    await callApi('GET', `sessions/${sessionId}`);
    return '';
  } catch (problem) {
    if (problem.status === 401) return 'You are signed out';
    if (problem.code === 'session_damaged') return problem.message;
    return problem.status === 400 || problem.status === 404 ? 'This session does not exist any more' : '';
  }
}

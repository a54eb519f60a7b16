/** Requests to the API. An answer that is an error becomes an `ApiProblem`. */

import {readClock} from './clock.js';
import {readToken} from './credentials.js';

/** How often a command that reached no service, or one that is not ready, is sent again. */
const MAX_RETRIES = 5;
const FIRST_RETRY_MS = 400;

/** An error of the API, or of the connection to it (`code` is `unreachable`). */
export class ApiProblem extends Error {
  /**
   * @param {{code?: string, title?: string, detail?: string}} body
   * @param {number} status
   * @param {string} challenge The header `WWW-Authenticate`.
   */
  constructor(body, status, challenge = '') {
    super(body.detail ?? body.title ?? `The service answered with status ${status}.`);
    this.code = body.code ?? 'internal';
    this.status = status;
    this.challenge = challenge;
  }
}

/** @type {(problem: ApiProblem) => void} */
let reportUnauthenticated = () => {};

/**
 * Sets what happens when the service does not accept the credentials.
 *
 * @param {(problem: ApiProblem) => void} handler
 */
export function onUnauthenticated(handler) {
  reportUnauthenticated = handler;
}

/**
 * The address of a path of the API, also behind a proxy that serves it below a prefix.
 *
 * @param {string} path Without the leading `/v1/`.
 * @returns {URL}
 */
export function apiUrl(path) {
  return new URL(`v1/${path}`, document.baseURI);
}

/**
 * @typedef {object} RequestOptions
 * @property {unknown} [body] Sent as JSON.
 * @property {string} [commandId] Makes a command safe to send again.
 * @property {boolean} [keepalive] The request outlives the page.
 */

/**
 * @template [T=any]
 * @param {string} method
 * @param {string} path
 * @param {RequestOptions} [options]
 * @returns {Promise<T>} The body of the answer.
 */
export async function callApi(method, path, {body, commandId, keepalive} = {}) {
  /** @type {Record<string, string>} */
  const headers = {accept: 'application/json'};
  if (readToken()) headers.authorization = `Bearer ${readToken()}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (commandId) headers['idempotency-key'] = commandId;
  // The API never redirects.
  const sent = fetch(apiUrl(path), {method, headers, keepalive, redirect: 'manual', body: body === undefined ? undefined : JSON.stringify(body)});
  const response = await sent.catch(() => {
    throw new ApiProblem({code: 'unreachable', detail: 'The service cannot be reached.'}, 0);
  });
  readClock(response);
  if (response.status === 204) return /** @type {T} */ (null);
  const text = await response.text();
  const isPage = response.headers.get('content-type')?.startsWith('text/html');
  if (response.ok && !isPage) return JSON.parse(text);
  // A page is the answer of a proxy, which wants the caller to sign in there.
  const asksToSignIn = response.type === 'opaqueredirect' || (isPage && (response.ok || response.status === 401));
  const problem = asksToSignIn
    ? new ApiProblem({code: 'unauthenticated', detail: 'it asks you to sign in again.'}, 401, 'Proxy')
    : new ApiProblem(parseObject(text), response.status, response.headers.get('www-authenticate') ?? '');
  if (problem.status === 401) reportUnauthenticated(problem);
  throw problem;
}

/**
 * Downloads a file of the API under the name that the answer gives it.
 *
 * @param {string} path
 */
export async function downloadFile(path) {
  /** @type {Record<string, string>} */
  const headers = readToken() ? {authorization: `Bearer ${readToken()}`} : {};
  const response = await fetch(apiUrl(path), {headers});
  if (!response.ok) throw new ApiProblem(parseObject(await response.text()), response.status);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await response.blob());
  link.download = /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1] ?? 'report';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/**
 * Sends a command until the service accepts or rejects it. The same id goes with every attempt, so that it is executed once.
 *
 * @template [T=any]
 * @param {string} path
 * @param {unknown} body
 * @param {{method?: string, commandId?: string}} [options]
 * @returns {Promise<T>}
 */
export async function sendCommand(path, body, {method = 'POST', commandId = crypto.randomUUID()} = {}) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await callApi(method, path, {body, commandId});
    } catch (problem) {
      const isTemporary = problem.status === 0 || problem.status === 503;
      if (!isTemporary || attempt === MAX_RETRIES) throw problem;
      await new Promise((resolve) => setTimeout(resolve, FIRST_RETRY_MS * 2 ** attempt));
    }
  }
}

/**
 * Reads all of a text that the API returns in parts.
 *
 * @param {string} path
 * @param {(part: {content: string, total_bytes: number, missing_bytes?: number | null}) => void} onPart
 * @param {AbortSignal} signal Ends the reading early.
 */
export async function readParts(path, onPart, signal) {
  let offset = 0;
  while (!signal.aborted) {
    const part = await callApi('GET', `${path}?offset=${offset}&limit=262144`);
    if (signal.aborted) return;
    onPart(part);
    if (part.next_offset == null) return;
    offset = part.next_offset;
  }
}

/**
 * @param {string} text
 * @returns {object}
 */
function parseObject(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

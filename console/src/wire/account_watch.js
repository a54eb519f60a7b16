/**
 * What changes over all sessions of the caller: the list of sessions, and what waits for an answer.
 *
 * The service has no stream of an account yet, so this module asks again and again. It is the only one that does, so that a
 * stream can take its place.
 */

import {callApi} from './api.js';

/** @typedef {import('../../types/wire').SessionView} SessionView */
/** @typedef {import('../../types/wire').PendingApproval} PendingApproval */
/** @typedef {import('../../types/wire').ServiceInfo} ServiceInfo */

/**
 * @typedef {object} AccountState
 * @property {SessionView[]} sessions Newest activity first.
 * @property {string | null} nextCursor Where older sessions begin.
 * @property {PendingApproval[]} approvals What the caller may answer, by expiry.
 * @property {ServiceInfo} info
 * @property {boolean} reachable Whether the last question was answered.
 */

const PERIOD_MS = 2500;
const HIDDEN_PERIOD_MS = 10000;
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
  const refresh = async () => {
    clearTimeout(timer);
    let answered = false;
    try {
      const [list, pending, info] = await Promise.all([
        callApi('GET', `sessions?limit=${PAGE_SIZE}`),
        callApi('GET', 'approvals'),
        callApi('GET', 'info'),
      ]);
      if (!stopped) {
        onChange({
          sessions: list.sessions,
          nextCursor: list.next_cursor ?? null,
          approvals: pending.approvals,
          info,
          reachable: true,
        });
      }
      answered = true;
    } catch (problem) {
      // Without credentials there is no point in asking again.
      if (problem.status === 401) return false;
      if (!stopped) onChange({reachable: false});
    }
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(refresh, document.hidden ? HIDDEN_PERIOD_MS : PERIOD_MS);
    return answered;
  };
  const onVisible = () => {
    if (!document.hidden) refresh();
  };
  document.addEventListener('visibilitychange', onVisible);
  refresh();
  return {
    refresh,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', onVisible);
    },
  };
}

/**
 * @param {string} cursor
 * @returns {Promise<{sessions: SessionView[], nextCursor: string | null}>} The next page of older sessions.
 */
export async function loadOlderSessions(cursor) {
  const list = await callApi('GET', `sessions?limit=${PAGE_SIZE}&cursor=${encodeURIComponent(cursor)}`);
  return {sessions: list.sessions, nextCursor: list.next_cursor ?? null};
}

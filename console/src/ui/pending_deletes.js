/** Deletes a session some seconds after it was asked for, so that it can be undone. */

import {useEffect, useRef, useState} from '../../vendor/preact.js';
import {callApi} from '../wire/api.js';

const UNDO_MS = 7000;

/**
 * @param {(text: string, action: {label: string, run: () => void}) => void} showToast
 * @param {(problem: any) => void} showProblem
 * @param {() => void} refresh
 * @returns {{ids: Set<string>, begin: (sessionId: string, title: string) => void}} `ids` are the sessions that are not shown.
 */
export function usePendingDeletes(showToast, showProblem, refresh) {
  const [ids, setIds] = useState(/** @type {Set<string>} */ (new Set()));
  const timers = useRef(/** @type {Map<string, number>} */ (new Map()));
  const unhide = (/** @type {string} */ sessionId) => setIds((old) => new Set([...old].filter((id) => id !== sessionId)));

  // A page that is closed does not undo any more.
  useEffect(() => {
    const flush = () => timers.current.forEach((_, sessionId) => callApi('DELETE', `sessions/${sessionId}`, {keepalive: true}).catch(() => {}));
    addEventListener('pagehide', flush);
    return () => removeEventListener('pagehide', flush);
  }, []);

  const begin = (/** @type {string} */ sessionId, /** @type {string} */ title) => {
    setIds((old) => new Set([...old, sessionId]));
    const timer = setTimeout(async () => {
      timers.current.delete(sessionId);
      await callApi('DELETE', `sessions/${sessionId}`).catch((problem) => {
        unhide(sessionId);
        showProblem(problem);
      });
      refresh();
    }, UNDO_MS);
    timers.current.set(sessionId, timer);
    showToast(`Deleted “${title}”`, {
      label: 'Undo',
      run() {
        clearTimeout(timers.current.get(sessionId));
        timers.current.delete(sessionId);
        unhide(sessionId);
      },
    });
  };
  return {ids, begin};
}

/** The view that the address names. It is in the fragment, which no server sees. */

import {useLayoutEffect, useState} from '../../vendor/preact.js';

/** @typedef {{view: string, sessionId: string}} Route */

/** @returns {Route} */
function readRoute() {
  const [, view = '', id = ''] = location.hash.split('/');
  // What is no id is none of a session, and no part of a path.
  return {view: view || 'new', sessionId: /^[\w-]*$/.test(id) ? id : 'unknown'};
}

/** @returns {Route} */
export function useRoute() {
  const [route, setRoute] = useState(readRoute);
  // Listens in the task that read the address: an effect runs later, and what changed in between would never be seen.
  useLayoutEffect(() => {
    const onChange = () => setRoute(readRoute());
    addEventListener('hashchange', onChange);
    return () => removeEventListener('hashchange', onChange);
  }, []);
  return route;
}

/** @param {string} path Such as `sessions/ID` or `inbox`. */
export function goTo(path) {
  location.hash = `#/${path}`;
}

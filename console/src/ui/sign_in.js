/** What is shown when the service does not know who the caller is. */

import {html, useState} from '../../vendor/preact.js';
import {callApi} from '../wire/api.js';
import {storeToken} from '../wire/credentials.js';
import {ProblemLine} from './elements.js';
import {Mark} from './icons.js';

/** @param {{problem: import('../wire/api.js').ApiProblem, onSignedIn: () => void}} props */
export function SignIn({problem, onSignedIn}) {
  const [token, setToken] = useState('');
  const [stay, setStay] = useState(true);
  const [found, setFound] = useState(/** @type {any} */ (problem.challenge.includes('invalid_token') ? problem : null));
  const [busy, setBusy] = useState(false);
  // A proxy that identifies callers has a page of its own to sign in.
  const byProxy = problem.challenge.startsWith('Proxy');
  const signIn = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    storeToken(token.trim().replace(/^Bearer\s+/i, ''), stay ? 'tab' : 'memory');
    try {
      await callApi('GET', 'info');
      onSignedIn();
    } catch (rejected) {
      storeToken('', 'memory');
      setFound(rejected);
    }
    setBusy(false);
  };
  return html`<main class="sign-in" id="main">
    <${Mark} />
    <h1>${byProxy ? 'You are not signed in' : 'Sign in to k8sops'}</h1>
    ${byProxy
      ? html`<p>This service trusts a proxy to say who you are, and the proxy did not: ${problem.message}</p>
          <p>Sign in there again. The text that you were writing stays on this tab.</p>
          <button type="button" class="button primary" onClick=${() => location.reload()}>Try again</button>`
      : html`<form class="form" onSubmit=${signIn}>
          <label class="field"><span>API key or token</span>
            <input type="password" name="token" autocomplete="current-password" required spellcheck="false" value=${token}
              onInput=${(/** @type {any} */ event) => setToken(event.target.value)} />
            <small>An API key begins with <code>k8sops_</code>; an administrator makes one with <code>k8sops key</code>. An OIDC token of your identity provider works where the service is set up for it.</small>
          </label>
          <label class="check"><input type="checkbox" checked=${stay}
            onChange=${(/** @type {any} */ event) => setStay(event.target.checked)} /> <span>Stay signed in on this tab<small>Otherwise a reload of the page signs out. Other tabs never see the key.</small></span></label>
          <${ProblemLine} problem=${found} />
          <button class="button primary" disabled=${busy || !token.trim()}>Sign in</button>
        </form>`}
  </main>`;
}

/** Takes a session elsewhere: its report as a file, and links by which others read it. */

import {html, useState} from '../../vendor/preact.js';
import {callApi, downloadFile} from '../wire/api.js';
import {CopyButton, ModalDialog, ProblemLine, useLoaded} from './elements.js';

const FORMATS = {md: 'Markdown', html: 'HTML', json: 'JSON'};
const LIFETIMES = {24: '1 day', 168: '7 days', 720: '30 days'};

/** @param {{sessionId: string, onClose: () => void}} props */
export function ShareDialog({sessionId, onClose}) {
  const path = `sessions/${sessionId}/shares`;
  const [changes, setChanges] = useState(0);
  const [hours, setHours] = useState(168);
  const [link, setLink] = useState('');
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const shares = useLoaded(() => /** @type {Promise<import('../../types/wire').ShareList>} */ (callApi('GET', path)), [changes]);
  const attempt = (/** @type {() => Promise<void>} */ work) => () => work().catch(setProblem);
  const share = attempt(async () => {
    const created = await callApi('POST', path, {body: {expires_in_hours: hours}});
    setLink(new URL(created.path.slice(1), document.baseURI).href);
    setChanges(changes + 1);
  });
  const revoke = (/** @type {string} */ id) => attempt(async () => {
    await callApi('DELETE', `${path}/${id}`);
    setLink('');
    setChanges(changes + 1);
  });
  return html`<${ModalDialog} title="Export and share" onClose=${onClose}>
    <div class="form">
      <p class="muted">The report has the conversation, the changes with who approved them, and the outputs as evidence.</p>
      <div class="buttons">
        ${Object.entries(FORMATS).map(([format, name]) => html`<button type="button" class="button"
          onClick=${attempt(() => downloadFile(`sessions/${sessionId}/export?format=${format}`))}>${name}</button>`)}
      </div>
      <label class="field"><span>A link, by which others read this session without a key, for</span>
        <select value=${hours} onChange=${(/** @type {any} */ event) => setHours(Number(event.target.value))}>
          ${Object.entries(LIFETIMES).map(([value, name]) => html`<option value=${value}>${name}</option>`)}
        </select></label>
      <div class="buttons"><button type="button" class="button primary" onClick=${share}>Create a link</button></div>
      ${link && html`<p class="share-link"><input readonly aria-label="The link, which is shown once" value=${link} />
        <${CopyButton} text=${link} label="Copy the link" /></p>`}
      <${ProblemLine} problem=${problem ?? shares.problem} />
      ${(shares.value?.shares ?? []).map((known) => html`<p key=${known.share_id}>Link of ${known.by.replace('user:', '')},
        until ${new Date(known.expires_at).toLocaleString()}
        ${' '}<button type="button" class="link" onClick=${revoke(known.share_id)}>Revoke</button></p>`)}
    </div>
  <//>`;
}

/** A question of an MCP server: a form, or a page to open. */

import {html, useMemo, useState} from '../../vendor/preact.js';
import {formatRemaining} from '../view/format.js';
import {listFields, readAnswer} from '../view/schema_form.js';
import {personName} from '../view/timeline.js';
import {showInvisible} from '../view/visible_text.js';
import {sendCommand} from '../wire/api.js';
import {useFormDraft} from './drafts.js';
import {ProblemLine, useClock} from './elements.js';
import {Icon} from './icons.js';

/** @typedef {import('../../types/view').InputItem} InputItem */
/** @typedef {import('../view/schema_form.js').FormField} FormField */

/** @type {Record<string, any>} The values of the fields by their names. */
const NOTHING_ENTERED = {};

/** @param {{item: InputItem, sessionId: string, owner: string}} props */
export function InputCard({item, sessionId, owner}) {
  const {request, resolution} = item;
  const now = useClock(1000);
  if (resolution) {
    const words = {accept: 'Answered', decline: 'Declined', cancel: 'Cancelled'};
    return html`<div id=${item.key} class="notice" tabindex="-1"><${Icon} name="question" />
      <p><strong>${words[resolution.action]} by ${personName(resolution.by, owner)}</strong>: ${showInvisible(request.message)}</p></div>`;
  }
  return html`<article id=${item.key} class="approval-card question" tabindex="-1" aria-label="Question of ${request.server}">
    <header class="approval-head">
      <span class="approval-icon"><${Icon} name="question" /></span>
      <div class="approval-title">
        <p class="approval-kicker">The server ${request.server} asks</p>
        <h2>${showInvisible(request.message)}</h2>
      </div>
      <time class="approval-expiry" datetime=${request.expires_at}>expires ${formatRemaining(request.expires_at, now)}</time>
    </header>
    <${InputAnswer} request=${request} sessionId=${sessionId} />
  </article>`;
}

/** @param {{request: import('../../types/wire').InputRequest, sessionId: string}} props */
function InputAnswer({request, sessionId}) {
  const fields = useMemo(() => listFields(request.schema), [request.input_id]);
  const [values, change, forget] = useFormDraft(`input.${request.input_id}`, NOTHING_ENTERED);
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const answer = async (/** @type {'accept' | 'decline' | 'cancel'} */ action) => {
    setBusy(true);
    setProblem(null);
    const content = action === 'accept' && request.schema ? {content: readAnswer(fields, values)} : {};
    await sendCommand(`sessions/${sessionId}/inputs/${request.input_id}`, {action, ...content}).then(forget, setProblem);
    setBusy(false);
  };
  const submit = (/** @type {Event} */ event) => {
    event.preventDefault();
    answer('accept');
  };
  return html`<form class="approval-answer" onSubmit=${submit}>
    <p class="muted">The question is the server's, not that of k8sops. Do not enter passwords or keys.</p>
    ${request.url && html`<p class="field"><span>Open this page, then confirm:</span>
      ${/^https?:/i.test(request.url) ? html`<a
        href=${request.url} target="_blank" rel="noopener noreferrer">${request.url}</a>` : html`<code>${request.url}</code>`}</p>`}
    ${fields.map((field) => html`<${FieldInput} key=${field.name} field=${field} value=${values[field.name] ?? field.initial}
      onChange=${(/** @type {any} */ value) => change({[field.name]: value})} />`)}
    <${ProblemLine} problem=${problem} />
    <div class="buttons">
      <button class="button approve" disabled=${busy}><${Icon} name="check" /> ${request.url ? 'Done' : 'Answer'}</button>
      <button type="button" class="button deny" disabled=${busy} onClick=${() => answer('decline')}>Decline</button>
      <button type="button" class="button quiet" disabled=${busy} onClick=${() => answer('cancel')}>Cancel</button>
    </div>
  </form>`;
}

/** @param {{field: FormField, value: any, onChange: (value: any) => void}} props */
function FieldInput({field, value, onChange}) {
  const help = field.help && html`<small>${showInvisible(field.help)}</small>`;
  const label = html`<span>${showInvisible(field.label)}${field.required ? '' : html` <em>optional</em>`}</span>`;
  const onInput = (/** @type {any} */ event) => onChange(event.target.value);
  if (field.kind === 'flag') {
    return html`<label class="check"><input type="checkbox" checked=${value}
      onChange=${(/** @type {any} */ event) => onChange(event.target.checked)} /> ${label}${help}</label>`;
  }
  if (field.kind === 'choices') {
    const toggle = (/** @type {string} */ option) => onChange(value.includes(option) ? value.filter((/** @type {string} */ v) => v !== option) : [...value, option]);
    return html`<fieldset class="field"><legend>${label}</legend>${help}
      ${field.options.map((option) => html`<label class="check"><input type="checkbox" checked=${value.includes(option.value)}
        onChange=${() => toggle(option.value)} /> ${option.label}</label>`)}
    </fieldset>`;
  }
  if (field.kind === 'choice') {
    return html`<label class="field">${label}${help}<select required=${field.required} value=${value} onChange=${onInput}>
      <option value="">${field.required ? 'Choose…' : 'No answer'}</option>
      ${field.options.map((option) => html`<option value=${option.value}>${option.label}</option>`)}
    </select></label>`;
  }
  if (field.kind === 'long') {
    return html`<label class="field">${label}${help}<textarea rows="4" required=${field.required} ...${field.limits} value=${value}
      onInput=${onInput} /></label>`;
  }
  const type = field.kind === 'text' ? field.inputType : 'number';
  return html`<label class="field">${label}${help}<input type=${type} required=${field.required} ...${field.limits} value=${value}
    onInput=${onInput} /></label>`;
}

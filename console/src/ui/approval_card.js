/** A change that waits for an answer: what it does, what it touches, who may answer, and until when. */

import {html, useMemo, useRef, useState} from '../../vendor/preact.js';
import {countOf, formatClock, formatRemaining} from '../view/format.js';
import {countChanges} from '../view/diff.js';
import {personName} from '../view/timeline.js';
import {showInvisible} from '../view/visible_text.js';
import {readYamlObject, writeYaml} from '../view/yaml.js';
import {sendCommand} from '../wire/api.js';
import {DiffView} from './diff_view.js';
import {useFormDraft} from './drafts.js';
import {ProblemLine, useClock} from './elements.js';
import {Icon} from './icons.js';
import {WholeText} from './tool_output.js';

/** @typedef {import('../../types/wire').ApprovalRequest} ApprovalRequest */
/** @typedef {import('../../types/view').ToolApproval} ToolApproval */
/** @typedef {{edited: string | null, denying: boolean, comment: string}} AnswerDraft */

/** @type {AnswerDraft} */
const NO_ANSWER = {edited: null, denying: false, comment: ''};

/**
 * @param {{request: ApprovalRequest, sessionId: string, context?: any, canAnswer: boolean, onAnswered?: () => void}} props
 *   `context` says whose session it is, where that is not clear.
 */
export function ApprovalCard({request, sessionId, context = null, canAnswer, onAnswered = () => {}}) {
  const now = useClock(1000);
  const [whole, setWhole] = useState(false);
  const heading = `approval-${request.approval_id}`;
  const path = `sessions/${sessionId}/approvals/${request.approval_id}`;
  const omitted = request.preview_detail?.lines_omitted ?? 0;
  const expires = new Date(request.expires_at);
  return html`<article id=${`a:${request.approval_id}`} class="approval-card" aria-labelledby=${heading} tabindex="-1">
    <header class="approval-head">
      <span class="approval-icon"><${Icon} name="shield" /></span>
      <div class="approval-title">
        <p class="approval-kicker">${canAnswer ? 'This change waits for your approval' : 'This change waits for approval'}</p>
        <h2 id=${heading}>${showInvisible(request.summary || `${request.name} changes the cluster`)}</h2>
      </div>
      <time class="approval-expiry" datetime=${request.expires_at} title=${expires.toLocaleString('en-GB')}>
        expires ${formatRemaining(request.expires_at, now)}
      </time>
    </header>
    ${context}
    <dl class="facts">
      <div><dt>Tool</dt><dd><code>${request.name}</code></dd></div>
      ${request.server && html`<div><dt>Server</dt><dd>${request.server}</dd></div>`}
      ${request.cluster && html`<div><dt>Cluster</dt><dd class="strong">${request.cluster}</dd></div>`}
      <div><dt>Class</dt><dd>${request.effect}: ${showInvisible(request.reason)}</dd></div>
      <div><dt>Answer by</dt><dd>${canAnswer ? 'you' : 'another person with the role approver'}, until ${formatClock(request.expires_at)}</dd></div>
    </dl>
    <${AffectedObjects} request=${request} />
    ${request.preview && html`<${Preview} request=${request} />`}
    ${omitted > 0 && html`<p class="approval-more">${countOf(omitted, 'line')} of the preview are left out here. <button type="button"
      class="link" onClick=${() => setWhole(true)}>Show all of it</button></p>`}
    ${whole && html`<${WholeText} title="What would change" path="${path}/preview"
      onClose=${() => setWhole(false)} show=${(/** @type {string} */ text) => html`<${DiffView} text=${text} />`} />`}
    ${canAnswer && html`<${ApprovalAnswer} request=${request} path=${path} onAnswered=${onAnswered} expired=${expires.getTime() <= now} />`}
  </article>`;
}

/** @param {{request: ApprovalRequest}} props */
function AffectedObjects({request}) {
  const objects = request.objects ?? [];
  const dependents = request.dependents ?? [];
  if (!objects.length && !dependents.length) return null;
  return html`<div class="objects">
    <h3>Affects</h3>
    <ul>
      ${objects.map((object) => html`<li><span class="badge">${object.verb}</span> <span
        class="object-kind">${object.kind}</span> <code>${object.namespace ? `${object.namespace}/` : ''}${showInvisible(object.name)}</code></li>`)}
      ${dependents.map((group) => html`<li><span
        class="badge change">also</span> ${group.count} ${group.what}${group.names.length ? html`: <code>${group.names.join(', ')}</code>` : ''}</li>`)}
    </ul>
  </div>`;
}

/** @param {{request: ApprovalRequest}} props */
function Preview({request}) {
  const text = request.preview ?? '';
  const isDiff = request.preview_detail?.kind === 'diff' || /^@@ -\d/m.test(text);
  if (!isDiff) {
    const name = request.preview_detail?.kind === 'dry_run' ? 'What a dry run prints' : 'What the call does';
    return html`<div class="code-block"><div class="code-head"><span>${name}</span></div><pre tabindex="0">${showInvisible(text)}</pre>
      </div>`;
  }
  const {added, removed} = countChanges(text);
  return html`<div class="preview">
    <h3>What would change ${added > 0 && html`<span class="count-added">+${added}</span>`} ${removed > 0 && html`<span
      class="count-removed">−${removed}</span>`}</h3>
    <${DiffView} text=${text} />
  </div>`;
}

/** @param {{request: ApprovalRequest, path: string, onAnswered: () => void, expired: boolean}} props */
function ApprovalAnswer({request, path, onAnswered, expired}) {
  const original = useMemo(() => writeYaml(request.arguments), [request.approval_id]);
  const [{edited, denying, comment}, change, forget] = useFormDraft(`approval.${request.approval_id}`, NO_ANSWER);
  const [showArguments, setShowArguments] = useState(!request.preview);
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const [busy, setBusy] = useState(false);
  const commands = useRef(new Map());
  const parsed = useMemo(() => (edited === null ? null : readYamlObject(edited)), [edited]);
  const isChanged = parsed?.value && writeYaml(parsed.value) !== original;

  const answer = async (/** @type {'approve' | 'deny'} */ decision) => {
    const body = {
      decision,
      ...(comment.trim() && {comment: comment.trim()}),
      ...(decision === 'approve' && isChanged && {arguments: parsed?.value}),
    };
    // A second click, or one after a lost connection, is the same answer.
    const sameAnswer = JSON.stringify(body);
    if (!commands.current.has(sameAnswer)) commands.current.set(sameAnswer, crypto.randomUUID());
    setBusy(true);
    setProblem(null);
    try {
      await sendCommand(path, body, {commandId: commands.current.get(sameAnswer)});
      forget();
      onAnswered();
    } catch (found) {
      setProblem(found);
      if (found.code === 'approval_closed') {
        forget();
        onAnswered();
      }
    }
    setBusy(false);
  };
  return html`<form class="approval-answer" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    ${edited === null && html`<details class="arguments" open=${showArguments}
      onToggle=${(/** @type {any} */ event) => setShowArguments(event.currentTarget.open)}>
      <summary>Arguments</summary>
      <pre tabindex="0">${original}</pre>
    </details>`}
    ${edited !== null && html`<label class="field">
      <span>Arguments to run with, as YAML</span>
      <textarea class="mono" rows=${Math.min(16, edited.split('\n').length + 1)} spellcheck="false" ref=${focusOnce} value=${edited}
        aria-invalid=${Boolean(parsed?.error)}
        onInput=${(/** @type {any} */ event) => change({edited: event.target.value})} />
    </label>`}
    ${parsed?.error && html`<${ProblemLine} problem=${{message: parsed.error}} />`}
    ${(denying || edited !== null) && html`<label class="field">
      <span>${denying ? 'Why not? The model reads it.' : 'Comment (optional). The model reads it.'}</span>
      <input type="text" ref=${denying ? focusOnce : null} value=${comment} maxlength="1000"
        onInput=${(/** @type {any} */ event) => change({comment: event.target.value})} />
    </label>`}
    <${ProblemLine} problem=${problem} />
    <div class="buttons">
      ${!denying && html`<button type="button" class="button approve" disabled=${busy || expired || Boolean(parsed?.error)}
        onClick=${() => answer('approve')}>
        <${Icon} name="check" /> ${isChanged ? 'Approve as edited' : 'Approve'}
      </button>`}
      ${denying
        ? html`<button type="button" class="button deny solid" disabled=${busy || expired} onClick=${() => answer('deny')}>
          <${Icon} name="cross" /> Deny</button>`
        : html`<button type="button" class="button deny" disabled=${busy || expired} onClick=${() => change({denying: true})}>
          <${Icon} name="cross" /> Deny…</button>`}
      ${edited === null && !denying && html`<button type="button" class="button" disabled=${busy || expired}
        onClick=${() => change({edited: original})}><${Icon} name="edit" /> Edit</button>`}
      ${(edited !== null || denying) && html`<button type="button" class="button quiet" disabled=${busy} onClick=${() => {
        change({edited: null, denying: false});
        setProblem(null);
      }}>Back</button>`}
      ${expired && html`<span class="muted">The time to answer is over.</span>`}
    </div>
  </form>`;
}

/** @param {HTMLElement | null} element Gets the focus when it appears, at the press of the button that shows it. */
function focusOnce(element) {
  element?.focus();
  requestAnimationFrame(() => element?.closest('form')?.scrollIntoView({block: 'nearest'}));
}

/**
 * An approval that is answered.
 *
 * @param {{approval: ToolApproval, owner: string}} props
 */
export function ApprovalResult({approval, owner}) {
  const [open, setOpen] = useState(false);
  const {request, resolution} = approval;
  const decision = resolution?.decision ?? (approval.replaced ? 'replaced' : 'expired');
  const words = {approve: 'Approved', deny: 'Denied', expired: 'Expired', replaced: 'Asked again, because the objects had changed'};
  const by = resolution && resolution.decision !== 'expired' ? ` by ${personName(resolution.by, owner)}` : '';
  return html`<div id=${`a:${request.approval_id}`} class="approval-result ${decision}" tabindex="-1">
    <details open=${open} onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span class="tool-chevron"><${Icon} name="chevron" /></span>
        <span class="tool-mark ${decision}"><${Icon} name=${decision === 'approve' ? 'check' : 'cross'} /></span>
        <span class="approval-words"><strong>${words[decision]}${by}</strong>${resolution?.arguments ? ' with edited arguments' : ''}: ${showInvisible(request.summary || request.name)}</span>
        <time class="tool-facts">${formatClock(approval.resolvedAt ?? '')}</time>
      </summary>
      ${open && html`<div class="tool-body"><${AffectedObjects} request=${request} />${request.preview && html`<${Preview}
        request=${request} />`}</div>`}
    </details>
    ${resolution?.comment && html`<p class="approval-comment">“${showInvisible(resolution.comment)}”</p>`}
  </div>`;
}

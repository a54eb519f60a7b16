/** A call of a tool: what was called where, how it ended, and what it returned. */

import {html, useMemo, useState} from '../../vendor/preact.js';
import {formatBytes, formatDuration} from '../view/format.js';
import {changesCluster} from '../view/timeline.js';
import {showInvisible} from '../view/visible_text.js';
import {writeYaml} from '../view/yaml.js';
import {CopyButton} from './elements.js';
import {Icon} from './icons.js';
import {ToolOutput} from './tool_output.js';

/** @typedef {import('../../types/view').ToolItem} ToolItem */

const EFFECT_WORDS = {read: 'reads', idempotent: 'changes', mutating: 'changes'};
const STATUS_WORDS = {
  ok: 'done',
  error: 'error',
  denied: 'denied',
  cancelled: 'cancelled',
  timeout: 'timed out',
  unknown: 'outcome unknown',
};
const PHASE_WORDS = {planned: 'queued', waiting: 'waits for approval', running: 'running', ended: ''};

/** @param {{tool: ToolItem, sessionId: string}} props */
export function ToolCard({tool, sessionId}) {
  // A call that was not approved has changed nothing.
  const isChange = changesCluster(tool) && tool.status !== 'denied';
  const [open, setOpen] = useState(false);
  const state = tool.phase === 'ended' ? (tool.status ?? 'ok') : tool.phase;
  const facts = [
    tool.phase === 'ended' && tool.status !== 'denied' && formatDuration(tool.durationMs),
    tool.phase === 'ended' && tool.bytes > 0 && formatBytes(tool.bytes),
  ].filter(Boolean);
  return html`<div id=${tool.key} class="tool ${isChange ? 'change' : ''} ${state}" tabindex="-1">
    <details open=${open} onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
      <summary>
        <span class="tool-chevron"><${Icon} name="chevron" /></span>
        <${ToolStatusMark} tool=${tool} />
        <span class="tool-name">${tool.name}</span>
        <span class="tool-args">${summarizeArguments(tool.arguments)}</span>
        ${isChange && html`<span class="badge change">${EFFECT_WORDS[tool.effect ?? 'read']}</span>`}
        ${state !== 'ok' && html`<span class="tool-state ${state}">${tool.phase === 'ended' ? STATUS_WORDS[tool.status ?? 'ok'] : PHASE_WORDS[tool.phase]}</span>`}
        <span class="tool-facts">${facts.join(' · ')}</span>
      </summary>
      ${open && html`<${ToolBody} tool=${tool} sessionId=${sessionId} />`}
    </details>
    ${tool.progress && html`<${ToolProgressBar} progress=${tool.progress} />`}
  </div>`;
}

/** @param {{tool: ToolItem}} props */
function ToolStatusMark({tool}) {
  if (tool.phase !== 'ended') return html`<span class="tool-mark ${tool.phase}"><span class="spinner" /></span>`;
  if (tool.status === 'ok') return html`<span class="tool-mark ok"><${Icon} name="check" /></span>`;
  const icon = tool.status === 'unknown' || tool.status === 'timeout' ? 'question' : 'cross';
  return html`<span class="tool-mark ${tool.status}"><${Icon} name=${icon} /></span>`;
}

/** @param {{progress: NonNullable<ToolItem['progress']>}} props */
function ToolProgressBar({progress}) {
  const [value, total] = [progress.value, progress.total].map((number) => Math.round((number ?? 0) * 10) / 10);
  const words = progress.message || (progress.total ? `${value} of ${total}` : String(value));
  return html`<div class="tool-progress">
    ${progress.total ? html`<progress max=${progress.total} value=${progress.value} aria-label="Progress" />` : html`<progress
      aria-label="Progress" />`}
    <span>${words}</span>
  </div>`;
}

/** @param {{tool: ToolItem, sessionId: string}} props */
function ToolBody({tool, sessionId}) {
  const yaml = useMemo(() => writeYaml(tool.arguments), [tool.arguments]);
  const hasArguments = Object.keys(tool.arguments ?? {}).length > 0;
  return html`<div class="tool-body">
    <dl class="facts">
      ${tool.server && html`<div><dt>Server</dt><dd>${tool.server}</dd></div>`}
      ${tool.effect && html`<div><dt>Effect</dt><dd>${tool.effect}</dd></div>`}
      ${tool.attempt > 1 && html`<div><dt>Attempt</dt><dd>${tool.attempt}</dd></div>`}
      <div><dt>Started</dt><dd>${tool.startedAt ? new Date(tool.startedAt).toLocaleString('en-GB') : 'not sent'}</dd></div>
    </dl>
    ${hasArguments && html`<div class="code-block"><div class="code-head"><span>Arguments</span><${CopyButton} text=${yaml}
      label="Copy arguments" /></div><pre tabindex="0">${yaml}</pre></div>`}
    ${tool.phase === 'ended' && (tool.output ? html`<${ToolOutput} tool=${tool} sessionId=${sessionId} />` : html`<p
      class="muted">The call returned no text.</p>`)}
  </div>`;
}

/**
 * @param {any} values
 * @returns {string} Such as `shop/storefront · tail 20`.
 */
function summarizeArguments(values) {
  const {namespace, name, ...rest} = values ?? {};
  const object = [namespace, name].filter((part) => typeof part === 'string' && part).join('/');
  const others = Object.entries(rest).map(([key, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return key === 'kind' || key === 'command' ? text : `${key} ${text}`;
  });
  return showInvisible([object, ...others].filter(Boolean).join(' · ').replace(/\s+/g, ' ').slice(0, 200));
}

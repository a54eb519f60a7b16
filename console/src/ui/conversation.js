/** The conversation of a session. */

import {html, useMemo, useState} from '../../vendor/preact.js';
import {formatClock, formatDuration, formatMoney, formatTokens} from '../view/format.js';
import {groupItems} from '../view/groups.js';
import {showInvisible} from '../view/visible_text.js';
import {sendCommand} from '../wire/api.js';
import {ApprovalCard, ApprovalResult} from './approval_card.js';
import {Attachments} from './attachments.js';
import {CopyButton, IconButton, ProblemLine} from './elements.js';
import {Icon} from './icons.js';
import {InputCard} from './input_form.js';
import {Markdown} from './markdown.js';
import {ToolCard} from './tool_card.js';

const LONG_MESSAGE = 2000;
const LONG_MESSAGE_LINES = 20;

/** @typedef {import('../../types/view').ConversationItem} ConversationItem */
/** @typedef {import('../../types/view').ToolItem} ToolItem */
/** @typedef {import('../../types/view').AssistantItem} AssistantItem */
/** @typedef {import('../../types/view').NoticeItem} NoticeItem */

/**
 * @typedef {object} ConversationContext
 * @property {string} sessionId
 * @property {string} owner The user whose session it is.
 * @property {boolean} ownAnswers Whether the caller may answer the approvals of this session.
 * @property {(key: string) => void} onJump
 */

/** @param {{items: ConversationItem[], newFrom: number, context: ConversationContext}} props */
export function Conversation({items, newFrom, context}) {
  const groups = useMemo(() => groupItems(items, newFrom), [items, newFrom]);
  return groups.map((group) => {
    if (group.kind === 'marker') return html`<div key="marker" class="new-marker"><span>New since you were here</span></div>`;
    if (group.kind === 'tools') return html`<${ToolGroup} key=${group.key} tools=${group.tools} context=${context} />`;
    return html`<${SingleItem} key=${group.key} item=${group.item} context=${context} />`;
  });
}

/**
 * Draws an item only when it has changed.
 *
 * @param {{item: ConversationItem, context: ConversationContext}} props
 */
function SingleItem({item, context}) {
  return useMemo(() => drawItem(item, context), [item, context]);
}

/**
 * @param {ConversationItem} item
 * @param {ConversationContext} context
 */
function drawItem(item, context) {
  switch (item.kind) {
    case 'user':
      return html`<article id=${item.key} class="message user" tabindex="-1" aria-label="Your message">
        <${MessageText} text=${item.text} />
        <${Attachments} attachments=${item.attachments} sessionId=${context.sessionId} />
        <time class="message-time" datetime=${item.ts}>${formatClock(item.ts)}</time>
      </article>`;
    case 'assistant':
      return html`<${AssistantMessage} item=${item} context=${context} />`;
    case 'tool':
      return html`<${ToolWithApprovals} tool=${item} context=${context} />`;
    case 'input':
      return html`<${InputCard} item=${item} sessionId=${context.sessionId} owner=${context.owner} />`;
    case 'end':
      return html`<${RunEnd} item=${item} />`;
    case 'notice':
      return html`<${NoticeLine} item=${item} />`;
  }
}

/** @param {{text: string}} props A long text, such as a pasted log, scrolls by itself. */
export function MessageText({text}) {
  const isLong = text.length > LONG_MESSAGE || text.split('\n').length > LONG_MESSAGE_LINES;
  return html`<div class="message-text ${isLong ? 'long' : ''}" tabindex=${isLong ? 0 : undefined}>${showInvisible(text)}</div>`;
}

/** @param {{tools: ToolItem[], context: ConversationContext}} props */
function ToolGroup({tools, context}) {
  return html`<div class="tools">${tools.map((tool) => html`<${SingleTool} key=${tool.key} tool=${tool} context=${context} />`)}</div>`;
}

/** @param {{tool: ToolItem, context: ConversationContext}} props */
function SingleTool({tool, context}) {
  return useMemo(() => html`<${ToolCard} tool=${tool} sessionId=${context.sessionId} />`, [tool, context]);
}

/** @param {{tool: ToolItem, context: ConversationContext}} props */
function ToolWithApprovals({tool, context}) {
  const open = tool.phase === 'waiting' ? tool.approvals.at(-1) : undefined;
  const answered = tool.approvals.filter((approval) => approval !== open);
  const showsCall = tool.phase === 'running' || tool.phase === 'ended';
  return html`<div class="tools change-group">
    ${answered.map((approval) => html`<${ApprovalResult} key=${approval.request.approval_id} approval=${approval}
      owner=${context.owner} />`)}
    ${open && html`<${ApprovalCard} key=${open.request.approval_id} request=${open.request} sessionId=${context.sessionId}
      canAnswer=${context.ownAnswers} />`}
    ${showsCall && html`<${ToolCard} tool=${tool} sessionId=${context.sessionId} />`}
  </div>`;
}

/** @param {{item: AssistantItem, context: ConversationContext}} props */
function AssistantMessage({item, context}) {
  const [thinks, setThinks] = useState(false);
  if (!item.text && !item.reasoning) return null;
  const isThinking = item.streaming && !item.text;
  return html`<article id=${item.key} class="message assistant ${item.streaming ? 'streaming' : ''}" tabindex="-1" aria-label="Answer"
    aria-busy=${item.streaming}>
    ${item.reasoning && html`<details class="reasoning" open=${thinks}
      onToggle=${(/** @type {any} */ event) => setThinks(event.currentTarget.open)}>
      <summary><span class="tool-chevron"><${Icon} name="chevron" /></span> ${isThinking ? 'Thinking…' : 'Reasoning'}</summary>
      ${thinks && html`<${Markdown} text=${item.reasoning} />`}
    </details>`}
    ${item.text && html`<${Markdown} text=${item.text} />`}
    ${item.citations.length > 0 && html`<p class="citations">Evidence
      ${item.citations.map((citation) => html`<button type="button" class="chip"
        onClick=${() => context.onJump(`t:${citation.tool_call_id}`)}>[${citation.n}]</button>`)}</p>`}
    ${!item.streaming && item.text && item.stopReason !== 'tool_use' && html`<${AnswerTools} item=${item} sessionId=${context.sessionId} />`}
  </article>`;
}

/** @param {{item: AssistantItem, sessionId: string}} props */
function AnswerTools({item, sessionId}) {
  const [asks, setAsks] = useState(false);
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const rate = (/** @type {'up' | 'down'} */ rating, comment = '') => {
    setAsks(rating === 'down' && !comment);
    sendCommand(`sessions/${sessionId}/messages/${item.key.slice(2)}/feedback`, {rating, comment}).then(() => setProblem(null), setProblem);
  };
  const explain = (/** @type {any} */ event) => {
    event.preventDefault();
    const comment = event.target.elements.comment.value.trim();
    if (comment) rate('down', comment);
    else setAsks(false);
  };
  return html`<div class="message-tools ${item.rating ? 'rated' : ''}"><${CopyButton} text=${item.text} label="Copy answer" />
      <${IconButton} icon="good" label="This helped" pressed=${item.rating === 'up'} onClick=${() => rate('up')} />
      <${IconButton} icon="bad" label="This did not help" pressed=${item.rating === 'down'} onClick=${() => rate('down')} /></div>
    ${asks && html`<form class="feedback" onSubmit=${explain}><input name="comment" maxlength="2000" aria-label="What is wrong with this answer?"
      placeholder="What is wrong with it?" /> <button class="button">Send</button></form>`}
    <${ProblemLine} problem=${problem} />`;
}

/** @param {{item: import('../../types/view').RunEndItem}} props */
function RunEnd({item}) {
  const {usage} = item;
  const tokens = usage.input_tokens || usage.output_tokens;
  const facts = [
    formatDuration(item.durationMs),
    tokens && `${formatTokens(usage.input_tokens ?? 0)} in, ${formatTokens(usage.output_tokens ?? 0)} out`,
    usage.cost_usd && formatMoney(usage.cost_usd),
  ].filter(Boolean);
  const words = {completed: 'Done', cancelled: 'Stopped', limit: 'Stopped at a limit'};
  const outcome = words[/** @type {keyof typeof words} */ (item.outcome)] ?? item.outcome;
  return html`<div id=${item.key} class="run-end ${item.outcome}" tabindex="-1"><span>${outcome} · ${facts.join(' · ')}</span></div>`;
}

const NOTICE_ICONS = {info: 'pulse', warning: 'warning', failure: 'cross', takeover: 'takeover', memory: 'memory'};

/** @param {{item: NoticeItem}} props */
function NoticeLine({item}) {
  const words = html`<span>${showInvisible(item.text)}${item.level === 'failure' && item.code ? html` <code>${item.code}</code>` : ''}</span>`;
  return html`<div id=${item.key} class="notice ${item.level}" tabindex="-1" role=${item.level === 'failure' ? 'alert' : undefined}>
    <${Icon} name=${NOTICE_ICONS[item.level]} />
    ${item.detail ? html`<details><summary>${words}</summary><${Markdown} text=${item.detail} /></details>` : html`<p>${words}</p>`}
  </div>`;
}

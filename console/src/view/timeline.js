/** The timeline of a session: what happened, in short, each entry with the place where it is shown in full. */

import {formatDuration} from './format.js';

/** @typedef {import('../../types/view').SessionState} SessionState */
/** @typedef {import('../../types/view').ConversationItem} ConversationItem */
/** @typedef {import('../../types/view').ToolItem} ToolItem */
/** @typedef {import('../../types/view').ToolApproval} ToolApproval */
/** @typedef {import('../../types/view').TimelineEntry} TimelineEntry */

const MAX_TITLE = 80;

/**
 * @param {ConversationItem[]} items
 * @param {string} owner The user whose session it is, and who sees it.
 * @returns {TimelineEntry[]} In the order of the conversation.
 */
export function listTimeline(items, owner) {
  /** @type {TimelineEntry[]} */
  const entries = [];
  for (const item of items) {
    const found = describe(item, owner);
    const last = entries.at(-1);
    if (found.length === 1 && found[0].kind === 'look' && last?.kind === 'look') {
      entries[entries.length - 1] = joinLooks(last, found[0]);
    } else {
      entries.push(...found);
    }
  }
  return entries;
}

/**
 * @param {ConversationItem} item
 * @param {string} owner
 * @returns {TimelineEntry[]}
 */
function describe(item, owner) {
  const entry = (/** @type {TimelineEntry['kind']} */ kind, /** @type {string} */ title, detail = '', ts = item.ts) => ({
    key: item.key,
    ts,
    kind,
    title: shorten(title),
    detail,
  });
  switch (item.kind) {
    case 'user':
      return [entry('message', item.text)];
    case 'tool':
      return describeTool(item, owner, entry);
    case 'input':
      return [entry('approval', `${item.request.server} asks: ${item.request.message}`, item.resolution?.action ?? 'waiting')];
    case 'end':
      if (item.outcome === 'completed') return [entry('end', 'Answered', formatDuration(item.durationMs))];
      return [entry('failure', item.outcome === 'cancelled' ? 'Stopped' : 'Limit reached', formatDuration(item.durationMs))];
    case 'notice':
      if (item.level === 'failure') return [entry('failure', item.text, item.code)];
      if (item.level === 'takeover') return [entry('takeover', item.text)];
      return [entry('note', item.text)];
    default:
      return [];
  }
}

/**
 * @param {ToolItem} tool
 * @param {string} owner
 * @param {(kind: TimelineEntry['kind'], title: string, detail?: string, ts?: string) => TimelineEntry} entry
 * @returns {TimelineEntry[]}
 */
function describeTool(tool, owner, entry) {
  const entries = tool.approvals.map((approval) => describeApproval(tool, approval, owner, entry));
  if (tool.phase !== 'running' && tool.phase !== 'ended') return entries;
  if (tool.status === 'denied' && entries.length) return entries;
  const detail = tool.phase === 'running' ? 'running' : formatDuration(tool.durationMs);
  const ts = tool.endedAt ?? tool.startedAt ?? tool.ts;
  if (tool.phase === 'ended' && tool.status !== 'ok') {
    entries.push(entry('failure', `${tool.name}: ${tool.status}`, detail, ts));
  } else if (changesCluster(tool)) {
    entries.push(entry('change', tool.approvals.at(-1)?.request.summary || tool.name, detail, ts));
  } else {
    entries.push(entry('look', tool.name, detail, ts));
  }
  return entries;
}

/**
 * @param {ToolItem} tool
 * @param {ToolApproval} approval
 * @param {string} owner
 * @param {(kind: TimelineEntry['kind'], title: string, detail?: string, ts?: string) => TimelineEntry} entry
 */
function describeApproval(tool, approval, owner, entry) {
  const what = approval.request.summary || tool.name;
  const {resolution} = approval;
  const key = `a:${approval.request.approval_id}`;
  if (!resolution) {
    return {...entry('approval', what, approval.replaced ? 'replaced' : 'waiting', approval.requestedAt), key};
  }
  const words = {approve: 'approved', deny: 'denied', expired: 'expired'};
  const by = resolution.decision === 'expired' ? '' : ` by ${personName(resolution.by, owner)}`;
  const ts = approval.resolvedAt ?? approval.requestedAt;
  return {...entry('approval', what, `${words[resolution.decision]}${by}`, ts), key};
}

/**
 * @param {TimelineEntry} first
 * @param {TimelineEntry} next
 * @returns {TimelineEntry} Looks in a row are one entry, with the number of them.
 */
function joinLooks(first, next) {
  const count = Number(/^(\d+) looks/.exec(first.detail)?.[1] ?? 1) + 1;
  const titles = [...new Set([...first.title.split(', '), next.title])];
  return {...first, title: shorten(titles.join(', ')), detail: `${count} looks`};
}

/**
 * @param {ToolItem} tool
 * @returns {boolean} Whether the call is one that changes something.
 */
export function changesCluster(tool) {
  return tool.effect === 'mutating' || tool.effect === 'idempotent';
}

/**
 * @param {string} by As in events, such as `user:anna`.
 * @param {string} owner
 * @returns {string} The name, or `you`.
 */
export function personName(by, owner) {
  const name = by.replace(/^user:/, '');
  return owner && name === owner ? 'you' : name;
}

/** @param {string} text */
function shorten(text) {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > MAX_TITLE ? `${line.slice(0, MAX_TITLE - 1)}…` : line;
}

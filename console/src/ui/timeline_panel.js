/** The timeline next to the conversation. */

import {html, useLayoutEffect, useMemo, useRef} from '../../vendor/preact.js';
import {formatClock} from '../view/format.js';
import {listTimeline} from '../view/timeline.js';
import {showInvisible} from '../view/visible_text.js';
import {IconButton} from './elements.js';
import {Icon} from './icons.js';

/** @typedef {import('../../types/view').ConversationItem} ConversationItem */

/** How near to the end a reader counts as following it, in pixels. */
const FOLLOW_DISTANCE = 80;

const ICONS = {
  message: 'message',
  look: 'eye',
  change: 'edit',
  approval: 'shield',
  failure: 'cross',
  takeover: 'takeover',
  note: 'pulse',
  end: 'check',
};
const WORDS = {
  message: 'Message',
  look: 'Look',
  change: 'Change',
  approval: 'Approval',
  failure: 'Failure',
  takeover: 'Takeover',
  note: 'Note',
  end: 'End',
};

/** @param {{items: ConversationItem[], owner: string, onJump: (key: string) => void, onClose: () => void}} props */
export function TimelinePanel({items, owner, onJump, onClose}) {
  const entries = useMemo(() => listTimeline(items, owner), [items, owner]);
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const following = useRef(true);
  useLayoutEffect(() => {
    if (list.current && following.current) list.current.scrollTop = list.current.scrollHeight;
  }, [entries.length]);
  const onScroll = () => {
    const box = list.current;
    if (box) following.current = box.scrollHeight - box.scrollTop - box.clientHeight < FOLLOW_DISTANCE;
  };
  return html`<aside class="timeline" aria-label="Timeline">
    <header class="timeline-head"><h2>Timeline</h2><${IconButton} icon="close" label="Hide the timeline" onClick=${onClose} /></header>
    ${entries.length === 0 && html`<p class="muted">What happens in this session is listed here: messages, looks, changes, approvals and failures.</p>`}
    <ol tabindex="0" aria-label="Entries" ref=${list} onScroll=${onScroll}>
      ${entries.map((entry, at) => html`<li key=${`${entry.key}-${at}`} class="entry ${entry.kind} ${entry.detail.split(' ')[0]}">
        <button type="button" onClick=${() => onJump(entry.key)}>
          <span class="entry-icon"><${Icon} name=${ICONS[entry.kind]} /></span>
          <span class="entry-body">
            <span class="entry-title"><span class="hidden">${WORDS[entry.kind]}: </span>${showInvisible(entry.title)}</span>
            <span class="entry-facts"><time datetime=${entry.ts}>${formatClock(entry.ts)}</time>${entry.detail && html` · ${entry.detail}`}</span>
          </span>
        </button>
      </li>`)}
    </ol>
  </aside>`;
}

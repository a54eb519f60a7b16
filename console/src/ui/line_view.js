/** A long text, line by line: only what is in sight is drawn, so that millions of bytes can be read and searched. */

import {html, useEffect, useMemo, useRef, useState} from '../../vendor/preact.js';
import {showInvisible} from '../view/visible_text.js';
import {countOf} from '../view/format.js';
import {CopyButton, IconButton} from './elements.js';

const LINE_HEIGHT = 18;
/** Lines that are drawn above and below what is in sight. */
const MARGIN = 30;
/** A longer line continues on the next one. */
const MAX_LINE = 1000;
/** No browser draws higher elements reliably. */
const MAX_HEIGHT = 15_000_000;

/**
 * @param {string} text
 * @returns {string[]}
 */
function splitLines(text) {
  const lines = showInvisible(text).replace(/\n$/, '').split('\n');
  if (!lines.some((line) => line.length > MAX_LINE)) return lines;
  return lines.flatMap((line) => {
    if (line.length <= MAX_LINE) return [line];
    return Array.from({length: Math.ceil(line.length / MAX_LINE)}, (_, at) => line.slice(at * MAX_LINE, (at + 1) * MAX_LINE));
  });
}

/**
 * @param {{text: string, label: string, tall?: boolean, actions?: any}} props
 */
export function LineView({text, label, tall = false, actions = null}) {
  const lines = useMemo(() => splitLines(text), [text]);
  const [query, setQuery] = useState('');
  const [at, setAt] = useState(0);
  const [top, setTop] = useState(0);
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const found = useMemo(() => {
    const needle = query.toLowerCase();
    return needle ? lines.flatMap((line, number) => (line.toLowerCase().includes(needle) ? [number] : [])) : [];
  }, [lines, query]);
  const current = found.length ? found[at % found.length] : -1;

  useEffect(() => {
    if (current >= 0 && box.current) box.current.scrollTop = current * LINE_HEIGHT - box.current.clientHeight / 2;
  }, [current]);
  const step = (/** @type {number} */ by) => setAt((old) => (old + by + found.length) % Math.max(found.length, 1));
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    if (event.key === 'Enter') step(event.shiftKey ? -1 : 1);
    if (event.key === 'Escape' && query) {
      event.stopPropagation();
      event.preventDefault();
      setQuery('');
    }
  };

  const height = Math.min(lines.length * LINE_HEIGHT, MAX_HEIGHT);
  const visible = Math.ceil((box.current?.clientHeight ?? 400) / LINE_HEIGHT);
  const start = Math.max(0, Math.floor(top / LINE_HEIGHT) - MARGIN);
  const end = Math.min(lines.length, start + visible + 2 * MARGIN);
  const count = query ? (found.length ? `${(at % found.length) + 1} of ${found.length}` : 'no match') : countOf(lines.length, 'line');
  return html`<div class="lines">
    <div class="lines-bar">
      <input type="search" class="lines-search" placeholder="Search" aria-label="Search in ${label}" value=${query} onKeyDown=${onKey}
        onInput=${(/** @type {any} */ event) => {
          setQuery(event.target.value);
          setAt(0);
        }} />
      <span class="lines-count" role="status">${count}</span>
      ${query && html`<${IconButton} icon="up" label="Previous match" onClick=${() => step(-1)} />
        <${IconButton} icon="down" label="Next match" onClick=${() => step(1)} />`}
      <span class="grow" />
      ${actions}
      <${CopyButton} text=${text} label="Copy ${label}" />
    </div>
    <div class="lines-box ${tall ? 'tall' : ''}" ref=${box} tabindex="0" role="group" aria-label=${label}
      onScroll=${(/** @type {any} */ event) => setTop(event.target.scrollTop)}>
      <div class="lines-space" style=${{height: `${height}px`}}>
        <pre style=${{transform: `translateY(${start * LINE_HEIGHT}px)`}}>${lines.slice(start, end).map((line, number) => {
          const isCurrent = start + number === current;
          return html`<div key=${start + number} class=${isCurrent ? 'line current' : 'line'}>${query ? markMatches(line, query) : line}${'\n'}</div>`;
        })}</pre>
      </div>
    </div>
  </div>`;
}

/**
 * @param {string} line
 * @param {string} query
 */
function markMatches(line, query) {
  const parts = [];
  const low = line.toLowerCase();
  const needle = query.toLowerCase();
  let from = 0;
  for (let next = low.indexOf(needle); next >= 0 && parts.length < 200; next = low.indexOf(needle, from)) {
    parts.push(line.slice(from, next), html`<mark>${line.slice(next, next + needle.length)}</mark>`);
    from = next + needle.length;
  }
  return [...parts, line.slice(from)];
}

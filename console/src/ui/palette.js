/** The palette: every session, page and action by name. */

import {html, useMemo, useState} from '../../vendor/preact.js';
import {showInvisible} from '../view/visible_text.js';
import {ModalDialog} from './elements.js';
import {Icon} from './icons.js';

/** @typedef {{name: string, hint: string, icon: any, run: () => void}} PaletteEntry */

const MAX_SHOWN = 12;

/** @param {{entries: PaletteEntry[], onClose: () => void}} props */
export function Palette({entries, onClose}) {
  const [query, setQuery] = useState('');
  const [at, setAt] = useState(0);
  const shown = useMemo(() => {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    return entries.filter((entry) => words.every((word) => `${entry.name} ${entry.hint}`.toLowerCase().includes(word))).slice(0, MAX_SHOWN);
  }, [entries, query]);
  const run = (/** @type {PaletteEntry | undefined} */ entry) => {
    onClose();
    entry?.run();
  };
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (step) setAt((old) => (old + step + shown.length) % Math.max(shown.length, 1));
    else if (event.key === 'Enter') run(shown[at]);
    else return;
    event.preventDefault();
  };
  return html`<${ModalDialog} title="Go to" onClose=${onClose}>
    <input type="text" class="palette-input" autofocus role="combobox" aria-expanded="true" aria-controls="palette-list"
      aria-activedescendant=${shown.length ? `palette-${at}` : undefined}
      aria-label="Session, page or action" placeholder="Session, page or action" value=${query} onKeyDown=${onKey}
      onInput=${(/** @type {any} */ event) => {
        setQuery(event.target.value);
        setAt(0);
      }} />
    <ul class="palette" id="palette-list" role="listbox" aria-label="Matches">
      ${shown.map((entry, number) => html`<li id="palette-${number}" role="option" aria-selected=${number === at}
        onClick=${() => run(entry)} onMouseMove=${() => setAt(number)}>
        <${Icon} name=${entry.icon} /><span class="ellipsis">${showInvisible(entry.name)}</span><span class="muted">${entry.hint}</span>
      </li>`)}
    </ul>
    ${!shown.length && html`<p class="muted">Nothing matches.</p>`}
  <//>`;
}

/** The keyboard: single keys outside of text fields, which can be turned off. */

import {html, useEffect, useState} from '../../vendor/preact.js';
import {browserStore} from '../wire/stored.js';
import {ModalDialog} from './elements.js';

const STORAGE_KEY = 'k8sops.single-keys';

/** @typedef {Record<string, () => void>} ShortcutActions */

/** @type {[string, string][]} */
const SHORTCUTS = [
  ['Ctrl K', 'Go to a session, a page or an action'],
  ['n', 'New session'],
  ['i', 'Inbox'],
  ['/', 'Search sessions'],
  ['c', 'Write a message'],
  ['w', 'Go to what waits for an answer'],
  ['j, k', 'Next and previous entry of the conversation'],
  ['?', 'This list'],
  ['Enter', 'Send; while a run is in progress: queue'],
  ['Ctrl Enter', 'Interrupt the run with this message'],
  ['Esc', 'Close a dialog'],
];

/** @returns {boolean} */
function usesSingleKeys() {
  return browserStore.read(STORAGE_KEY) !== 'off';
}

/**
 * @param {ShortcutActions} actions By key.
 * @param {() => void} openPalette
 */
export function useShortcuts(actions, openPalette) {
  useEffect(() => {
    /** @param {KeyboardEvent} event */
    const onKey = (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
        event.preventDefault();
        openPalette();
        return;
      }
      const target = /** @type {HTMLElement} */ (event.target);
      const isWriting = target.closest('input, textarea, select, [contenteditable], dialog');
      if (event.ctrlKey || event.metaKey || event.altKey || isWriting || !usesSingleKeys()) return;
      const action = actions[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [actions]);
}

/** @param {number} by Moves the focus to the next (1) or previous (-1) entry of the conversation. */
export function moveInConversation(by) {
  const entries = /** @type {HTMLElement[]} */ ([...document.querySelectorAll('.conversation [id][tabindex="-1"]')]);
  const focused = entries.findIndex((entry) => entry.contains(document.activeElement));
  const next = entries[focused < 0 ? (by > 0 ? 0 : entries.length - 1) : Math.max(0, Math.min(entries.length - 1, focused + by))];
  next?.focus();
  next?.scrollIntoView({block: 'nearest'});
}

/** @param {{onClose: () => void}} props */
export function ShortcutsDialog({onClose}) {
  const [on, setOn] = useState(usesSingleKeys);
  const toggle = () => {
    browserStore.write(STORAGE_KEY, on ? 'off' : 'on');
    setOn(!on);
  };
  return html`<${ModalDialog} title="Keyboard" onClose=${onClose}>
    <dl class="shortcuts">${SHORTCUTS.map(([keys, words]) => html`<div><dt>${keys.split(', ').map((key) => html`<kbd>${key}</kbd> `)}</dt>
      <dd>${words}</dd></div>`)}</dl>
    <label class="check"><input type="checkbox" checked=${on}
      onChange=${toggle} /> <span>Single keys<small>Keys without Ctrl work outside of text fields. Turn them off if they get in the way of a screen reader or of voice control.</small></span></label>
  <//>`;
}

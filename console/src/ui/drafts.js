/**
 * What is being written: the text of a message and what a form contains, which stay in this tab, and attachments, which stay
 * until the page is left.
 */

import {useState} from '../../vendor/preact.js';
import {tabStore} from '../wire/stored.js';

/** @typedef {import('../../types/view').NewAttachment} NewAttachment */
/** @typedef {{text: string, attachments: NewAttachment[]}} Draft */

/** @type {Map<string, NewAttachment[]>} */
const attached = new Map();

const textKey = (/** @type {string} */ key) => `k8sops.draft.${key}`;

/** @param {string} key A session, or `new`. @returns {Draft} */
export function readDraft(key) {
  return {text: tabStore.read(textKey(key)), attachments: attached.get(key) ?? []};
}

/** @param {string} key @param {Draft} draft */
export function writeDraft(key, {text, attachments}) {
  tabStore.write(textKey(key), text);
  attached.set(key, attachments);
}

/**
 * Puts back what could not be sent, in front of what was written since.
 *
 * @param {string} key
 * @param {Draft} unsent
 */
export function restoreDraft(key, unsent) {
  const since = readDraft(key);
  const text = [unsent.text, since.text].filter(Boolean).join('\n');
  writeDraft(key, {text, attachments: [...unsent.attachments, ...since.attachments]});
}

/**
 * What a person enters into a form, which a sign-in or a reload takes from the page.
 *
 * @template {object} T
 * @param {string} form What identifies the form among all.
 * @param {T} empty
 * @returns {[T, (change: Partial<T>) => void, () => void]} What it contains, a function that changes fields, and one that
 *   forgets all.
 */
export function useFormDraft(form, empty) {
  const key = `k8sops.form.${form}`;
  const [entered, setEntered] = useState(() => /** @type {T} */ ({...empty, ...JSON.parse(tabStore.read(key) || '{}')}));
  const change = (/** @type {Partial<T>} */ change) =>
    setEntered((before) => {
      const after = {...before, ...change};
      tabStore.write(key, JSON.stringify(after));
      return after;
    });
  const forget = () => {
    tabStore.write(key, '');
    setEntered(empty);
  };
  return [entered, change, forget];
}

/**
 * What is being written: the text of a message, which stays in this tab, and its attachments, which stay until the page is left.
 */

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

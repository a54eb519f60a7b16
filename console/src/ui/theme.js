/** The colors: those of the system, or light, or dark. */

import {browserStore} from '../wire/stored.js';

const STORAGE_KEY = 'k8sops.theme';
const THEMES = ['system', 'light', 'dark'];

/** @returns {string} */
export function readTheme() {
  const stored = browserStore.read(STORAGE_KEY);
  return THEMES.includes(stored) ? stored : 'system';
}

export function applyTheme() {
  document.documentElement.dataset.theme = readTheme();
}

/** @returns {string} The theme after the current one, which is applied. */
export function nextTheme() {
  const next = THEMES[(THEMES.indexOf(readTheme()) + 1) % THEMES.length];
  browserStore.write(STORAGE_KEY, next);
  applyTheme();
  return next;
}

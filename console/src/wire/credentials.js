/**
 * The key or token of the caller. It stays in memory, or in the storage of this tab if the caller wants to stay signed in
 * after a reload. It is never in a cookie, a URL or the storage that other tabs read.
 */

import {tabStore} from './stored.js';

const STORAGE_KEY = 'k8sops.token';

let token = tabStore.read(STORAGE_KEY);

/** @returns {string} The token, or an empty text. */
export function readToken() {
  return token;
}

/**
 * @param {string} value
 * @param {'tab' | 'memory'} storage Where the token is kept.
 */
export function storeToken(value, storage) {
  token = value;
  tabStore.write(STORAGE_KEY, storage === 'tab' ? value : '');
}

export function forgetToken() {
  storeToken('', 'memory');
}

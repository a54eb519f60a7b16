/**
 * The key or token of the caller. It stays in memory, or in the storage of this tab if the caller wants to stay signed in
 * after a reload. It is never in a cookie, a URL or the storage that other tabs read.
 */

const STORAGE_KEY = 'k8sops.token';

let token = sessionStorage.getItem(STORAGE_KEY) ?? '';

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
  if (storage === 'tab') sessionStorage.setItem(STORAGE_KEY, value);
  else sessionStorage.removeItem(STORAGE_KEY);
}

export function forgetToken() {
  storeToken('', 'memory');
}

/**
 * What stays when the page is left. A browser may refuse to store anything, or have no room: it stays until then.
 */

/** What other tabs and later visits read. */
export const browserStore = openStore(() => localStorage);
/** What only this tab reads. */
export const tabStore = openStore(() => sessionStorage);

/** @param {() => Storage} storage */
function openStore(storage) {
  /** @type {Map<string, string>} */
  const memory = new Map();
  return {
    /** @param {string} key @returns {string} An empty text if there is none. */
    read(key) {
      try {
        return memory.get(key) ?? storage().getItem(key) ?? '';
      } catch {
        return '';
      }
    },
    /** @param {string} key @param {string} value An empty text removes it. */
    write(key, value) {
      memory.delete(key);
      try {
        storage().removeItem(key);
        if (value) storage().setItem(key, value);
      } catch {
        memory.set(key, value);
      }
    },
  };
}

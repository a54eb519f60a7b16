/** Makes characters visible that would show something else than what is there. */

/** Control and format characters: bidirectional overrides, zero-width spaces, escape sequences. */
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/**
 * @param {string} text
 * @returns {string} With a name such as `⟨U+202E⟩` in place of each of them. A carriage return at the end of a line goes.
 */
export function showInvisible(text) {
  return text.replace(/\r\n/g, '\n').replace(INVISIBLE, (char) => `⟨U+${codePoint(char)}⟩`);
}

/**
 * @param {string} text
 * @returns {boolean} Whether the text has a character that is not seen.
 */
export function hasInvisible(text) {
  return text.search(INVISIBLE) >= 0;
}

/** @param {string} char */
function codePoint(char) {
  return /** @type {number} */ (char.codePointAt(0)).toString(16).toUpperCase().padStart(4, '0');
}

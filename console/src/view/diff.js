/** Reads unified diffs, and lays them out side by side. */

/**
 * @typedef {object} DiffLine
 * @property {'same' | 'added' | 'removed'} kind
 * @property {string} text
 * @property {number | null} oldNumber
 * @property {number | null} newNumber
 */
/** @typedef {{kind: 'hunk', header: string, lines: DiffLine[]}} DiffHunk */
/** @typedef {{kind: 'file', name: string}} DiffFile */
/** @typedef {{kind: 'text', text: string}} DiffText */
/** @typedef {{left: DiffLine | null, right: DiffLine | null}} DiffRow */

/**
 * @param {string} text
 * @returns {(DiffFile | DiffHunk | DiffText)[]} Everything of the text, in its order: names of objects, their changes, and
 *   the sentences between and after them.
 */
export function parseDiff(text) {
  /** @type {(DiffFile | DiffHunk | DiffText)[]} */
  const parts = [];
  const lines = text.replace(/\n$/, '').split('\n');
  for (let at = 0; at < lines.length; ) {
    const line = lines[at];
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(line);
    if (hunk) {
      const [, oldStart, oldCount = '1', newStart, newCount = '1'] = hunk;
      const read = readHunk(lines, at + 1, {old: +oldStart, new: +newStart}, {old: +oldCount, new: +newCount});
      parts.push({kind: 'hunk', header: line, lines: read.lines});
      at = read.next;
    } else if (line.startsWith('--- ') && lines[at + 1]?.startsWith('+++ ')) {
      parts.push({kind: 'file', name: fileName(line.slice(4), lines[at + 1].slice(4))});
      at += 2;
    } else {
      if (line.trim()) parts.push({kind: 'text', text: line});
      at += 1;
    }
  }
  return parts;
}

/**
 * @param {string[]} lines
 * @param {number} start
 * @param {{old: number, new: number}} numbers
 * @param {{old: number, new: number}} left How many lines the hunk says it has. A removed `--- ` is no name of an object.
 */
function readHunk(lines, start, numbers, left) {
  /** @type {DiffLine[]} */
  const found = [];
  let at = start;
  while (at < lines.length && (left.old > 0 || left.new > 0)) {
    const line = lines[at];
    const mark = line[0] ?? ' ';
    if (mark === '+') found.push({kind: 'added', text: line.slice(1), oldNumber: null, newNumber: numbers.new});
    else if (mark === '-') found.push({kind: 'removed', text: line.slice(1), oldNumber: numbers.old, newNumber: null});
    else if (mark === ' ') found.push({kind: 'same', text: line.slice(1), oldNumber: numbers.old, newNumber: numbers.new});
    else if (mark !== '\\') break;
    if (mark === '-' || mark === ' ') {
      numbers.old += 1;
      left.old -= 1;
    }
    if (mark === '+' || mark === ' ') {
      numbers.new += 1;
      left.new -= 1;
    }
    at += 1;
  }
  return {lines: found, next: at};
}

/**
 * @param {string} before
 * @param {string} after
 */
function fileName(before, after) {
  if (before === after) return before;
  if (before === '/dev/null') return `${after} (new)`;
  return after === '/dev/null' ? `${before} (deleted)` : `${before} → ${after}`;
}

/**
 * @param {DiffLine[]} lines
 * @returns {DiffRow[]} Removed lines next to the added lines that take their place.
 */
export function pairLines(lines) {
  /** @type {DiffRow[]} */
  const rows = [];
  for (let at = 0; at < lines.length; ) {
    if (lines[at].kind === 'same') {
      rows.push({left: lines[at], right: lines[at]});
      at += 1;
      continue;
    }
    const removed = takeWhile(lines, at, 'removed');
    const added = takeWhile(lines, at + removed.length, 'added');
    for (let i = 0; i < Math.max(removed.length, added.length); i++) {
      rows.push({left: removed[i] ?? null, right: added[i] ?? null});
    }
    at += removed.length + added.length;
  }
  return rows;
}

/** @type {(lines: DiffLine[], start: number, kind: DiffLine['kind']) => DiffLine[]} */
function takeWhile(lines, start, kind) {
  let end = start;
  while (lines[end]?.kind === kind) end += 1;
  return lines.slice(start, end);
}

/**
 * @param {string} before
 * @param {string} after
 * @returns {{start: number, beforeEnd: number, afterEnd: number}} The part in which two lines differ.
 */
export function changedPart(before, after) {
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && before[start] === after[start]) start += 1;
  let tail = 0;
  while (tail < shorter - start && before.at(-1 - tail) === after.at(-1 - tail)) tail += 1;
  return {start, beforeEnd: before.length - tail, afterEnd: after.length - tail};
}

/**
 * @param {string} text
 * @returns {{added: number, removed: number}}
 */
export function countChanges(text) {
  const lines = parseDiff(text).flatMap((part) => (part.kind === 'hunk' ? part.lines : []));
  const count = (/** @type {DiffLine['kind']} */ kind) => lines.filter((line) => line.kind === kind).length;
  return {added: count('added'), removed: count('removed')};
}

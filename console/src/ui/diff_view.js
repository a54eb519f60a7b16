/** A diff: side by side where there is room, else line below line. */

import {html, useMemo} from '../../vendor/preact.js';
import {changedPart, pairLines, parseDiff} from '../view/diff.js';
import {showInvisible} from '../view/visible_text.js';

/** @typedef {import('../view/diff.js').DiffLine} DiffLine */
/** @typedef {import('../view/diff.js').DiffRow} DiffRow */

const MARKS = {same: ' ', added: '+', removed: '-'};

/** @param {{text: string}} props */
export function DiffView({text}) {
  const parts = useMemo(() => parseDiff(showInvisible(text)), [text]);
  return html`<div class="diff" tabindex="0" role="group" aria-label="Changes">
    ${parts.map((part, at) => {
      if (part.kind === 'file') return html`<div key=${at} class="diff-file">${part.name}</div>`;
      if (part.kind === 'text') return html`<p key=${at} class="diff-text">${part.text}</p>`;
      const rows = pairLines(part.lines);
      return html`<div key=${at} class="diff-hunk">
        <table class="diff-split" aria-label="Before and after"><tbody>${rows.map((row) => html`<${SplitRow} row=${row} />`)}</tbody>
          </table>
        <table class="diff-unified" aria-label="Changed lines">
          <tbody>${unified(rows).map(({line, other}) => html`<${UnifiedRow} line=${line} other=${other} />`)}</tbody></table>
      </div>`;
    })}
  </div>`;
}

/** @param {{row: DiffRow}} props */
function SplitRow({row}) {
  return html`<tr>
    <${Cell} line=${row.left} other=${row.right} number=${row.left?.oldNumber} />
    <${Cell} line=${row.right} other=${row.left} number=${row.right?.newNumber} />
  </tr>`;
}

/** @param {{line: DiffLine | null, other: DiffLine | null, number?: number | null}} props */
function Cell({line, other, number}) {
  if (!line) return html`<td class="diff-number" /><td class="diff-code nothing" />`;
  return html`<td class="diff-number ${line.kind}">${number}</td>
    <td class="diff-code ${line.kind}"><span class="diff-mark">${MARKS[line.kind]}</span>${changed(line, other)}</td>`;
}

/** @param {{line: DiffLine, other: DiffLine | null}} props */
function UnifiedRow({line, other}) {
  return html`<tr>
    <td class="diff-number ${line.kind}">${line.newNumber ?? line.oldNumber}</td>
    <td class="diff-code ${line.kind}"><span class="diff-mark">${MARKS[line.kind]}</span>${changed(line, other)}</td>
  </tr>`;
}

/**
 * @param {DiffRow[]} rows
 * @returns {{line: DiffLine, other: DiffLine | null}[]} Removed lines before the added lines that take their place.
 */
function unified(rows) {
  /** @type {{line: DiffLine, other: DiffLine | null}[]} */
  const lines = [];
  /** @type {{line: DiffLine, other: DiffLine | null}[]} */
  let added = [];
  for (const {left, right} of rows) {
    if (left?.kind === 'same') {
      lines.push(...added, {line: left, other: null});
      added = [];
      continue;
    }
    if (left) lines.push({line: left, other: right});
    if (right) added.push({line: right, other: left});
  }
  return [...lines, ...added];
}

/**
 * The text of a line, with what differs from the other line marked.
 *
 * @param {DiffLine} line
 * @param {DiffLine | null} other
 */
function changed(line, other) {
  if (line.kind === 'same' || !other || other.kind === 'same') return line.text;
  const part = changedPart(line.text, other.text);
  if (part.start === 0 && part.beforeEnd === line.text.length) return line.text;
  const {text} = line;
  return [text.slice(0, part.start), html`<em>${text.slice(part.start, part.beforeEnd)}</em>`, text.slice(part.beforeEnd)];
}

/** The output of a call, or an attachment: what the model got, and on request all of it. */

import {html, useEffect, useState} from '../../vendor/preact.js';
import {formatBytes} from '../view/format.js';
import {readParts} from '../wire/api.js';
import {IconButton, ModalDialog, ProblemLine} from './elements.js';
import {LineView} from './line_view.js';

/** The longest text that is loaded. A browser holds no more without trouble. */
const MAX_LOADED_CHARS = 32_000_000;

/** @typedef {Pick<import('../../types/view').ToolItem, 'callId' | 'name' | 'output' | 'truncated' | 'bytes'>} ShownOutput */

/** @param {{tool: ShownOutput, sessionId: string}} props */
export function ToolOutput({tool, sessionId}) {
  const [whole, setWhole] = useState(false);
  const path = `sessions/${sessionId}/tool_calls/${encodeURIComponent(tool.callId)}/output`;
  const note = tool.truncated && html`<button type="button" class="link"
    onClick=${() => setWhole(true)}>Whole output, ${formatBytes(tool.bytes)}</button>`;
  const expand = html`<${IconButton} icon="expand" label="Whole output" onClick=${() => setWhole(true)} />`;
  return html`<div class="tool-output">
    <${LineView} text=${tool.output} label="output" actions=${[note, expand]} />
    ${whole && html`<${WholeText} title="${tool.name}: whole output" path=${path} onClose=${() => setWhole(false)} />`}
  </div>`;
}

/**
 * A text that the service returns in parts.
 *
 * @param {{title: string, path: string, onClose: () => void, show?: (text: string) => any}} props
 */
export function WholeText({title, path, onClose, show}) {
  const [text, setText] = useState('');
  const [state, setState] = useState({done: false, total: 0, problem: /** @type {any} */ (null)});
  useEffect(() => {
    const reading = new AbortController();
    let read = '';
    const onPart = (/** @type {any} */ part) => {
      read += part.content;
      setText(read);
      setState((old) => ({...old, total: part.total_bytes}));
      if (read.length > MAX_LOADED_CHARS) reading.abort();
    };
    readParts(path, onPart, reading.signal).then(
      () => setState((old) => ({...old, done: true})),
      (problem) => setState((old) => ({...old, problem, done: true})),
    );
    return () => reading.abort();
  }, [path]);
  const progress = state.done ? null : html`<span class="lines-count">loading ${formatBytes(state.total)}…</span>`;
  const save = html`<${IconButton} icon="download" label="Save as a file"
    onClick=${() => saveText(text, `${title.replace(/\W+/g, '-')}.txt`)} />`;
  return html`<${ModalDialog} title=${title} onClose=${onClose} wide>
    <${ProblemLine} problem=${state.problem} />
    ${show && state.done ? show(text) : html`<${LineView} text=${text} label="whole text" tall actions=${[progress, save]} />`}
  <//>`;
}

/**
 * @param {string} text
 * @param {string} name
 */
function saveText(text, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain'}));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

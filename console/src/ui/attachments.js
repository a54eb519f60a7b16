/** Texts that go with a message: those to be sent, and those of the conversation. */

import {html} from '../../vendor/preact.js';
import {formatBytes} from '../view/format.js';
import {showInvisible} from '../view/visible_text.js';
import {IconButton} from './elements.js';
import {Icon} from './icons.js';
import {ToolOutput} from './tool_output.js';

/** @typedef {import('../../types/view').NewAttachment} NewAttachment */
/** @typedef {import('../../types/view').Attachment} Attachment */

/** Media types by the ending of a name, where browsers know none or a wrong one. */
const TYPES = [
  [/\.ya?ml$/i, 'application/yaml'],
  [/\.(json|har)$/i, 'application/json'],
  [/\.xml$/i, 'application/xml'],
];

/**
 * Reads files as attachments.
 *
 * @param {Iterable<File>} files
 * @returns {Promise<NewAttachment[]>}
 */
export function readFiles(files) {
  return Promise.all([...files].map(readFile));
}

/**
 * @param {File} file
 * @returns {Promise<NewAttachment>}
 */
async function readFile(file) {
  const bytes = await file.arrayBuffer();
  try {
    const text = new TextDecoder('utf-8', {fatal: true}).decode(bytes);
    if (text.includes('\0')) throw new Error('binary');
    const known = TYPES.find(([ending]) => /** @type {RegExp} */ (ending).test(file.name));
    return {name: file.name, media_type: /** @type {string} */ (known?.[1]) ?? 'text/plain', text};
  } catch {
    throw new Error(`${file.name} is not a text. Only texts can be attached, such as a manifest or a log.`);
  }
}

/** @param {{attachments: NewAttachment[], onRemove: (at: number) => void}} props What is sent with the next message. */
export function NewAttachments({attachments, onRemove}) {
  return attachments.length > 0 && html`<ul class="attachments" aria-label="Attachments">
    ${attachments.map(({name, text}, at) => html`<li class="chip"><${Icon} name="attach" />
      <span class="ellipsis">${showInvisible(name)}</span> <span class="muted">${formatBytes(text.length)}</span>
      <${IconButton} icon="close" label=${`Remove ${name}`} onClick=${() => onRemove(at)} /></li>`)}
  </ul>`;
}

/** @param {{attachments: Attachment[], sessionId: string}} props */
export function Attachments({attachments, sessionId}) {
  return attachments.map(({attachment_id: callId, name, text: output, truncated = false, bytes}) => html`<details class="attachment"
    key=${callId}>
    <summary><span class="tool-chevron"><${Icon} name="chevron" /></span> <${Icon} name="attach" />
      <span class="ellipsis">${showInvisible(name)}</span> <span class="muted">${formatBytes(bytes)}</span></summary>
    <${ToolOutput} tool=${{callId, name, output, truncated, bytes}} sessionId=${sessionId} />
  </details>`);
}

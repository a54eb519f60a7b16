/** The place to write in. */

import {html, useEffect, useRef, useState} from '../../vendor/preact.js';
import {NewAttachments, readFiles} from './attachments.js';
import {readDraft, restoreDraft, writeDraft} from './drafts.js';
import {IconButton} from './elements.js';
import {Icon} from './icons.js';

/** @typedef {import('../../types/view').NewAttachment} NewAttachment */

/**
 * @param {{draftKey: string, running: boolean, disabled?: string, settings: any, onSend: (text: string, onBusy: 'enqueue' | 'interrupt', attachments: NewAttachment[]) => void | Promise<boolean>,
 *   onStop?: () => void, onSettings: () => void, onProblem: (problem: any) => void}} props `disabled` says why nothing can be sent. A text that
 *   `onSend` could not send comes back.
 */
export function Composer({draftKey, running, disabled = '', settings, onSend, onStop, onSettings, onProblem}) {
  const [{text, attachments}, setDraft] = useState(() => readDraft(draftKey));
  const chooser = useRef(/** @type {HTMLInputElement | null} */ (null));
  const change = (/** @type {Partial<import('./drafts.js').Draft>} */ change) => {
    writeDraft(draftKey, {...readDraft(draftKey), ...change});
    setDraft(readDraft(draftKey));
  };
  const attach = (/** @type {FileList | undefined} */ files) =>
    readFiles(files ?? []).then((read) => change({attachments: [...readDraft(draftKey).attachments, ...read]}), onProblem);
  /** @param {Event} event @param {DataTransfer | null} data */
  const takeFiles = (event, data) => {
    if (!data?.files.length) return;
    event.preventDefault();
    attach(data.files);
  };
  const area = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useEffect(() => setDraft(readDraft(draftKey)), [draftKey]);
  const send = async (/** @type {'enqueue' | 'interrupt'} */ onBusy) => {
    if (!text.trim() || disabled) return;
    const sent = onSend(text.trim(), onBusy, attachments);
    change({text: '', attachments: []});
    area.current?.focus();
    if ((await sent) !== false) return;
    restoreDraft(draftKey, {text, attachments});
    setDraft(readDraft(draftKey));
  };
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send(running && (event.ctrlKey || event.metaKey) ? 'interrupt' : 'enqueue');
  };
  const hint = running ? 'Enter queues, Ctrl+Enter interrupts' : 'Enter sends, Shift+Enter starts a new line';
  return html`<form class="composer" aria-label="Write a message" onSubmit=${(/** @type {Event} */ event) => {
    event.preventDefault();
    send('enqueue');
  }} onDragOver=${(/** @type {DragEvent} */ event) => event.preventDefault()}
    onDrop=${(/** @type {DragEvent} */ event) => takeFiles(event, event.dataTransfer)}>
    <${NewAttachments} attachments=${attachments} onRemove=${(/** @type {number} */ at) => change({attachments: attachments.filter((_, other) => other !== at)})} />
    <textarea ref=${area} id="composer" rows="1" placeholder=${running ? 'Add to the investigation…' : 'What is broken?'}
      aria-label="Message"
      value=${text} disabled=${Boolean(disabled)} onKeyDown=${onKey} onPaste=${(/** @type {ClipboardEvent} */ event) => takeFiles(event, event.clipboardData)}
      onInput=${(/** @type {any} */ event) => change({text: event.target.value})} />
    <div class="composer-bar">
      <button type="button" class="chip model" onClick=${onSettings} title="Settings of this session"><${Icon} name="settings" />
        ${settings ? html`<span class="ellipsis">${settings.provider}/${settings.model}</span>` : 'Settings'}
        ${settings?.reasoning && settings.reasoning !== 'off' ? html`<span class="muted">thinks ${settings.reasoning}</span>` : ''}
      </button>
      <input ref=${chooser} type="file" multiple hidden aria-label="Files" onChange=${(/** @type {any} */ event) => {
        attach(event.target.files);
        event.target.value = '';
      }} />
      <${IconButton} icon="attach" label="Attach a file: a manifest, a log" onClick=${() => chooser.current?.click()} />
      <span class="composer-hint">${disabled || hint}</span>
      <span class="grow" />
      ${running && html`<button type="button" class="button stop" onClick=${onStop}><${Icon} name="stop" /> Stop</button>`}
      <button class="button primary send" disabled=${!text.trim() || Boolean(disabled)}
        aria-label=${running ? 'Queue the message' : 'Send'}><${Icon} name="send" /> ${running ? 'Queue' : 'Send'}</button>
    </div>
  </form>`;
}

/** Short messages in a corner of the page. */

import {html, useEffect, useState} from '../../vendor/preact.js';
import {IconButton} from './elements.js';

/** @typedef {{id: number, text: string, action?: {label: string, run: () => void}}} Toast */

const SHOWN_MS = 7000;
let lastId = 0;

export function useToasts() {
  const [toasts, setToasts] = useState(/** @type {Toast[]} */ ([]));
  const dismiss = (/** @type {number} */ id) => setToasts((old) => old.filter((toast) => toast.id !== id));
  /** @type {(text: string, action?: Toast['action']) => void} */
  const showToast = (text, action) => {
    const id = ++lastId;
    setToasts((old) => [...old.filter((toast) => toast.text !== text), {id, text, action}]);
  };
  return {toasts, showToast, dismiss};
}

/** @param {{toasts: Toast[], onDismiss: (id: number) => void}} props */
export function Toasts({toasts, onDismiss}) {
  return html`<div class="toasts" role="status" aria-live="polite">${toasts.map((toast) => html`<${ToastLine} key=${toast.id} toast=${toast}
    onDismiss=${onDismiss} />`)}</div>`;
}

/** @param {{toast: Toast, onDismiss: (id: number) => void}} props */
function ToastLine({toast, onDismiss}) {
  useEffect(() => {
    const timer = setTimeout(() => onDismiss(toast.id), SHOWN_MS);
    return () => clearTimeout(timer);
  }, []);
  return html`<div class="toast">
    <span>${toast.text}</span>
    ${toast.action && html`<button type="button" class="link" onClick=${() => {
      toast.action?.run();
      onDismiss(toast.id);
    }}>${toast.action.label}</button>`}
    <${IconButton} icon="close" label="Dismiss" onClick=${() => onDismiss(toast.id)} />
  </div>`;
}

/** Small elements that many views use. */

import {html, useEffect, useRef, useState} from '../../vendor/preact.js';
import {serviceNow} from '../wire/clock.js';
import {Icon} from './icons.js';

/**
 * @param {{icon: any, label: string, onClick: (event: MouseEvent) => void, pressed?: boolean, shown?: string, kind?: string}} props
 *   `label` is read aloud, and shown when the pointer rests on the button.
 */
export function IconButton({icon, label, onClick, pressed, kind = ''}) {
  return html`<button type="button" class="icon-button ${kind}" aria-label=${label} title=${label} aria-pressed=${pressed}
    onClick=${onClick}>
    <${Icon} name=${icon} />
  </button>`;
}

/** @param {{text: string, label?: string}} props */
export function CopyButton({text, label = 'Copy'}) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  };
  return html`<${IconButton} icon=${copied ? 'check' : 'copy'} label=${copied ? 'Copied' : label} onClick=${copy} />`;
}

/**
 * A dialog over the page. The browser keeps the focus in it, and the key Escape closes it.
 *
 * @param {{title: string, onClose: () => void, children: any, wide?: boolean}} props
 */
export function ModalDialog({title, onClose, children, wide = false}) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => element.current?.showModal(), []);
  /** @param {MouseEvent} event */
  const closeFromOutside = (event) => {
    if (event.target === element.current) onClose();
  };
  return html`<dialog ref=${element} class="modal ${wide ? 'wide' : ''}" aria-label=${title} onClose=${onClose} onClick=${closeFromOutside}>
    <div class="modal-body">
      <header class="modal-head">
        <h2>${title}</h2>
        <${IconButton} icon="close" label="Close" onClick=${onClose} />
      </header>
      ${children}
    </div>
  </dialog>`;
}

/**
 * @param {{title: string, text: any, icon: any, children?: any}} props
 */
export function EmptyState({title, text, icon, children}) {
  return html`<div class="empty">
    <span class="empty-icon"><${Icon} name=${icon} /></span>
    <h2>${title}</h2>
    <p>${text}</p>
    ${children}
  </div>`;
}

/** @param {{problem: {message: string} | null}} props */
export function ProblemLine({problem}) {
  return problem && html`<p class="problem" role="alert"><${Icon} name="warning" /> ${problem.message}</p>`;
}

/**
 * The current time, for texts such as "in 5 min".
 *
 * @param {number} everyMs
 */
export function useClock(everyMs) {
  const [now, setNow] = useState(serviceNow);
  useEffect(() => {
    const timer = setInterval(() => setNow(serviceNow()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return now;
}

/**
 * What an endpoint answers.
 *
 * @template T
 * @param {() => Promise<T>} load
 * @param {unknown[]} inputs It is loaded again when one of them changes.
 * @returns {{value: T | null, problem: any, reload: () => Promise<void>}}
 */
export function useLoaded(load, inputs) {
  const [loaded, setLoaded] = useState(/** @type {{value: T | null, problem: any}} */ ({value: null, problem: null}));
  const newest = useRef(0);
  const reload = async () => {
    const number = ++newest.current;
    const answer = await load().then(
      (value) => ({value, problem: null}),
      (problem) => ({value: null, problem}),
    );
    if (number === newest.current) setLoaded((old) => (answer.problem ? {...old, problem: answer.problem} : answer));
  };
  useEffect(() => {
    reload();
  }, inputs);
  return {...loaded, reload};
}

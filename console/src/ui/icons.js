/** The icons: outlines of 16 by 16, drawn in the color of the text. */

import {html} from '../../vendor/preact.js';

const PATHS = {
  plus: 'M8 3.5v9M3.5 8h9',
  search: 'M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9ZM10.5 10.5l3 3',
  inbox: 'M2.5 9.5 4.2 3.6h7.6l1.7 5.9v3h-11v-3Zm0 0h3l.9 1.6h3.2l.9-1.6h3',
  tools: 'M9.6 6.4a3 3 0 0 0 3.9-3.9l-1.8 1.8-1.6-.4-.4-1.6L11.5.5a3 3 0 0 0-3.9 3.9L2.5 9.5a1.8 1.8 0 0 0 2.5 2.5l4.6-5.6Z',
  memory: 'M4 2.5h8v11l-4-3-4 3v-11Z',
  usage: 'M3 13V8.5M8 13V3M13 13V6',
  settings: 'M2.5 5h6.2m3.1 0h1.7M2.5 11h1.7m3.1 0h6.2M10.2 6.6a1.6 1.6 0 1 0 0-3.2 1.6 1.6 0 0 0 0 3.2ZM5.8 12.6a1.6 1.6 0 1 0 0-3.2 1.6 1.6 0 0 0 0 3.2Z',
  menu: 'M2.5 4.5h11M2.5 8h11M2.5 11.5h11',
  close: 'm4 4 8 8M12 4l-8 8',
  check: 'm3.5 8.5 3 3 6-7',
  cross: 'm4.5 4.5 7 7M11.5 4.5l-7 7',
  stop: 'M4.5 4.5h7v7h-7z',
  send: 'M8 13V3.5M4 7.2 8 3l4 4.2',
  chevron: 'm6 4 4 4-4 4',
  copy: 'M5.5 5.5v-3h8v8h-3m-8-5h8v8h-8z',
  trash: 'M2.5 4h11M6 4V2.5h4V4M4 4l.6 9.5h6.8L12 4',
  edit: 'm3 13 .6-2.8 7.2-7.2 2.2 2.2-7.2 7.2L3 13Z',
  timeline: 'M4.5 2.5v11M4.5 4.5h7M4.5 8h5M4.5 11.5h7',
  expand: 'M9.5 2.5h4v4m0-4L9 7M6.5 13.5h-4v-4m0 4L7 9',
  warning: 'M8 2.5 14 13H2L8 2.5ZM8 6.5v3M8 11v.4',
  shield: 'M8 1.8 13 3.6v4.2c0 3-2 5.2-5 6.4-3-1.2-5-3.4-5-6.4V3.6L8 1.8Z',
  takeover: 'M13 8a5 5 0 1 1-1.5-3.6M13 2v3h-3',
  pulse: 'M1.5 8h3l2-4.5 3 9 2-4.5h3',
  eye: 'M1.5 8S4 3.8 8 3.8 14.5 8 14.5 8 12 12.2 8 12.2 1.5 8 1.5 8ZM8 9.8a1.8 1.8 0 1 0 0-3.6 1.8 1.8 0 0 0 0 3.6Z',
  message: 'M2.5 3h11v8h-6l-3 2.5V11h-2V3Z',
  question: 'M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM6.3 6.3a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.9.7-.9 1.3m0 1.9v.2',
  download: 'M8 2.5v7.5M4.5 7 8 10.5 11.5 7M3 13.5h10',
  theme: 'M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM8 2v12',
  signout: 'M6.5 2.5h-4v11h4M10 4.5 13.5 8 10 11.5M13 8H6',
  attach: 'm13 7.5-5.6 5.6a3.3 3.3 0 0 1-4.7-4.7l6-6a2.2 2.2 0 0 1 3.1 3.1l-5.9 5.9a1.1 1.1 0 0 1-1.6-1.6l5.4-5.3',
  good: 'M2.5 7h2.3v6H2.5zM4.8 7l2.7-4.7c1.4 0 1.8 1 1.4 2.3L8.4 6h4.2l-1 7H4.8',
  bad: 'M13.5 9h-2.3V3h2.3zM11.2 9l-2.7 4.7c-1.4 0-1.8-1-1.4-2.3l.5-1.4H3.4l1-7h6.8',
  up: 'm4 10 4-4 4 4',
  down: 'm4 6 4 4 4-4',
};

/** @param {{name: keyof typeof PATHS}} props */
export function Icon({name}) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}

/** The mark of the product: the hexagon of a node, with a pulse in it. */
export function Mark() {
  return html`<svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
    <path class="mark-body" d="M12 1.8 21 6.9v10.2l-9 5.1-9-5.1V6.9l9-5.1Z" />
    <path class="mark-line" d="M6 12.4h2.8l1.7-4 2.9 7.6 1.8-3.6H18" />
  </svg>`;
}

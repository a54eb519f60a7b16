/** The state of the connection, in a word and a color. */

import {html} from '../../vendor/preact.js';
import {useClock} from './elements.js';

/** @typedef {import('../wire/session_stream.js').ConnectionState} ConnectionState */

/** @param {{connection: ConnectionState}} props */
export function ConnectionMark({connection}) {
  return html`<span class="connection ${connection.kind}" role="status"><span class="dot" aria-hidden="true" />${
    connection.kind === 'waiting' ? html`<${WaitingWords} until=${connection.until} />` : describe(connection)
  }</span>`;
}

/** @param {ConnectionState} connection */
function describe(connection) {
  if (connection.kind === 'ended') return connection.reason;
  return {live: 'Live', connecting: 'Connecting…', offline: 'Offline', waiting: ''}[connection.kind];
}

/** @param {{until: number}} props */
function WaitingWords({until}) {
  const seconds = Math.ceil((until - useClock(500)) / 1000);
  return seconds > 1 ? `Reconnecting in ${seconds} s` : 'Reconnecting…';
}

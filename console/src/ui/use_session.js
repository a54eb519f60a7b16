/** One session as a view holds it: its stream, what was sent, and what can be done. */

import {useEffect, useMemo, useState} from '../../vendor/preact.js';
import {closeSession, emptyState, foldFrames} from '../view/fold.js';
import {sendCommand} from '../wire/api.js';
import {openSessionStream} from '../wire/session_stream.js';
import {restoreDraft} from './drafts.js';

/** @typedef {import('../../types/view').SessionState} SessionState */
/** @typedef {import('../../types/view').OutgoingMessage} OutgoingMessage */
/** @typedef {import('../../types/view').NewAttachment} NewAttachment */
/** @typedef {import('../wire/session_stream.js').ConnectionState} ConnectionState */

/**
 * @param {string} sessionId
 */
export function useSession(sessionId) {
  const [state, setState] = useState(emptyState);
  const [connection, setConnection] = useState(/** @type {ConnectionState} */ ({kind: 'connecting'}));
  const [outgoing, setOutgoing] = useState(/** @type {OutgoingMessage[]} */ ([]));

  useEffect(() => {
    setState(emptyState());
    setOutgoing([]);
    const stream = openSessionStream(sessionId, {
      onFrames: (frames) => setState((old) => foldFrames(old, frames)),
      onState: (now) => {
        setConnection(now);
        if (now.kind === 'ended') setState(closeSession);
      },
    });
    return stream.close;
  }, [sessionId]);

  const change = (/** @type {string} */ commandId, /** @type {Partial<OutgoingMessage>} */ change) =>
    setOutgoing((old) => old.map((message) => (message.commandId === commandId ? {...message, ...change} : message)));

  const actions = useMemo(() => {
    const post = async (/** @type {OutgoingMessage} */ {commandId, text, attachments}, /** @type {string} */ onBusy) => {
      change(commandId, {state: 'sending', error: ''});
      try {
        await sendCommand(`sessions/${sessionId}/messages`, {content: text, attachments, on_busy: onBusy}, {commandId});
        change(commandId, {state: 'queued'});
      } catch (problem) {
        // The view of the session ends with the sign-in.
        if (problem.status === 401) restoreDraft(sessionId, {text, attachments});
        change(commandId, {state: 'failed', error: problem.message});
      }
    };
    return {
      send(/** @type {string} */ text, onBusy = 'enqueue', /** @type {NewAttachment[]} */ attachments = []) {
        const message = {commandId: crypto.randomUUID(), text, attachments, state: /** @type {const} */ ('sending'), error: ''};
        setOutgoing((old) => [...old, message]);
        post(message, onBusy);
      },
      retry(/** @type {OutgoingMessage} */ message) {
        post(message, 'enqueue');
      },
      discard(/** @type {OutgoingMessage} */ message) {
        setOutgoing((old) => old.filter((other) => other !== message));
      },
      stop: () => sendCommand(`sessions/${sessionId}/cancel`, undefined),
    };
  }, [sessionId]);

  const waiting = useMemo(() => {
    const shown = new Set(state.items.map((item) => (item.kind === 'user' ? item.commandId : null)));
    return outgoing.filter((message) => !shown.has(message.commandId));
  }, [state.items, outgoing]);
  return {state, connection, outgoing: waiting, ...actions};
}

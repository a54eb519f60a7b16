/** The view of one session: the conversation, the timeline beside it, and the place to write in. */

import {html, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState} from '../../vendor/preact.js';
import {describeActivity} from '../view/activity.js';
import {formatMoney, formatTokens} from '../view/format.js';
import {sendCommand} from '../wire/api.js';
import {browserStore} from '../wire/stored.js';
import {Composer} from './composer.js';
import {ConnectionMark} from './connection_mark.js';
import {Conversation, MessageText} from './conversation.js';
import {EmptyState, IconButton, useClock} from './elements.js';
import {Icon} from './icons.js';
import {PageFrame} from './page_frame.js';
import {SessionSettingsDialog} from './session_settings.js';
import {ShareDialog} from './share_dialog.js';
import {TimelinePanel} from './timeline_panel.js';
import {useSession} from './use_session.js';

/** @typedef {import('./app_context.js').AppContext} AppContext */

/** How near to the end a reader counts as following it, in pixels. */
const FOLLOW_DISTANCE = 80;

/** @param {{sessionId: string, firstMessage: import('./app_context.js').FirstMessage | null, app: AppContext}} props */
export function SessionPage({sessionId, firstMessage, app}) {
  const session = useSession(sessionId);
  const {state, connection, outgoing} = session;
  const [dialog, setDialog] = useState('');
  const [timeline, setTimeline] = useState(() => matchMedia('(min-width: 1180px)').matches);
  const scroller = useRef(/** @type {HTMLElement | null} */ (null));
  const following = useRef(true);
  const newFrom = useNewFrom(sessionId, state.lastSeq, state.ready);

  useEffect(() => {
    if (firstMessage) session.send(firstMessage.text, 'enqueue', firstMessage.attachments);
    app.forgetFirstMessage();
  }, [sessionId]);

  const jump = useCallback((/** @type {string} */ key) => {
    const target = document.getElementById(key);
    if (!target) return;
    following.current = false;
    if (matchMedia('(max-width: 1179px)').matches) setTimeline(false);
    target.scrollIntoView({block: 'center', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'});
    target.focus({preventScroll: true});
    target.classList.add('jumped');
    setTimeout(() => target.classList.remove('jumped'), 1600);
  }, []);
  useLayoutEffect(() => {
    const box = scroller.current;
    if (box && following.current) box.scrollTop = box.scrollHeight;
  }, [state.items, outgoing]);
  const onScroll = () => {
    const box = scroller.current;
    if (box) following.current = box.scrollHeight - box.scrollTop - box.clientHeight < FOLLOW_DISTANCE;
  };

  const pending = state.items.flatMap((item) => (item.kind === 'tool' && item.phase === 'waiting' ? item.approvals.slice(-1) : []));
  const pendingIds = pending.map((approval) => approval.request.approval_id).join();
  // Who may answer is in no event: the list of what the caller may answer tells.
  const [checked, setChecked] = useState('');
  useEffect(() => {
    if (pendingIds) app.refresh().then((answered) => answered && setChecked(pendingIds));
  }, [pendingIds]);
  const ownAnswers = checked !== pendingIds || app.account.approvals.some((approval) => approval.session_id === sessionId);
  const context = useMemo(() => ({sessionId, owner: state.owner, ownAnswers, onJump: jump}), [sessionId, state.owner, ownAnswers, jump]);

  const ended = connection.kind === 'ended' ? connection.reason : state.deleted ? 'This session was deleted' : '';
  const title = state.title || app.account.sessions.find((s) => s.session_id === sessionId)?.title || 'New session';
  const running = Boolean(state.run) || outgoing.some((message) => message.state === 'queued');
  const activity = describeActivity(state);
  const send = (/** @type {string} */ text, /** @type {any} */ onBusy, /** @type {any} */ attachments) => {
    following.current = true;
    session.send(text, onBusy, attachments);
  };
  if (ended && !state.items.length) return html`<${MissingSession} reason=${ended} app=${app} />`;
  return html`<div class="session">
    <div class="session-main">
      <header class="page-head">
        <${IconButton} icon="menu" label="Sessions and pages" kind="menu-button" onClick=${app.openMenu} />
        <${SessionTitle} title=${title} onRename=${(/** @type {string} */ name) => sendCommand(`sessions/${sessionId}`, {title: name}, {method: 'PATCH'}).then(app.refresh, app.showProblem)} />
        <span class="grow" />
        <span class="head-facts">${state.usage.inputTokens > 0 && html`<span
          title="Tokens and cost of this session">${formatTokens(state.usage.inputTokens)} in · ${formatTokens(state.usage.outputTokens)} out${state.usage.costUsd ? ` · ${formatMoney(state.usage.costUsd)}` : ''}</span>`}</span>
        <${ConnectionMark} connection=${connection} />
        <${IconButton} icon="timeline" label=${timeline ? 'Hide the timeline' : 'Show the timeline'} pressed=${timeline}
          onClick=${() => setTimeline(!timeline)} />
        <${IconButton} icon="settings" label="Settings of this session" onClick=${() => setDialog('settings')} />
        <${IconButton} icon="download" label="Export or share this session" onClick=${() => setDialog('share')} />
        <${IconButton} icon="trash" label="Delete this session" onClick=${() => app.deleteSession(sessionId, title)} />
      </header>
      <main class="scroller" ref=${scroller} onScroll=${onScroll} tabindex="0" id="main">
        <div class="conversation">
          <h1 class="hidden">${title}</h1>
          <${Conversation} items=${state.items} newFrom=${newFrom} context=${context} />
          ${outgoing.map((message) => html`<${OutgoingLine}
            key=${message.commandId} message=${message} running=${Boolean(state.run)} session=${session} />`)}
          ${state.ready && !state.items.length && !outgoing.length && html`<p class="muted center">Nothing was said here yet.</p>`}
        </div>
      </main>
      <div class="status-line" role="status" aria-live="polite">
        ${pending.length > 0
          ? html`<button type="button" class="chip waiting" onClick=${() => jump(`a:${pending[0].request.approval_id}`)}>
            <${Icon} name="shield" /> Waiting for an approval</button>`
          : activity && html`<${ActivityLine} activity=${activity} startedAt=${state.run?.startedAt ?? null} />`}
        ${state.streamWarning && html`<span class="problem"><${Icon} name="warning" /> ${state.streamWarning.text}</span>`}
      </div>
      <div class="composer-area">
        <${Composer} key=${sessionId} draftKey=${sessionId} running=${running} disabled=${ended} settings=${state.settings} onSend=${send}
          onStop=${() => session.stop().catch(app.showProblem)} onSettings=${() => setDialog('settings')} onProblem=${app.showProblem} />
      </div>
    </div>
    ${timeline && html`<${TimelinePanel} items=${state.items} owner=${state.owner} onJump=${jump} onClose=${() => setTimeline(false)} />`}
    ${dialog === 'settings' && html`<${SessionSettingsDialog} sessionId=${sessionId} settings=${state.settings} onClose=${() => setDialog('')} />`}
    ${dialog === 'share' && html`<${ShareDialog} sessionId=${sessionId} onClose=${() => setDialog('')} />`}
  </div>`;
}

/** @param {{reason: string, app: AppContext}} props */
function MissingSession({reason, app}) {
  return html`<${PageFrame} title="Session" app=${app}>
    <${EmptyState} icon="message" title=${reason}
      text="It may have been deleted, or have expired, or the service keeps sessions in memory and was started again.">
      <a class="button primary" href="#/">New session</a>
    <//>
  <//>`;
}

/** @param {{title: string, onRename: (title: string) => void}} props */
function SessionTitle({title, onRename}) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  if (text === null) {
    return html`<button type="button" class="session-title" title="Rename" onClick=${() => setText(title)}><span
      class="ellipsis">${title}</span></button>`;
  }
  const finish = () => {
    if (text.trim() && text.trim() !== title) onRename(text.trim());
    setText(null);
  };
  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    if (event.key === 'Enter') finish();
    if (event.key === 'Escape') setText(null);
  };
  return html`<input class="session-title" aria-label="Title of the session" value=${text} maxlength="200" onKeyDown=${onKey}
    onBlur=${finish}
    ref=${(/** @type {HTMLInputElement | null} */ input) => input && document.activeElement !== input && input.select()}
    onInput=${(/** @type {any} */ event) => setText(event.target.value)} />`;
}

/** @param {{activity: string, startedAt: string | null}} props */
function ActivityLine({activity, startedAt}) {
  const now = useClock(1000);
  const seconds = startedAt ? Math.max(0, Math.floor((now - Date.parse(startedAt)) / 1000)) : 0;
  return html`<span class="activity"><span class="spinner" /> ${activity}${seconds > 1 && html`<span class="muted"
    aria-hidden="true"> ${seconds} s</span>`}</span>`;
}

/** @param {{message: import('../../types/view').OutgoingMessage, running: boolean, session: any}} props */
function OutgoingLine({message, running, session}) {
  const words = {sending: 'sending…', queued: running ? 'queued, runs next' : 'accepted', failed: 'not sent'};
  return html`<article class="message user outgoing ${message.state}">
    <${MessageText} text=${message.text} />
    ${message.attachments.map(({name}) => html`<span class="chip"><${Icon} name="attach" /> ${name}</span>`)}
    <p class="message-time" role="status">${words[message.state]}
      ${message.state === 'failed' && html`: ${message.error}
        <button type="button" class="link" onClick=${() => session.retry(message)}>Send again</button>
        <button type="button" class="link" onClick=${() => session.discard(message)}>Discard</button>`}</p>
  </article>`;
}

/**
 * The first event that was not shown when the user last looked at this session.
 *
 * @param {string} sessionId
 * @param {number} lastSeq
 * @param {boolean} ready
 * @returns {number} 0 if there is none.
 */
function useNewFrom(sessionId, lastSeq, ready) {
  const key = `k8sops.seen.${sessionId}`;
  const seen = useMemo(() => Number(browserStore.read(key)), [sessionId]);
  const [newFrom, setNewFrom] = useState(0);
  const first = useRef(true);
  useEffect(() => {
    if (!ready) return;
    if (first.current && seen > 0 && seen < lastSeq) setNewFrom(seen + 1);
    first.current = false;
    browserStore.write(key, String(lastSeq));
  }, [ready, lastSeq]);
  return newFrom;
}

/** The list of sessions, and the way to all other views. */

import {html, useState} from '../../vendor/preact.js';
import {formatAge} from '../view/format.js';
import {showInvisible} from '../view/visible_text.js';
import {loadOlderSessions} from '../wire/account_watch.js';
import {readToken} from '../wire/credentials.js';
import {useClock} from './elements.js';
import {Icon, Mark} from './icons.js';
import {goTo} from './route.js';
import {nextTheme, readTheme} from './theme.js';

/** @typedef {import('./app_context.js').AppContext} AppContext */
/** @typedef {import('../../types/wire').SessionView} SessionView */

const PAGES = [
  {view: 'tools', name: 'Tools', icon: 'tools'},
  {view: 'memories', name: 'Memories', icon: 'memory'},
  {view: 'usage', name: 'Usage', icon: 'usage'},
];

/**
 * @param {{app: AppContext, route: import('./route.js').Route, hiddenIds: Set<string>, onSignOut: () => void, onHelp: () => void}} props
 */
export function Sidebar({app, route, hiddenIds, onSignOut, onHelp}) {
  const {account} = app;
  const [query, setQuery] = useState('');
  const [older, setOlder] = useState(/** @type {{sessions: SessionView[], nextCursor: string | null} | null} */ (null));
  const [theme, setTheme] = useState(readTheme);
  const now = useClock(20_000);
  const known = new Set(account.sessions.map((session) => session.session_id));
  const all = [...account.sessions, ...(older?.sessions ?? []).filter((session) => !known.has(session.session_id))];
  const needle = query.trim().toLowerCase();
  const matches = (/** @type {SessionView} */ session) => `${session.title} ${session.preview} ${session.session_id}`.toLowerCase().includes(needle);
  const sessions = all.filter((session) => !hiddenIds.has(session.session_id) && (!needle || matches(session)));
  const waiting = new Set(account.approvals.map((approval) => approval.session_id));
  const cursor = older ? older.nextCursor : account.nextCursor;
  const loadOlder = async () => {
    if (!cursor) return;
    const page = await loadOlderSessions(cursor);
    setOlder((old) => ({sessions: [...(old?.sessions ?? []), ...page.sessions], nextCursor: page.nextCursor}));
  };
  const link = (/** @type {string} */ view, /** @type {string} */ name, /** @type {any} */ icon, count = 0) => html`<a
    href="#/${view === 'new' ? '' : view}" class="nav-link"
    aria-current=${route.view === view ? 'page' : undefined}><${Icon} name=${icon} /> <span>${name}</span>${count > 0 && html`<span
      class="count" aria-label="${count} waiting">${count}</span>`}</a>`;
  return html`<nav class="sidebar" id="sidebar" aria-label="Sessions and pages">
    <div class="sidebar-head">
      <a class="brand" href="#/"><${Mark} /><span>k8sops</span></a>
      ${account.info?.mode === 'demo' && html`<span class="badge">demo</span>`}
      <span class="grow" />
      <button type="button" class="icon-button" aria-label="Color theme: ${theme}" title="Color theme: ${theme}"
        onClick=${() => setTheme(nextTheme())}><${Icon} name="theme" /></button>
      <button type="button" class="icon-button" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick=${onHelp}>
        <${Icon} name="question" /></button>
    </div>
    <a href="#/" class="button new-session" aria-current=${route.view === 'new' ? 'page' : undefined}>
      <${Icon} name="plus" /> New session</a>
    <div class="nav-group">${link('inbox', 'Inbox', 'inbox', account.approvals.length + account.inputs.length)}</div>
    <div class="session-search"><${Icon} name="search" /><input type="search" id="session-search" placeholder="Search sessions"
      aria-label="Search sessions" value=${query}
      onInput=${(/** @type {any} */ event) => setQuery(event.target.value)}
      onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === 'Enter' && sessions[0] && goTo(`sessions/${sessions[0].session_id}`)} /></div>
    <ul class="session-list" aria-label="Sessions">
      ${sessions.map((session) => html`<li key=${session.session_id}><a href="#/sessions/${session.session_id}" class="session-link"
        aria-current=${route.sessionId === session.session_id ? 'page' : undefined}>
        <${SessionDot} waits=${waiting.has(session.session_id)} runs=${session.status.is_processing} />
        <span class="session-name">${showInvisible(session.title || session.preview || 'New session')}</span>
        <time class="session-age">${formatAge(session.updated_at, now)}</time>
      </a></li>`)}
      ${!sessions.length && html`<li class="muted small pad">${needle ? 'No session matches.' : 'Your sessions will be listed here.'}</li>`}
      ${cursor && html`<li><button type="button" class="link pad"
        onClick=${() => loadOlder().catch(app.showProblem)}>Older sessions</button></li>`}
    </ul>
    <div class="nav-group foot">
      ${PAGES.map((page) => link(page.view, page.name, page.icon))}
      ${readToken() && html`<button type="button" class="nav-link" onClick=${onSignOut}><${Icon} name="signout" /> <span>Sign out</span>
        </button>`}
      <${ServiceLine} app=${app} />
    </div>
  </nav>`;
}

/** @param {{waits: boolean, runs: boolean}} props */
function SessionDot({waits, runs}) {
  if (waits) return html`<span class="dot waiting" role="img" aria-label="waits for an approval" title="Waits for an approval" />`;
  if (runs) return html`<span class="dot running" role="img" aria-label="running" title="Running" />`;
  return html`<span class="dot idle" aria-hidden="true" />`;
}

/** @param {{app: AppContext}} props */
function ServiceLine({app}) {
  const {info, reachable} = app.account;
  if (!reachable) return html`<p class="service-line down" role="status"><span class="dot" /> Service unreachable, retrying</p>`;
  if (!info) return null;
  const down = info.mcp_servers.filter((server) => !server.connected);
  const words = !info.mcp_servers.length ? 'No MCP server configured' : down.length ? `${down.length} of ${info.mcp_servers.length} servers down` : `${info.mcp_servers.length === 1 ? info.mcp_servers[0].name : `${info.mcp_servers.length} servers`} connected`;
  const state = down.length || !info.mcp_servers.length ? 'degraded' : 'up';
  return html`<a class="service-line ${state}" href="#/tools" title="k8sops ${info.version}, store: ${info.store.backend}"><span
    class="dot" /> <span class="ellipsis">${words}</span></a>`;
}

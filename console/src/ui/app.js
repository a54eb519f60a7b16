/** The page: signs in, watches the account, and shows the view that the address names. */

import {html, useEffect, useMemo, useRef, useState} from '../../vendor/preact.js';
import {watchAccount} from '../wire/account_watch.js';
import {callApi, onUnauthenticated} from '../wire/api.js';
import {forgetToken} from '../wire/credentials.js';
import {Icon} from './icons.js';
import {InboxPage} from './inbox_page.js';
import {MemoriesPage} from './memories_page.js';
import {NewSessionPage} from './new_session_page.js';
import {Palette} from './palette.js';
import {goTo, useRoute} from './route.js';
import {SessionPage} from './session_page.js';
import {moveInConversation, ShortcutsDialog, useShortcuts} from './shortcuts.js';
import {Sidebar} from './sidebar.js';
import {SignIn} from './sign_in.js';
import {nextTheme} from './theme.js';
import {Toasts, useToasts} from './toasts.js';
import {ToolsPage} from './tools_page.js';
import {usePendingDeletes} from './pending_deletes.js';
import {UsagePage} from './usage_page.js';

/** @typedef {import('../wire/account_watch.js').AccountState} AccountState */
/** @typedef {import('./app_context.js').AppContext} AppContext */
/** @typedef {import('./app_context.js').FirstMessage} FirstMessage */

/** @type {any} */
const UNKNOWN_ACCOUNT = {sessions: [], nextCursor: null, approvals: [], inputs: [], info: undefined, reachable: true};

export function App() {
  const [rejection, setRejection] = useState(/** @type {any} */ (null));
  const [signIns, setSignIns] = useState(0);
  useEffect(() => onUnauthenticated(setRejection), []);
  const signOut = () => {
    forgetToken();
    location.reload();
  };
  const signedIn = () => {
    setRejection(null);
    setSignIns((old) => old + 1);
  };
  if (rejection) return html`<${SignIn} problem=${rejection} onSignedIn=${signedIn} />`;
  return html`<${Workspace} key=${signIns} onSignOut=${signOut} />`;
}

/** @param {{onSignOut: () => void}} props */
function Workspace({onSignOut}) {
  const route = useRoute();
  const [account, setAccount] = useState(/** @type {AccountState} */ (UNKNOWN_ACCOUNT));
  const [dialog, setDialog] = useState(/** @type {'' | 'palette' | 'shortcuts'} */ (''));
  const [menu, setMenu] = useState(false);
  const [firstMessage, setFirstMessage] = useState(/** @type {FirstMessage | null} */ (null));
  const {toasts, showToast, dismiss} = useToasts();
  const watch = useRef(/** @type {ReturnType<typeof watchAccount> | null} */ (null));
  useEffect(() => {
    const started = watchAccount((change) => setAccount((old) => ({...old, ...change})));
    watch.current = started;
    return started.stop;
  }, []);
  const refresh = () => watch.current?.refresh() ?? Promise.resolve(false);
  const showProblem = (/** @type {any} */ problem) => showToast(problem.message ?? String(problem));
  const deletes = usePendingDeletes(showToast, showProblem, refresh);
  useEffect(() => setMenu(false), [route.view, route.sessionId]);
  useTitle(account, route);

  const startSession = async (/** @type {FirstMessage} */ message, /** @type {object} */ settings) => {
    const time_zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const created = await callApi('POST', 'sessions', {body: {...settings, time_zone}});
    setFirstMessage(message);
    goTo(`sessions/${created.session_id}`);
    refresh();
  };
  /** @type {AppContext} */
  const app = {
    account,
    refresh,
    showProblem,
    showToast,
    startSession,
    openMenu: () => setMenu(true),
    forgetFirstMessage: () => setFirstMessage(null),
    deleteSession(sessionId, title) {
      deletes.begin(sessionId, title);
      if (route.sessionId === sessionId) goTo('');
    },
  };
  const actions = useMemo(() => shortcutActions(setDialog), []);
  useShortcuts(actions, () => setDialog('palette'));
  return html`
    <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => {
      event.preventDefault();
      document.getElementById('main')?.focus();
    }}>Skip to the content</a>
    <div class="workspace ${menu ? 'menu-open' : ''}">
      <${Sidebar} app=${app} route=${route} hiddenIds=${deletes.ids} onSignOut=${onSignOut} onHelp=${() => setDialog('shortcuts')} />
      ${menu && html`<button type="button" class="backdrop" aria-label="Close the menu" onClick=${() => setMenu(false)}>
        <${Icon} name="close" /></button>`}
      <${CurrentView} route=${route} app=${app} firstMessage=${firstMessage} />
    </div>
    ${dialog === 'palette' && html`<${Palette} entries=${paletteEntries(account, setDialog)} onClose=${() => setDialog('')} />`}
    ${dialog === 'shortcuts' && html`<${ShortcutsDialog} onClose=${() => setDialog('')} />`}
    <${Toasts} toasts=${toasts} onDismiss=${dismiss} />`;
}

/** @param {{route: import('./route.js').Route, app: AppContext, firstMessage: FirstMessage | null}} props */
function CurrentView({route, app, firstMessage}) {
  switch (route.view) {
    case 'sessions':
      return html`<${SessionPage} key=${route.sessionId} sessionId=${route.sessionId} firstMessage=${firstMessage} app=${app} />`;
    case 'inbox':
      return html`<${InboxPage} app=${app} />`;
    case 'tools':
      return html`<${ToolsPage} app=${app} />`;
    case 'memories':
      return html`<${MemoriesPage} app=${app} />`;
    case 'usage':
      return html`<${UsagePage} app=${app} />`;
    default:
      return html`<${NewSessionPage} app=${app} />`;
  }
}

/**
 * The title of the tab says how much waits, so that it is seen from other tabs.
 *
 * @param {AccountState} account
 * @param {import('./route.js').Route} route
 */
function useTitle(account, route) {
  const count = account.approvals.length + account.inputs.length;
  const session = account.sessions.find((known) => known.session_id === route.sessionId);
  const name = session?.title || {inbox: 'Inbox', tools: 'Tools', memories: 'Memories', usage: 'Usage'}[route.view];
  useEffect(() => {
    document.title = `${count ? `(${count}) ` : ''}${name ? `${name} · ` : ''}k8sops`;
  }, [count, name]);
}

/**
 * @param {(dialog: '' | 'palette' | 'shortcuts') => void} setDialog
 * @returns {import('./shortcuts.js').ShortcutActions}
 */
function shortcutActions(setDialog) {
  const focus = (/** @type {string} */ selector) => /** @type {HTMLElement | null} */ (document.querySelector(selector))?.focus();
  return {
    n: () => goTo(''),
    i: () => goTo('inbox'),
    '/': () => focus('#session-search'),
    c: () => focus('#composer'),
    w: () => focus('.approval-card'),
    j: () => moveInConversation(1),
    k: () => moveInConversation(-1),
    '?': () => setDialog('shortcuts'),
  };
}

/**
 * @param {AccountState} account
 * @param {(dialog: '' | 'palette' | 'shortcuts') => void} setDialog
 * @returns {import('./palette.js').PaletteEntry[]}
 */
function paletteEntries(account, setDialog) {
  const page = (/** @type {string} */ name, /** @type {string} */ path, /** @type {any} */ icon) => ({name, hint: 'page', icon, run: () => goTo(path)});
  return [
    page('New session', '', 'plus'),
    page('Inbox', 'inbox', 'inbox'),
    ...account.sessions.map((session) => ({
      name: session.title || session.preview || 'New session',
      hint: 'session',
      icon: 'message',
      run: () => goTo(`sessions/${session.session_id}`),
    })),
    page('Tools and servers', 'tools', 'tools'),
    page('Memories', 'memories', 'memory'),
    page('Usage', 'usage', 'usage'),
    {name: 'Change the color theme', hint: 'action', icon: 'theme', run: nextTheme},
    {name: 'Keyboard shortcuts', hint: 'action', icon: 'question', run: () => setDialog('shortcuts')},
  ];
}

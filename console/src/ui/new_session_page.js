/** The first view: a question, and what may be asked. */

import {html, useState} from '../../vendor/preact.js';
import {Composer} from './composer.js';
import {IconButton} from './elements.js';
import {Icon, Mark} from './icons.js';
import {SessionSettingsDialog} from './session_settings.js';

/** @typedef {import('./app_context.js').AppContext} AppContext */

const DEMO_QUESTIONS = [
  {text: 'what is broken?', why: 'Looks at all namespaces and explains each failure'},
  {text: 'why is payments-api crashing?', why: 'Reads logs and descriptions of one workload'},
  {text: 'roll back storefront', why: 'A change: you see the diff before it runs'},
  {text: 'scale checkout to 3', why: 'Another change to approve, edit or deny'},
];
const QUESTIONS = [
  {text: 'What is broken in the cluster right now?', why: 'Pods, events and rollouts in all namespaces'},
  {text: 'Which pods restarted in the last hour, and why?', why: 'Restarts with the logs before them'},
  {text: 'What changed before the first warning event?', why: 'Rollouts and events in the order of time'},
  {text: 'Which nodes are under pressure?', why: 'Capacity, requests and conditions'},
];

/** @param {{app: AppContext}} props */
export function NewSessionPage({app}) {
  const {info} = app.account;
  const [settings, setSettings] = useState(/** @type {any} */ ({}));
  const [dialog, setDialog] = useState(false);
  const [busy, setBusy] = useState(false);
  const shown = {provider: info?.default_provider, model: info?.default_model, ...settings};
  const start = async (/** @type {string} */ text, /** @type {any[]} */ attachments = []) => {
    setBusy(true);
    const started = await app.startSession({text, attachments}, settings).then(
      () => true,
      (problem) => {
        app.showProblem(problem);
        return false;
      },
    );
    setBusy(false);
    return started;
  };
  const questions = info?.mode === 'demo' ? DEMO_QUESTIONS : QUESTIONS;
  return html`<div class="session">
    <div class="session-main">
      <header class="page-head bare"><${IconButton} icon="menu" label="Sessions and pages" kind="menu-button" onClick=${app.openMenu} />
        </header>
      <main class="scroller" id="main" tabindex="0">
        <div class="welcome">
          <${Mark} />
          <h1>What is going on in the cluster?</h1>
          <p class="lead">Ask in your own words. k8sops looks by itself; every change waits for your approval, with a diff.</p>
          ${info?.notice && html`<p class="hint">${info.notice}</p>`}
          <${ReadinessHints} info=${info} />
          <${Composer} draftKey="new" running=${false} disabled=${busy ? 'Starting…' : ''} settings=${info && shown} onSend=${(/** @type {string} */ text, /** @type {any} */ _, /** @type {any} */ attachments) => start(text, attachments)}
            onSettings=${() => setDialog(true)} onProblem=${app.showProblem} />
          <ul class="questions" aria-label="Questions to begin with">
            ${questions.map((question) => html`<li><button type="button" disabled=${busy} onClick=${() => start(question.text)}>
              <span class="question-text">${question.text}</span><span class="question-why">${question.why}</span>
            </button></li>`)}
          </ul>
        </div>
      </main>
    </div>
    ${dialog && html`<${SessionSettingsDialog} sessionId="" settings=${shown} onClose=${() => setDialog(false)} onDraft=${setSettings} />`}
  </div>`;
}

/** @param {{info: import('../../types/wire').ServiceInfo | undefined}} props */
function ReadinessHints({info}) {
  if (!info) return null;
  const down = info.mcp_servers.filter((server) => !server.connected);
  if (!info.mcp_servers.length) {
    return html`<p class="hint warning"><${Icon} name="warning" /> <span>No MCP server is configured, so there is no cluster to look at. Set <code>MCP_SERVER_URL</code>, or list servers in <code>mcp.servers</code> of the configuration.</span></p>`;
  }
  if (!down.length) return null;
  return html`<p class="hint warning"><${Icon} name="warning" /> <span>Not connected: ${down.map((server) => server.name).join(', ')}. <a
    href="#/tools">See why</a></span></p>`;
}

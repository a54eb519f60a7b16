/** The MCP servers with their health, and the tools with their class and the reason for it. */

import {html, useState} from '../../vendor/preact.js';
import {countOf} from '../view/format.js';
import {showInvisible} from '../view/visible_text.js';
import {callApi} from '../wire/api.js';
import {EmptyState, ProblemLine, useLoaded} from './elements.js';
import {Icon} from './icons.js';
import {PageFrame} from './page_frame.js';

/** @typedef {import('./app_context.js').AppContext} AppContext */
/** @typedef {import('../../types/wire').ToolList} ToolList */
/** @typedef {import('../../types/wire').ToolInfo} ToolInfo */

const GATES = {open: 'runs at once', trusted: 'runs at once', ask: 'asks first', deny: 'refused'};
const OFFERS = {always: '', on_search: 'found by search', never: 'not offered'};

/** @param {{app: AppContext}} props */
export function ToolsPage({app}) {
  const tools = useLoaded(() => /** @type {Promise<ToolList>} */ (callApi('GET', 'tools')), []);
  const [query, setQuery] = useState('');
  const [effect, setEffect] = useState('');
  const [busy, setBusy] = useState(false);
  const servers = app.account.info?.mcp_servers ?? [];
  const refresh = async () => {
    setBusy(true);
    await callApi('POST', 'tools/refresh').then(tools.reload, app.showProblem);
    await app.refresh();
    setBusy(false);
  };
  const needle = query.toLowerCase();
  const all = tools.value?.tools ?? [];
  const shown = all.filter((tool) => (!effect || (effect === 'read') === (tool.effect === 'read')) && `${tool.name} ${tool.description} ${tool.server}`.toLowerCase().includes(needle));
  const actions = html`<button type="button" class="button" disabled=${busy} onClick=${refresh}>
    <${Icon} name="takeover" /> ${busy ? 'Asking…' : 'Ask the servers again'}</button>`;
  return html`<${PageFrame} title="Tools" subtitle=${countOf(all.length, 'tool')} actions=${actions} app=${app}>
    <${ProblemLine} problem=${tools.problem} />
    <section aria-label="Servers"><ul class="servers">${servers.map((server) => html`<li class="server ${server.status}">
      <span class="dot" aria-hidden="true" />
      <div><strong>${server.name}</strong> <span class="muted">${server.transport} · ${countOf(server.tools, 'tool')}</span>
        <p>${server.status}${server.error ? html`: <span class="problem-text">${showInvisible(server.error)}</span>` : ''}</p></div>
    </li>`)}</ul></section>
    ${!servers.length && html`<${EmptyState} icon="tools" title="No MCP server is configured"
      text=${html`Tools come from MCP servers. Set <code>MCP_SERVER_URL</code> or <code>MCP_SERVER_COMMAND</code>, or list servers under <code>mcp.servers</code> in the configuration, and start the service again.`} />`}
    ${all.length > 0 && html`<div class="filters">
      <input type="search" placeholder="Search tools" aria-label="Search tools" value=${query}
        onInput=${(/** @type {any} */ event) => setQuery(event.target.value)} />
      <div class="segments" role="group" aria-label="Effect">
        ${[['', 'All'], ['read', 'Looks'], ['change', 'Changes']].map(([value, name]) => html`<button type="button"
          aria-pressed=${effect === value} onClick=${() => setEffect(value)}>${name}</button>`)}
      </div>
    </div>
    <ul class="tool-list">${shown.map((tool) => html`<${ToolRow} key=${`${tool.server}/${tool.name}`} tool=${tool} />`)}</ul>
    ${!shown.length && html`<p class="muted center">No tool matches.</p>`}`}
    ${(tools.value?.left_out.length ?? 0) > 0 && html`<section><h2>Left out</h2><p
      class="muted">The servers list these, and no model gets them.</p>
      <ul class="tool-list">${tools.value?.left_out.map((tool) => html`<li class="tool-row"><div class="tool-row-head">
        <code>${tool.remote_name}</code><span class="muted">${tool.server}</span></div><p class="muted">${tool.reason}</p></li>`)}</ul>
          </section>`}
  <//>`;
}

/** @param {{tool: ToolInfo}} props */
function ToolRow({tool}) {
  const parameters = Object.entries(/** @type {any} */ (tool.input_schema)?.properties ?? {});
  const required = new Set(/** @type {any} */ (tool.input_schema)?.required ?? []);
  const isRead = tool.effect === 'read';
  return html`<li><details class="tool-row">
    <summary>
      <span class="tool-chevron"><${Icon} name="chevron" /></span>
      <code class="tool-name">${tool.name}</code>
      <span class="ellipsis muted">${showInvisible(tool.description).split('\n')[0]}</span>
      <span class="badge ${isRead ? 'read' : 'change'}">${tool.effect}</span>
      <span class="tool-gate ${tool.gate}">${GATES[tool.gate]}</span>
    </summary>
    <div class="tool-row-body">
      <p>${showInvisible(tool.description)}</p>
      <dl class="facts">
        <div><dt>Server</dt><dd>${tool.server}</dd></div>
        <div><dt>Why</dt><dd>${tool.reason}</dd></div>
        ${OFFERS[tool.offer] && html`<div><dt>Offered</dt><dd>${OFFERS[tool.offer]}</dd></div>`}
      </dl>
      ${parameters.length > 0 && html`<table class="parameters"><thead><tr><th>Parameter</th><th>Type</th><th>Meaning</th></tr></thead>
        <tbody>
        ${parameters.map(([name, property]) => html`<tr><td><code>${name}</code>${required.has(name) ? html` <span
          class="muted">required</span>` : ''}</td><td>${String(/** @type {any} */ (property).type ?? '')}</td>
            <td>${showInvisible(String(/** @type {any} */ (property).description ?? ''))}</td></tr>`)}
      </tbody></table>`}
    </div>
  </details></li>`;
}

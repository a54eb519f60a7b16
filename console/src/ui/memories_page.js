/** What k8sops remembers about the caller's clusters, theirs to search, correct and erase. */

import {html, useEffect, useState} from '../../vendor/preact.js';
import {formatAge} from '../view/format.js';
import {showInvisible} from '../view/visible_text.js';
import {callApi} from '../wire/api.js';
import {serviceNow} from '../wire/clock.js';
import {EmptyState, IconButton, ModalDialog, ProblemLine, useLoaded} from './elements.js';
import {PageFrame} from './page_frame.js';

/** @typedef {import('./app_context.js').AppContext} AppContext */
/** @typedef {import('../../types/wire').MemoryEntry} MemoryEntry */

const KINDS = {semantic: 'fact', episodic: 'incident'};
const SEARCH_DELAY_MS = 250;

/** @param {{app: AppContext}} props */
export function MemoriesPage({app}) {
  const [query, setQuery] = useState('');
  const [searched, setSearched] = useState('');
  const [kind, setKind] = useState('');
  const [erasing, setErasing] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setSearched(query.trim()), SEARCH_DELAY_MS);
    return () => clearTimeout(timer);
  }, [query]);
  const parameters = new URLSearchParams({limit: '200', ...(searched && {query: searched}), ...(kind && {kind})});
  const found = useLoaded(() => /** @type {Promise<{memories: MemoryEntry[]}>} */ (callApi('GET', `memories?${parameters}`)), [searched, kind]);
  const memories = found.value?.memories ?? [];
  const isEmpty = found.value && !memories.length && !searched && !kind;
  const enabled = app.account.info?.long_term_memory;
  const eraseAll = async () => {
    await callApi('DELETE', 'memories').then(found.reload, app.showProblem);
    setErasing(false);
  };
  const actions = memories.length > 0 && html`<button type="button" class="button deny"
    onClick=${() => setErasing(true)}>Erase all…</button>`;
  return html`<${PageFrame} title="Memories" app=${app} actions=${actions}>
    <p class="lead">What k8sops has learned in your sessions. It is recalled when it fits a question, and it is yours: correct or erase it here.</p>
    ${enabled === false && html`<p class="hint">Long-term memory is off on this service, so nothing new is remembered. <code>MEMORY_LONG_TERM_ENABLED=true</code> turns it on.</p>`}
    <${ProblemLine} problem=${found.problem} />
    ${isEmpty
      ? html`<${EmptyState} icon="memory" title="Nothing is remembered yet"
        text="Facts about your environment, and what past incidents taught, appear here after sessions with long-term memory." />`
      : html`<div class="filters">
          <input type="search" placeholder="Search by meaning" aria-label="Search memories" value=${query}
            onInput=${(/** @type {any} */ event) => setQuery(event.target.value)} />
          <div class="segments" role="group" aria-label="Kind">
            ${[['', 'All'], ['semantic', 'Facts'], ['episodic', 'Incidents']].map(([value, name]) => html`<button type="button"
              aria-pressed=${kind === value} onClick=${() => setKind(value)}>${name}</button>`)}
          </div>
        </div>`}
    <ul class="memory-list">${memories.map((memory) => html`<${MemoryRow} key=${memory.id} memory=${memory} app=${app}
      onChanged=${found.reload} />`)}</ul>
    ${found.value && !memories.length && !isEmpty && html`<p class="muted center">No memory matches.</p>`}
    ${erasing && html`<${ModalDialog} title="Erase all memories?" onClose=${() => setErasing(false)}>
      <p>All of your memories are erased, including those that are not shown here. This cannot be undone.</p>
      <div class="buttons end"><button type="button" class="button quiet" onClick=${() => setErasing(false)}>Keep them</button><button
        type="button" class="button deny solid" onClick=${eraseAll}>Erase all</button></div>
    <//>`}
  <//>`;
}

/** @param {{memory: MemoryEntry, app: AppContext, onChanged: () => void}} props */
function MemoryRow({memory, app, onChanged}) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      await callApi('PATCH', `memories/${memory.id}`, {body: {content: text}});
      setText(null);
      onChanged();
    } catch (found) {
      setProblem(found);
    }
  };
  const erase = () => callApi('DELETE', `memories/${memory.id}`).then(onChanged, app.showProblem);
  if (text !== null) {
    return html`<li class="memory"><form class="form" onSubmit=${save}>
      <label class="field"><span>Correct this memory</span><textarea rows="3" maxlength="2000" value=${text}
        onInput=${(/** @type {any} */ event) => setText(event.target.value)} /></label>
      <${ProblemLine} problem=${problem} />
      <div class="buttons"><button class="button primary" disabled=${!text.trim()}>Save</button><button type="button" class="button quiet"
        onClick=${() => setText(null)}>Back</button></div>
    </form></li>`;
  }
  return html`<li class="memory">
    <div class="memory-body">
      <p>${showInvisible(memory.content)}</p>
      <p class="memory-facts"><span class="badge">${KINDS[memory.kind]}</span>
        ${(memory.tags ?? []).map((tag) => html`<span class="tag">${tag}</span>`)}
        <span>${formatAge(memory.updated_at, serviceNow())}</span>
        ${memory.source && html`<a href="#/sessions/${memory.source.session_id}">from a session</a>`}
        ${memory.score != null && html`<span>${Math.round(memory.score * 100)} % match</span>`}</p>
    </div>
    <${IconButton} icon="edit" label="Correct" onClick=${() => setText(memory.content)} />
    <${IconButton} icon="trash" label="Erase" onClick=${erase} />
  </li>`;
}

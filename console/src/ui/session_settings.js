/** The settings of a session: the model, how it answers, and whether it remembers. */

import {html, useState} from '../../vendor/preact.js';
import {callApi, sendCommand} from '../wire/api.js';
import {formatTokens} from '../view/format.js';
import {ModalDialog, ProblemLine, useLoaded} from './elements.js';

/** @typedef {import('../../types/wire').ProviderList} ProviderList */

const EFFORTS = ['off', 'low', 'medium', 'high'];

/**
 * @param {{sessionId: string, settings: any, onClose: () => void, onDraft?: (settings: object) => void}} props
 *   Without a session the settings are those of the next one, which `onDraft` gets.
 */
export function SessionSettingsDialog({sessionId, settings, onClose, onDraft}) {
  const providers = useLoaded(() => /** @type {Promise<ProviderList>} */ (callApi('GET', 'providers')), []);
  const [form, setForm] = useState(() => ({
    model: settings ? `${settings.provider}/${settings.model}` : '',
    temperature: settings?.temperature ?? '',
    max_tokens: settings?.max_tokens ?? '',
    reasoning: settings?.reasoning ?? '',
    memory: settings?.memory ?? true,
  }));
  const [problem, setProblem] = useState(/** @type {any} */ (null));
  const set = (/** @type {object} */ change) => setForm((old) => ({...old, ...change}));
  const choices = (providers.value?.providers ?? []).flatMap((provider) => provider.models.map((model) => ({value: `${provider.id}/${model.id}`, provider, model})));
  const chosen = choices.find((choice) => choice.value === form.model);
  const features = chosen?.model.features ?? [];

  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const [provider, ...model] = form.model.split('/');
    const optional = (/** @type {any} */ value) => (value === '' ? null : Number(value));
    const changed = {
      provider,
      model: model.join('/'),
      temperature: optional(form.temperature),
      max_tokens: optional(form.max_tokens),
      reasoning: form.reasoning || null,
      memory: form.memory,
    };
    try {
      if (onDraft) onDraft(changed);
      else await sendCommand(`sessions/${sessionId}/settings`, changed, {method: 'PATCH'});
      onClose();
    } catch (found) {
      setProblem(found);
    }
  };
  return html`<${ModalDialog} title="Session settings" onClose=${onClose}>
    <form class="form" onSubmit=${save}>
      <p class="muted">They apply from the next message on. The conversation stays, whichever model continues it.</p>
      <${ProblemLine} problem=${providers.problem} />
      <label class="field"><span>Model</span>
        <select value=${form.model} onChange=${(/** @type {any} */ event) => set({model: event.target.value})}>
          ${!chosen && form.model && html`<option value=${form.model}>${form.model}</option>`}
          ${(providers.value?.providers ?? []).map((provider) => html`<optgroup
            label=${`${provider.name}${provider.configured ? '' : ' (no key is configured)'}`}>
            ${provider.models.map((model) => html`<option value=${`${provider.id}/${model.id}`}
              disabled=${!provider.configured}>${model.name}</option>`)}
          </optgroup>`)}
        </select>
        ${chosen && html`<small>${chosen.model.description}${chosen.model.context_window ? ` Context: ${formatTokens(chosen.model.context_window)} tokens.` : ''}${chosen.model.prices ? ` $${chosen.model.prices.input} in, $${chosen.model.prices.output} out per million tokens.` : ''}</small>`}
      </label>
      <div class="field-row">
        <label class="field"><span>Reasoning</span>
          <select value=${form.reasoning} disabled=${chosen && !features.some((feature) => feature.startsWith('thinking'))}
            onChange=${(/** @type {any} */ event) => set({reasoning: event.target.value})}>
            <option value="">default</option>
            ${EFFORTS.map((effort) => html`<option value=${effort}>${effort}</option>`)}
          </select>
        </label>
        <label class="field"><span>Temperature</span>
          <input type="number" min="0" max="2" step="0.1" placeholder="default" value=${form.temperature}
            disabled=${chosen && !features.includes('temperature')} onInput=${(/** @type {any} */ event) => set({temperature: event.target.value})} />
        </label>
        <label class="field"><span>Most tokens per reply</span>
          <input type="number" min="1" step="1" placeholder="default" value=${form.max_tokens}
            onInput=${(/** @type {any} */ event) => set({max_tokens: event.target.value})} />
        </label>
      </div>
      <label class="check"><input type="checkbox" checked=${form.memory}
        onChange=${(/** @type {any} */ event) => set({memory: event.target.checked})} />
        <span>Long-term memory<small>Recalls what earlier sessions learned, and remembers what this one learns.</small></span></label>
      <${ProblemLine} problem=${problem} />
      <div class="buttons end">
        <button type="button" class="button quiet" onClick=${onClose}>Cancel</button>
        <button class="button primary">Save</button>
      </div>
    </form>
  <//>`;
}

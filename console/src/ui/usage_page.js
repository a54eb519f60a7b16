/** Tokens and money of the caller, by day and model, and what is left of today's budget. */

import {html} from '../../vendor/preact.js';
import {countOf, formatMoney, formatTokens} from '../view/format.js';
import {callApi} from '../wire/api.js';
import {EmptyState, ProblemLine, useLoaded} from './elements.js';
import {PageFrame} from './page_frame.js';

/** @typedef {import('../../types/wire').UsageReport} UsageReport */
/** @typedef {import('../../types/wire').TokenUsage} TokenUsage */

const DAYS = 30;

/** @param {{app: import('./app_context.js').AppContext}} props */
export function UsagePage({app}) {
  const from = new Date(Date.now() - (DAYS - 1) * 86_400_000).toISOString().slice(0, 10);
  const report = useLoaded(() => /** @type {Promise<UsageReport>} */ (callApi('GET', `usage?from=${from}`)), []);
  const usage = report.value;
  return html`<${PageFrame} title="Usage" subtitle="last ${DAYS} days, by days of UTC" app=${app}>
    <${ProblemLine} problem=${report.problem} />
    ${usage && html`
      <div class="tiles">
        <${Tile} name="Cost" value=${formatMoney(usage.total.cost_usd ?? 0)} />
        <${Tile} name="Tokens in" value=${formatTokens(usage.total.input_tokens ?? 0)}
          detail="${formatTokens(usage.total.cached_tokens ?? 0)} from cache" />
        <${Tile} name="Tokens out" value=${formatTokens(usage.total.output_tokens ?? 0)} />
        <${BudgetTile} today=${usage.today} />
      </div>
      ${usage.days.length
        ? html`<${DayTable} days=${usage.days} /><${ModelTable} models=${usage.models} />`
        : html`<${EmptyState} icon="usage" title="No usage in the last ${DAYS} days"
          text="Each call of a model is counted here with its tokens and its cost." />`}`}
  <//>`;
}

/** @param {{name: string, value: string, detail?: any}} props */
function Tile({name, value, detail}) {
  return html`<div class="tile"><span class="tile-name">${name}</span><span class="tile-value">${value}</span>${detail && html`<span
    class="tile-detail">${detail}</span>`}</div>`;
}

/** @param {{today: UsageReport['today']}} props */
function BudgetTile({today}) {
  const {budget_usd: budget, budget_tokens: tokens, used} = today;
  if (budget != null) {
    return html`<${Tile} name="Today" value="${formatMoney(used.cost_usd ?? 0)} of ${formatMoney(budget)}" detail=${html`<meter min="0"
      max=${budget} high=${budget * 0.8} value=${used.cost_usd ?? 0} aria-label="Used of today's budget" />`} />`;
  }
  if (tokens != null) {
    const spent = (used.input_tokens ?? 0) + (used.output_tokens ?? 0);
    return html`<${Tile} name="Today" value="${formatTokens(spent)} of ${formatTokens(tokens)}" detail=${html`<meter min="0" max=${tokens}
      high=${tokens * 0.8} value=${spent} aria-label="Used of today's budget" />`} />`;
  }
  return html`<${Tile} name="Today" value=${formatMoney(used.cost_usd ?? 0)} detail="no budget is set" />`;
}

/** @param {{days: UsageReport['days']}} props */
function DayTable({days}) {
  const newestFirst = [...days].sort((a, b) => (a.date < b.date ? 1 : -1));
  const weight = (/** @type {TokenUsage} */ used) => (used.input_tokens ?? 0) + (used.output_tokens ?? 0);
  const most = Math.max(1, ...days.map((day) => weight(day.total)));
  return html`<h2>Days</h2><div class="table-box" tabindex="0" role="group" aria-label="Days"><table class="data"><thead><tr><th>Day</th>
    <th>Tokens</th><th class="number">In</th><th class="number">Out</th><th class="number">Sessions</th><th class="number">Cost</th></tr>
      </thead><tbody>
    ${newestFirst.map((day) => html`<tr><td>${day.date}</td>
      <td class="bar-cell"><span class="bar" style=${{width: `${(100 * weight(day.total)) / most}%`}} /></td>
      <td class="number">${formatTokens(day.total.input_tokens ?? 0)}</td><td
        class="number">${formatTokens(day.total.output_tokens ?? 0)}</td>
      <td class="number">${day.sessions}</td><td class="number">${formatMoney(day.total.cost_usd ?? 0)}</td></tr>`)}
  </tbody></table></div>`;
}

/** @param {{models: UsageReport['models']}} props */
function ModelTable({models}) {
  return html`<h2>${countOf(models.length, 'model')}</h2><div class="table-box" tabindex="0" role="group" aria-label="Models"><table
    class="data"><thead><tr><th>Model</th><th class="number">In</th><th class="number">Out</th><th class="number">Cost</th></tr></thead>
      <tbody>
    ${models.map(({provider, model, usage}) => html`<tr><td>${provider}/${model}</td><td
      class="number">${formatTokens(usage.input_tokens ?? 0)}</td><td class="number">${formatTokens(usage.output_tokens ?? 0)}</td><td
        class="number">${formatMoney(usage.cost_usd ?? 0)}</td></tr>`)}
  </tbody></table></div>`;
}

/** Everything that waits for the caller, over all sessions. */

import {html} from '../../vendor/preact.js';
import {ApprovalCard} from './approval_card.js';
import {EmptyState} from './elements.js';
import {InputCard} from './input_form.js';
import {PageFrame} from './page_frame.js';

/** @typedef {import('./app_context.js').AppContext} AppContext */

/** @param {{app: AppContext}} props */
export function InboxPage({app}) {
  const {approvals, inputs, sessions, info} = app.account;
  const own = new Map(sessions.map((session) => [session.session_id, session]));
  const count = approvals.length + inputs.length;
  const what = [[approvals.length, 'change'], [inputs.length, 'question']].filter(([number]) => number);
  const words = what.map(([number, name]) => `${number} ${name}${number === 1 ? '' : 's'}`).join(' and ');
  const link = (/** @type {string} */ id) => {
    const session = own.get(id);
    return html`In <a href="#/sessions/${id}">${session?.title || session?.preview || 'a session'}</a>`;
  };
  return html`<${PageFrame} title="Inbox" subtitle=${count ? `${words} ${count === 1 ? 'waits' : 'wait'} for your answer` : ''} app=${app}>
    ${!count && html`<${EmptyState} icon="inbox" title="Nothing waits for you"
      text="Changes that need your approval and questions of servers appear here the moment they are asked, from all sessions." />`}
    <div class="cards">
      ${approvals.map((approval) => {
        const isOwn = own.has(approval.session_id);
        const context = html`<p class="approval-context">${isOwn
          ? link(approval.session_id) : html`In a session of <strong>${approval.user_id}</strong>`}</p>`;
        return html`<${ApprovalCard} key=${approval.approval_id} request=${approval} sessionId=${approval.session_id}
          context=${context} canAnswer onAnswered=${app.refresh} />`;
      })}
      ${inputs.map((input) => html`<div key=${input.input_id}>
        <p class="approval-context">${link(input.session_id)}</p>
        <${InputCard} sessionId=${input.session_id} owner=${info?.user_id ?? ''}
          item=${{key: `q:${input.input_id}`, request: input, resolution: null}} />
      </div>`)}
    </div>
  <//>`;
}

/** Everything that waits for the caller, over all sessions. */

import {html} from '../../vendor/preact.js';
import {ApprovalCard} from './approval_card.js';
import {EmptyState} from './elements.js';
import {PageFrame} from './page_frame.js';

/** @typedef {import('./app_context.js').AppContext} AppContext */

/** @param {{app: AppContext}} props */
export function InboxPage({app}) {
  const {approvals, sessions} = app.account;
  const own = new Map(sessions.map((session) => [session.session_id, session]));
  const words = approvals.length === 1 ? '1 change waits for your answer' : `${approvals.length} changes wait for your answer`;
  return html`<${PageFrame} title="Inbox" subtitle=${approvals.length ? words : ''} app=${app}>
    ${!approvals.length && html`<${EmptyState} icon="inbox" title="Nothing waits for you"
      text="Changes that need your approval appear here the moment they are asked for, from all sessions. Looks never wait." />`}
    <div class="cards">
      ${approvals.map((approval) => {
        const session = own.get(approval.session_id);
        const context = session
          ? html`<p class="approval-context">In <a href="#/sessions/${approval.session_id}">${session.title || session.preview || 'a session'}</a></p>`
          : html`<p class="approval-context">In a session of <strong>${approval.user_id}</strong></p>`;
        return html`<${ApprovalCard} key=${approval.approval_id} request=${approval} sessionId=${approval.session_id}
          context=${context} canAnswer onAnswered=${app.refresh} />`;
      })}
    </div>
  <//>`;
}

/** The frame of a view that is no conversation. */

import {html} from '../../vendor/preact.js';
import {IconButton} from './elements.js';

/** @param {{title: string, subtitle?: any, actions?: any, children: any, app: import('./app_context.js').AppContext}} props */
export function PageFrame({title, subtitle = '', actions = null, children, app}) {
  return html`<div class="page">
    <header class="page-head">
      <${IconButton} icon="menu" label="Sessions and pages" kind="menu-button" onClick=${app.openMenu} />
      <h1>${title}</h1>
      ${subtitle && html`<span class="page-subtitle" role="status">${subtitle}</span>`}
      <span class="grow" />
      ${actions}
    </header>
    <main class="scroller" id="main" tabindex="0"><div class="page-body">${children}</div></main>
  </div>`;
}

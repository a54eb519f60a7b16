/** Starts the console. */

import {App} from './ui/app.js';
import {applyTheme} from './ui/theme.js';
import {html, render} from '../vendor/preact.js';

applyTheme();
render(html`<${App} />`, /** @type {Element} */ (document.getElementById('app')));

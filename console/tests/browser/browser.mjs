/** A browser for tests, and what is checked of every page in it. */

import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';

const MODULES = process.env.K8SOPS_TEST_CONSOLE_MODULES ?? '';
const require = createRequire(join(MODULES, 'package.json'));
const {chromium} = require(join(MODULES, 'playwright-core'));
const AXE = readFileSync(join(MODULES, 'axe-core/axe.min.js'), 'utf8');

/** Where pictures of the runs go; without it none are made. */
const PICTURES = process.env.K8SOPS_TEST_PICTURES;

export const WIDTHS = [1440, 1024, 390];

/**
 * @typedef {object} Visit
 * @property {any} page Of Playwright.
 * @property {string[]} problems Errors of the page, and violations of its policy.
 */

/** @returns {Promise<any>} A browser of Playwright. */
export function launchBrowser() {
  return chromium.launch({executablePath: process.env.K8SOPS_TEST_CHROMIUM, args: ['--no-sandbox', '--font-render-hinting=none']});
}

/**
 * @param {any} browser
 * @param {string} url
 * @param {{width?: number, height?: number, scheme?: 'light' | 'dark', token?: string, ignored?: RegExp}} [options]
 *   `ignored` are errors of the network that a test causes itself.
 * @returns {Promise<Visit>}
 */
export async function visit(browser, url, {width = 1440, height = 900, scheme = 'light', token, ignored} = {}) {
  const context = await browser.newContext({viewport: {width, height}, colorScheme: scheme, reducedMotion: 'reduce', bypassCSP: false});
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await context.newPage();
  page.setDefaultTimeout(90_000);
  const problems = /** @type {string[]} */ ([]);
  const report = (/** @type {string} */ text) => {
    if (!ignored?.test(text)) problems.push(text);
  };
  page.on('pageerror', (/** @type {Error} */ error) => report(String(error.stack)));
  page.on('console', (/** @type {any} */ message) => message.type() === 'error' && report(message.text()));
  page.on('dialog', (/** @type {any} */ dialog) => {
    report(`a dialog was opened: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('request', (/** @type {any} */ request) => {
    if (!request.url().startsWith(url) && !/^(blob|data|ws):/.test(request.url())) report(`asked for ${request.url()}`);
  });
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) => console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  if (token) await page.addInitScript((/** @type {string} */ value) => sessionStorage.setItem('k8sops.token', value), token);
  await page.goto(`${url}/`);
  return {page, problems};
}

/**
 * Checks a page as it is now: WCAG 2.2 AA, no scrolling sideways, and no errors so far.
 *
 * @param {Visit} visited
 * @param {string} what Names the view.
 */
export async function checkPage({page, problems}, what) {
  // A script of the test, and not of the page, whose policy holds for it.
  const session = await page.context().newCDPSession(page);
  await session.send('Runtime.evaluate', {expression: AXE});
  const found = await page.evaluate(() => /** @type {any} */ (window).axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}));
  const violations = found.violations.map((/** @type {any} */ violation) => `${violation.id}: ${violation.nodes.map((/** @type {any} */ node) => `${node.html} ${node.failureSummary}`).slice(0, 4).join('\n  ')}`);
  assert.deepEqual(violations, [], `${what}: accessibility`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${what}: ${overflow} pixels too wide`);
  assert.deepEqual(problems, [], `${what}: errors`);
}

/**
 * @param {any} page
 * @param {string} name
 */
export async function takePicture(page, name) {
  if (PICTURES) await page.screenshot({path: join(PICTURES, `${name}.png`)});
}

/**
 * Asks a question in the view that is open.
 *
 * @param {any} page
 * @param {string} text
 */
export async function ask(page, text) {
  await page.locator('#composer').fill(text);
  await page.keyboard.press('Enter');
}

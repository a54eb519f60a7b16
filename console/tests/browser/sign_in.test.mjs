/** Sign-in by the token of an issuer and by an authenticating proxy, without authentication, and after a login has expired. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, visit} from './browser.mjs';
import {startLoginProxy} from './login_proxy.mjs';
import {startScripted} from './scripted_service.mjs';
import {AUDIENCE, startIssuer} from './token_issuer.mjs';

const EXPECTED = /status of 401|Failed to load resource|WebSocket connection/;
const SIGN_IN = {name: 'Sign in to k8sops'};
const SIGNED_OUT = {name: 'You are not signed in'};
const WELCOME = {name: 'What is going on in the cluster?'};
const LOG = {name: 'app.log', mimeType: 'text/plain', buffer: Buffer.from('payment 4711 was refused\n')};

let browser;
before(async () => {
  browser = await launchBrowser();
});
after(() => browser.close());

/** Nothing of a credential is where other tabs, pages and servers read. */
async function checkNotShared(page, secret) {
  const shared = await page.evaluate(() => JSON.stringify([{...localStorage}, document.cookie, location.href]));
  assert.ok(!shared.includes(secret), shared);
}

async function signIn(page, token) {
  await page.getByLabel('API key or token').fill(token);
  await page.getByRole('button', {name: 'Sign in'}).click();
}

test('without authentication there is nothing to enter', async (t) => {
  const scripted = await startScripted({});
  t.after(scripted.stop);
  const visited = await visit(browser, scripted.service.url);
  await visited.page.getByRole('heading', WELCOME).waitFor();
  assert.equal(await visited.page.getByRole('button', {name: 'Sign out'}).count(), 0);
  await checkPage(visited, 'no authentication');
});

test('a token that expires brings the sign-in back, and nothing that was written is lost', async (t) => {
  const issuer = await startIssuer();
  t.after(issuer.close);
  // What has expired is accepted for a month, until the service is started with another tolerance.
  const env = {AUTH_MODE: 'jwt', AUTH_JWT_ISSUER: issuer.url, AUTH_JWT_AUDIENCE: AUDIENCE, AUTH_JWT_CLOCK_SKEW: '30d'};
  const scripted = await startScripted({scale: {call: {name: 'apply_change', arguments: {name: 'web', replicas: 3}}}}, {env});
  t.after(scripted.stop);
  const visited = await visit(browser, scripted.service.url, {ignored: EXPECTED});
  const {page} = visited;
  await page.getByRole('heading', SIGN_IN).waitFor();
  await signIn(page, 'not-a-token');
  await page.getByRole('alert').getByText('use one that your identity provider issues').waitFor();
  await checkPage(visited, 'a wrong token');
  const expired = issuer.issue('anna', -3600);
  await signIn(page, `Bearer ${expired}`);
  await page.getByRole('heading', WELCOME).waitFor();
  await checkNotShared(page, expired);
  await ask(page, 'hello');
  await page.getByText('Done ·').waitFor();
  await ask(page, 'scale the web');
  const card = page.locator('.approval-card');
  await card.getByRole('button', {name: 'Edit'}).click();
  const edited = card.getByRole('textbox', {name: 'Arguments to run with, as YAML'});
  await edited.fill('name: web\nreplicas: 5\n');
  await card.getByRole('textbox', {name: /^Comment/}).fill('3 are too few');
  await page.locator('#composer').fill('why is checkout slow?');
  await page.locator('input[type=file]').setInputFiles(LOG);
  await page.locator('.composer').getByText('app.log').waitFor();

  await scripted.service.kill();
  await scripted.restart({AUTH_JWT_CLOCK_SKEW: '1ms'});
  await page.getByRole('heading', SIGN_IN).waitFor();
  await page.getByRole('alert').getByText('the token has expired; get a new one').waitFor();
  await checkPage(visited, 'an expired token');
  const fresh = issuer.issue('anna', 3600);
  await signIn(page, fresh);
  await card.waitFor();
  assert.equal(await edited.inputValue(), 'name: web\nreplicas: 5\n');
  assert.equal(await page.locator('#composer').inputValue(), 'why is checkout slow?');
  await card.getByRole('button', {name: 'Approve as edited'}).click();
  await page.getByText('“3 are too few”').waitFor();
  await page.getByText('Done ·').nth(1).waitFor();
  await page.locator('.composer').getByText('app.log').waitFor();
  await page.keyboard.press('c');
  await page.locator('#composer').press('Enter');
  await page.locator('.message.user', {hasText: 'why is checkout slow?'}).getByText('app.log').first().waitFor();
  await checkNotShared(page, fresh);
});

test('a message that is sent after the proxy forgot the user is not lost', async (t) => {
  const env = {AUTH_MODE: 'proxy', AUTH_PROXY_USER_HEADER: 'X-Auth-Request-User', AUTH_PROXY_SOURCES: '127.0.0.1'};
  const scripted = await startScripted({}, {env});
  t.after(scripted.stop);
  const proxy = await startLoginProxy(scripted.service.url);
  t.after(proxy.stop);

  const firstViews = {passing: SIGNED_OUT, redirecting: {name: 'Log in here'}, refusing: {name: '401 Authorization Required'}};
  for (const [name, url] of Object.entries(proxy.urls)) {
    const visited = await visit(browser, url, {ignored: EXPECTED});
    const {page} = visited;
    const login = () => page.context().addCookies([{name: 'user', value: 'anna', url}]);
    await page.getByRole('heading', firstViews[name]).waitFor();
    if (name === 'passing') await checkPage(visited, 'no user');
    await login();
    await page.goto(`${url}/`);
    await page.getByRole('heading', WELCOME).waitFor();
    await ask(page, 'hello');
    await page.getByText('Done ·').waitFor();
    await page.context().clearCookies();
    await ask(page, 'and now?');
    await page.getByRole('heading', SIGNED_OUT).waitFor();
    await checkPage(visited, `${name}: signed out`);
    await login();
    await page.getByRole('button', {name: 'Try again'}).click();
    await page.getByText('Done ·').waitFor();
    assert.equal(await page.locator('#composer').inputValue(), 'and now?', name);
  }
});

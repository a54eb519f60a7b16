/** Sign-in by a key, and the two-person rule: one asks, another approves. */

import assert from 'node:assert/strict';
import {execFileSync} from 'node:child_process';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, takePicture, visit} from './browser.mjs';
import {startScripted} from './scripted_service.mjs';

const UNAUTHENTICATED = /status of 40[13]/;

let browser, scripted, folder;
const keys = {anna: '', ben: '', vera: ''};

/** Makes a key, and returns it with its entry. */
function makeKey(user, role) {
  const script = '"$0" key --user "$1" --role "$2" 2>&1';
  const said = execFileSync('sh', ['-c', script, process.env.K8SOPS_TEST_PROGRAM, user, role], {encoding: 'utf8'});
  return {key: /k8sops_[\w-]+/.exec(said)[0], entry: said.slice(said.indexOf('- user:'))};
}

before(async () => {
  browser = await launchBrowser();
  folder = mkdtempSync(join(tmpdir(), 'k8sops-keys-'));
  const [anna, ben, vera] = [makeKey('anna', 'user'), makeKey('ben', 'approver'), makeKey('vera', 'viewer')];
  writeFileSync(join(folder, 'keys.yaml'), anna.entry + ben.entry + vera.entry);
  Object.assign(keys, {anna: anna.key, ben: ben.key, vera: vera.key});
  const env = {AUTH_MODE: 'api_key', AUTH_API_KEYS_FILE: join(folder, 'keys.yaml'), TOOL_APPROVAL_BY: 'approver'};
  scripted = await startScripted({change: {call: {name: 'apply_change', arguments: {name: 'checkout', replicas: 3}}, text: 'Changed.'}}, {env});
});
after(async () => {
  await browser.close();
  await scripted.stop();
  rmSync(folder, {recursive: true});
});

test('a key is asked for, checked, and kept out of what other tabs and pages can read', async () => {
  const visited = await visit(browser, scripted.service.url, {ignored: UNAUTHENTICATED});
  const {page} = visited;
  await page.getByRole('heading', {name: 'Sign in to k8sops'}).waitFor();
  await checkPage(visited, 'sign-in');
  await takePicture(page, 'sign-in');
  await page.getByLabel('API key or token').fill('k8sops_wrong');
  await page.getByRole('button', {name: 'Sign in'}).click();
  await page.getByRole('alert').waitFor();
  await page.getByLabel('API key or token').fill(keys.anna);
  await page.getByLabel(/Stay signed in/).uncheck();
  await page.getByRole('button', {name: 'Sign in'}).click();
  await page.getByRole('heading', {name: 'What is going on in the cluster?'}).waitFor();
  const stored = await page.evaluate(() => JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href]));
  assert.ok(!stored.includes(keys.anna), stored);
  await page.reload();
  await page.getByRole('heading', {name: 'Sign in to k8sops'}).waitFor();
});

test('an approver answers in the inbox what the owner of the session cannot', async () => {
  const anna = await visit(browser, scripted.service.url, {token: keys.anna, ignored: UNAUTHENTICATED});
  const ben = await visit(browser, scripted.service.url, {token: keys.ben, ignored: UNAUTHENTICATED});
  await ben.page.getByRole('link', {name: /^Inbox/}).click();
  await ben.page.getByRole('heading', {name: 'Nothing waits for you'}).waitFor();
  await checkPage(ben, 'empty inbox');

  await ask(anna.page, 'change it');
  const own = anna.page.locator('.approval-card');
  await own.getByText('another person with the role approver').waitFor();
  assert.equal(await own.getByRole('button', {name: 'Approve'}).count(), 0);
  await checkPage(anna, 'own approval');

  const card = ben.page.locator('.approval-card');
  await card.getByText('In a session of anna').waitFor();
  await checkPage(ben, 'inbox');
  await takePicture(ben.page, 'approver');
  await card.getByRole('button', {name: 'Approve'}).click();
  await ben.page.getByRole('heading', {name: 'Nothing waits for you'}).waitFor();
  await anna.page.locator('.approval-result', {hasText: 'Approved by ben'}).waitFor();
  await anna.page.getByText('Done ·').waitFor();
  assert.equal(await ben.page.locator('.session-link').count(), 0);
});

test('what a viewer may not send is not lost', async () => {
  const visited = await visit(browser, scripted.service.url, {token: keys.vera, ignored: UNAUTHENTICATED});
  const {page} = visited;
  await ask(page, 'what is broken?');
  await page.getByText(/requires the role user or admin/).waitFor();
  assert.equal(await page.locator('#composer').inputValue(), 'what is broken?');
  await checkPage(visited, 'viewer');
});

test('a key that is revoked signs out', async () => {
  const {page} = await visit(browser, scripted.service.url, {token: keys.anna, ignored: UNAUTHENTICATED});
  await ask(page, 'hello');
  await page.getByText('Done ·').waitFor();
  writeFileSync(join(folder, 'keys.yaml'), '[]\n');
  await page.getByRole('heading', {name: 'Sign in to k8sops'}).waitFor();
});

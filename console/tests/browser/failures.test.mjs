/** The service dies, and two browsers look at one session. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, visit} from './browser.mjs';
import {startScripted} from './scripted_service.mjs';

const TEXT = 'The payments API restarts because its database host cannot be resolved. '.repeat(6);
const NETWORK = /ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_INCOMPLETE|ERR_EMPTY_RESPONSE|WebSocket connection|status of 503/;

let browser, scripted;
before(async () => {
  browser = await launchBrowser();
  scripted = await startScripted({
    restarting: {text: TEXT, delayMs: 60},
    'wait long': {call: {name: 'wait_long', arguments: {}}, text: 'Waited.'},
    environment: {call: {name: 'ask_user', arguments: {}}, text: 'Thank you.'},
    change: {call: {name: 'apply_change', arguments: {name: 'checkout', replicas: 3}}, text: 'Changed.'},
  });
});
after(async () => {
  await browser.close();
  await scripted.stop();
});

test('a page goes on where it was after the service was killed', async () => {
  const visited = await visit(browser, scripted.service.url, {ignored: NETWORK});
  const {page} = visited;
  await ask(page, 'why is it restarting?');
  await page.waitForFunction(() => (document.querySelector('.message.streaming')?.textContent.length ?? 0) > 120);
  await scripted.service.kill();
  await page.locator('.connection.waiting, .connection.connecting').waitFor();
  await ask(page, 'and the rest?');
  await page.getByText('sending…').waitFor();
  await scripted.restart();
  await page.locator('.connection.live').waitFor();
  await page.locator('.notice.takeover').waitFor();
  await page.getByText('Done ·').nth(1).waitFor();
  const answers = await page.locator('.message.assistant').allTextContents();
  assert.equal(answers.length, 2);
  assert.equal(answers[0].trim(), TEXT.trim());
  assert.equal(await page.locator('.message.user').count(), 2);
  await checkPage(visited, 'after the restart');
});

test('two browsers see the same session, and each sees what the other does', async () => {
  const first = await visit(browser, scripted.service.url);
  await ask(first.page, 'change it');
  await first.page.locator('.approval-card').waitFor();
  const second = await visit(browser, scripted.service.url, {width: 1024});
  await second.page.goto(first.page.url());
  await second.page.locator('.approval-card').getByRole('button', {name: 'Approve'}).click();
  for (const {page} of [first, second]) {
    await page.locator('.approval-result', {hasText: 'Approved by you'}).waitFor();
    await page.getByText('Done ·').waitFor();
  }
  const read = (page) => page.locator('.conversation').evaluate((element) => element.innerText);
  assert.equal(await read(first.page), await read(second.page));
  await second.page.locator('button.session-title').click();
  await second.page.locator('input.session-title').fill('Checkout scaled');
  await second.page.keyboard.press('Enter');
  await first.page.locator('button.session-title', {hasText: 'Checkout scaled'}).waitFor();
  await checkPage(first, 'first browser');
  await checkPage(second, 'second browser');
});

test('progress is shown, a message waits in the queue, and a run is stopped', async () => {
  const visited = await visit(browser, scripted.service.url);
  const {page} = visited;
  await ask(page, 'wait long');
  await page.getByText(/step \d of 4/).waitFor();
  await ask(page, 'the second message');
  await page.getByText('queued, runs next').waitFor();
  await checkPage(visited, 'progress and queue');
  await page.getByText('Done ·').nth(1).waitFor();
  assert.equal(await page.locator('.outgoing').count(), 0);
  await ask(page, 'why is it restarting?');
  await page.locator('.message.streaming').waitFor();
  await page.getByRole('button', {name: 'Stop'}).click();
  await page.getByText('Stopped ·').waitFor();
});

test('the question of a server is a form', async () => {
  const visited = await visit(browser, scripted.service.url);
  const {page} = visited;
  await ask(page, 'which environment?');
  const card = page.locator('.approval-card.question');
  await card.getByText('Which <b>environment</b> is affected?').waitFor();
  await checkPage(visited, 'question');
  await card.getByLabel('Environment').selectOption('staging');
  await card.getByLabel('Pods').fill('4');
  await card.getByLabel('On-call was paged').check();
  await card.getByRole('button', {name: 'Answer'}).click();
  await page.getByText('Answered by you').waitFor();
  await page.getByText('Done ·').waitFor();
  await page.locator('.tool summary').click();
  const output = await page.locator('.lines').textContent();
  assert.ok(output.includes('"environment":"staging"') && output.includes('"pods":4') && output.includes('"paged":true'), output);
});

test('a session is deleted, and that is undone', async () => {
  const visited = await visit(browser, scripted.service.url);
  const {page} = visited;
  await ask(page, 'hello');
  await page.getByText('Done ·').waitFor();
  const link = page.locator('.session-link', {hasText: 'hello'});
  await link.waitFor();
  await page.getByRole('button', {name: 'Delete this session'}).click();
  await page.getByText('Deleted “hello”').waitFor();
  await link.waitFor({state: 'detached'});
  await page.getByRole('button', {name: 'Undo'}).click();
  await link.click();
  await page.locator('.message.user', {hasText: 'hello'}).waitFor();
  await page.getByRole('button', {name: 'Delete this session'}).click();
  const id = page.url();
  await page.waitForFunction(() => !document.querySelector('.toast'), null, {timeout: 20_000});
  const sessions = await scripted.service.call('GET', '/v1/sessions?limit=200').catch(async () => (await scripted.restart()).call('GET', '/v1/sessions?limit=200'));
  assert.ok(!sessions.sessions.some((session) => id.includes(session.session_id)));
  assert.ok(!sessions.sessions.some((session) => session.title === 'hello'));
});

test('a session that does not exist is named, and leads on', async () => {
  const visited = await visit(browser, scripted.service.url, {ignored: /status of 404|WebSocket connection/});
  const {page} = visited;
  await page.evaluate(() => (location.hash = '#/sessions/018f0000-0000-7000-8000-000000000000'));
  await page.getByRole('heading', {name: 'This session does not exist any more'}).waitFor();
  await checkPage(visited, 'missing session');
  await page.getByRole('main').getByRole('link', {name: 'New session'}).click();
  await page.getByRole('heading', {name: 'What is going on in the cluster?'}).waitFor();
});

test('an address that changes while the page starts is followed', async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  // Modules have run by then, and nothing was painted yet.
  await page.addInitScript(() => addEventListener('DOMContentLoaded', () => (location.hash = '#/tools')));
  await page.goto(`${scripted.service.url}/`);
  await page.getByRole('heading', {name: 'Tools', exact: true}).waitFor({timeout: 60_000});
  await context.close();
});

test('a store that keeps only the newest events still shows the whole conversation', async () => {
  const shallow = await startScripted({}, {env: {MEMORY_SHALLOW: 'true'}});
  const visited = await visit(browser, shallow.service.url);
  const {page} = visited;
  for (let turn = 0; turn < 3; turn++) {
    await ask(page, `question ${turn}`);
    await page.locator('.run-end').nth(turn).waitFor();
  }
  await page.reload();
  await page.locator('.message.user', {hasText: 'question 0'}).waitFor();
  assert.equal(await page.locator('.message.assistant').count(), 3);
  await checkPage(visited, 'shallow store');
  await shallow.stop();
});

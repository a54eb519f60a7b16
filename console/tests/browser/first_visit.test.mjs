/** The first visit of the demo: a question, its answer as it is written, a change with its diff, and the timeline. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, takePicture, visit, WIDTHS} from './browser.mjs';
import {startDemo} from './service.mjs';

let browser, demo;
before(async () => {
  [browser, demo] = await Promise.all([launchBrowser(), startDemo()]);
});
after(async () => {
  await browser.close();
  await demo.stop();
});

test('question, stream, approval with diff, timeline', async () => {
  const visited = await visit(browser, demo.url);
  const {page} = visited;
  await page.getByRole('heading', {name: 'What is going on in the cluster?'}).waitFor();
  await checkPage(visited, 'new session');
  await page.getByRole('button', {name: 'what is broken?'}).click();

  await page.locator('.message.assistant.streaming').waitFor();
  const before = (await page.locator('.message.streaming').textContent()).length;
  await page.waitForFunction((length) => (document.querySelector('.message.streaming')?.textContent.length ?? 0) > length, before);
  await page.getByText('Done ·').waitFor();
  await page.getByText('CrashLoopBackOff').first().waitFor();
  assert.ok((await page.locator('.tool').count()) >= 8);
  await checkPage(visited, 'answer');

  await page.locator('.tool summary', {hasText: 'pods_log'}).click();
  const output = page.locator('.tool details[open] .lines');
  await output.getByRole('searchbox').fill('FATAL');
  await output.getByText('1 of 1').waitFor();
  assert.match(await page.locator('.tool details[open] .code-block pre').textContent(), /^namespace: payments$/m);
  await checkPage(visited, 'open tool');

  await ask(page, 'roll back storefront');
  const card = page.locator('.approval-card');
  await card.getByRole('heading', {name: 'shop/storefront: storefront image nginx:1.72 → nginx:1.26'}).waitFor();
  await card.locator('.diff-split .removed', {hasText: 'nginx:1.72'}).waitFor();
  await card.locator('.diff-split .added', {hasText: 'nginx:1.26'}).waitFor();
  await page.waitForFunction(() => document.title.startsWith('(1) '));
  await checkPage(visited, 'approval');
  await card.getByRole('button', {name: 'Approve'}).click();
  await page.locator('.approval-result', {hasText: 'Approved by you'}).waitFor();
  await page.locator('.tool.change.ok').waitFor();
  await page.locator('.run-end').nth(1).waitFor();

  await page.locator('.tool', {hasText: 'rollout_status'}).waitFor();
  const conversation = await page.locator('.conversation').textContent();
  assert.ok(!conversation.includes('[k8sops:'), conversation);

  const timeline = page.getByRole('complementary', {name: 'Timeline'});
  for (const kind of ['message', 'look', 'approval', 'change', 'end']) {
    assert.ok(await timeline.locator(`.entry.${kind}`).count(), kind);
  }
  await timeline.getByRole('button', {name: 'what is broken?'}).click();
  await page.waitForFunction(() => document.activeElement?.textContent?.includes('what is broken?'));
  await checkPage(visited, 'after the change');
});

test('a change is edited as YAML, and denied with a reason', async () => {
  const visited = await visit(browser, demo.url, {ignored: /422/});
  const {page} = visited;
  await page.getByRole('button', {name: 'scale checkout to 3'}).click();
  const card = page.locator('.approval-card');
  await card.getByRole('button', {name: 'Edit'}).click();
  const area = card.getByRole('textbox', {name: 'Arguments to run with, as YAML'});
  assert.equal(await area.inputValue(), 'name: checkout\nnamespace: shop\nreplicas: 3');
  await area.fill('name: checkout\n  namespace: shop');
  await card.getByText(/Line 2, column/).waitFor();
  assert.equal(await card.getByRole('button', {name: 'Approve'}).isDisabled(), true);
  await area.fill('name: checkout\nnamespace: shop\nreplicas: many');
  await card.getByRole('button', {name: 'Approve as edited'}).click();
  await card.getByText(/replicas/).and(card.locator('.problem')).waitFor();
  await checkPage(visited, 'edited arguments');
  await area.fill('name: checkout\nnamespace: shop\nreplicas: 4');
  await card.getByRole('button', {name: 'Approve as edited'}).click();
  await page.locator('.approval-result', {hasText: 'with edited arguments'}).waitFor();

  await page.getByText('Done ·').first().waitFor();
  await ask(page, 'restart checkout');
  await card.getByRole('button', {name: 'Deny…'}).click();
  await card.getByRole('textbox').fill('not during the sale');
  await card.getByRole('button', {name: 'Deny', exact: true}).click();
  await page.locator('.approval-result', {hasText: 'Denied by you'}).waitFor();
  await page.getByText('“not during the sale”').waitFor();
  await checkPage(visited, 'denied');
});

test('all views in all widths, light and dark', async () => {
  const session = await demo.call('POST', '/v1/sessions', {title: 'Checkout is slow since the deployment of 14:05, and the payments-api restarts'});
  await demo.call('POST', `/v1/sessions/${session.session_id}/messages`, {content: 'what is broken?'});
  await demo.call('POST', `/v1/sessions/${session.session_id}/messages`, {content: 'set memory of recommendations to 1Gi'});
  // Two changes wait, for the same object.
  const other = await demo.call('POST', '/v1/sessions', {});
  await demo.call('POST', `/v1/sessions/${other.session_id}/messages`, {content: 'set memory of recommendations to 1Gi'});
  const views = {new: '', session: `sessions/${session.session_id}`, inbox: 'inbox', tools: 'tools', memories: 'memories', usage: 'usage'};
  for (const width of WIDTHS) {
    for (const scheme of /** @type {const} */ (['light', 'dark'])) {
      const visited = await visit(browser, demo.url, {width, scheme, height: width === 390 ? 844 : 900});
      for (const [name, path] of Object.entries(views)) {
        await visited.page.evaluate((hash) => (location.hash = `#/${hash}`), path);
        await visited.page.locator('#main').waitFor();
        if (name === 'session') await visited.page.locator('.approval-card').waitFor();
        if (name === 'inbox') await visited.page.locator('.approval-card').nth(1).waitFor();
        if (name === 'tools') await visited.page.locator('.tool-row').first().waitFor();
        await checkPage(visited, `${name} ${width} ${scheme}`);
        await takePicture(visited.page, `${name}-${width}-${scheme}`);
      }
      if (width === 390) {
        await visited.page.getByRole('button', {name: 'Sessions and pages'}).click();
        await visited.page.getByRole('link', {name: 'Inbox'}).waitFor();
        await takePicture(visited.page, `menu-${width}-${scheme}`);
      }
      await visited.page.context().close();
    }
  }
});

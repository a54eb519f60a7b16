/** What is remembered: listed, searched, corrected and erased. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, takePicture, visit} from './browser.mjs';
import {startScripted} from './scripted_service.mjs';

const FACTS = [
  {kind: 'semantic', content: 'The shop runs on the cluster mars-17.', tags: ['shop', 'cluster'], confidence: 0.9},
  {kind: 'episodic', content: 'The payments-api restarted because the host of its database could not be resolved.', tags: ['payments'], confidence: 0.8},
];

let browser, scripted;
before(async () => {
  browser = await launchBrowser();
  // The model answers with facts, so that those are what its memory extraction finds.
  scripted = await startScripted({remember: {text: JSON.stringify(FACTS)}}, {env: {MEMORY_LONG_TERM_ENABLED: 'true'}});
});
after(async () => {
  await browser.close();
  await scripted.stop();
});

test('memories are listed, searched, corrected and erased', async () => {
  const visited = await visit(browser, scripted.service.url);
  const {page} = visited;
  await page.getByRole('link', {name: 'Memories', exact: true}).click();
  await page.getByRole('heading', {name: 'Nothing is remembered yet'}).waitFor();
  await page.getByRole('link', {name: 'New session'}).click();
  await ask(page, 'remember this');
  await page.locator('.notice.memory', {hasText: 'Remembered 2 memories'}).waitFor();
  await checkPage(visited, 'session with memories');

  await page.getByRole('link', {name: 'Memories', exact: true}).click();
  const memories = page.locator('.memory');
  await memories.nth(1).waitFor();
  await checkPage(visited, 'memories');
  await takePicture(page, 'memories-filled');
  await page.getByRole('button', {name: 'Incidents'}).click();
  await page.waitForFunction(() => document.querySelectorAll('.memory').length === 1);
  await page.getByRole('button', {name: 'All', exact: true}).click();
  await page.getByRole('searchbox', {name: 'Search memories'}).fill('mars-17');
  await memories.filter({hasText: 'match'}).first().waitFor();
  await page.getByRole('searchbox', {name: 'Search memories'}).fill('');

  await memories.filter({hasText: 'mars-17'}).getByRole('button', {name: 'Correct'}).click();
  await page.getByLabel('Correct this memory').fill('The shop runs on the cluster venus-3.');
  await page.getByRole('button', {name: 'Save'}).click();
  await memories.filter({hasText: 'venus-3'}).getByRole('button', {name: 'Erase'}).click();
  await page.waitForFunction(() => document.querySelectorAll('.memory').length === 1);
  await page.getByRole('button', {name: 'Erase all…'}).click();
  await checkPage(visited, 'dialog');
  await page.getByRole('button', {name: 'Erase all', exact: true}).click();
  await page.getByRole('heading', {name: 'Nothing is remembered yet'}).waitFor();
  const left = await scripted.service.call('GET', '/v1/memories');
  assert.deepEqual(left.memories, []);
});

test('usage counts the tokens of the day', async () => {
  const visited = await visit(browser, scripted.service.url);
  const {page} = visited;
  await page.getByRole('link', {name: 'Usage', exact: true}).click();
  await page.getByRole('cell', {name: 'openai/test-model'}).waitFor();
  await checkPage(visited, 'usage');
});

/** What goes into a session besides words, and what leaves it: attachments, ratings, the report, links; and the page of the API. */

import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, takePicture, visit} from './browser.mjs';
import {startDemo} from './service.mjs';

let browser, demo;
before(async () => {
  [browser, demo] = await Promise.all([launchBrowser(), startDemo()]);
});
after(async () => {
  await browser.close();
  await demo.stop();
});

const MANIFEST = {name: 'checkout.yaml', mimeType: '', buffer: Buffer.from('kind: Deployment\nmetadata: {name: checkout}\n')};
const IMAGE = {name: 'graph.png', mimeType: 'image/png', buffer: Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 0xff, 0xfe])};

/** Drops or pastes a file on the field for the message, as a browser reports it. */
function giveFile(page, type, name, text) {
  return page.locator('#composer').evaluate(
    (area, [kind, file, content]) => {
      const data = new DataTransfer();
      data.items.add(new File([content], file));
      const event = kind === 'drop' ? new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true})
        : new ClipboardEvent(kind, {clipboardData: data, bubbles: true, cancelable: true});
      area.dispatchEvent(event);
    },
    [type, name, text],
  );
}

test('files are chosen, dropped and pasted, and are folded blocks of the message', async () => {
  const visited = await visit(browser, demo.url);
  const {page} = visited;
  await page.getByLabel('Files').setInputFiles([MANIFEST]);
  await giveFile(page, 'drop', 'app.log', `${'all is well\n'.repeat(9000)}FATAL: no database\n`);
  await giveFile(page, 'paste', 'notes.txt', 'remember the <b>milk</b>');
  const waiting = page.getByRole('list', {name: 'Attachments'}).getByRole('listitem');
  await waiting.nth(2).waitFor();
  await page.getByLabel('Files').setInputFiles([IMAGE]);
  await page.getByText('graph.png is not a text').waitFor();
  assert.equal(await waiting.count(), 3);
  await checkPage(visited, 'attachments to be sent');
  await takePicture(page, 'attachments-to-send');
  await page.getByRole('button', {name: 'Remove notes.txt'}).click();
  await ask(page, 'what is broken?');
  await page.getByText('Done ·').waitFor();
  const blocks = page.locator('.message.user .attachment');
  assert.equal(await blocks.count(), 2);
  assert.equal(await waiting.count(), 0);
  assert.equal(await page.locator('.message.user .message-text').textContent(), 'what is broken?');
  const log = blocks.filter({hasText: 'app.log'});
  assert.equal(await log.locator('.lines').isVisible(), false);
  await log.locator('summary').click();
  await log.getByRole('searchbox').fill('FATAL');
  await log.getByText('1 of 1').waitFor();
  await checkPage(visited, 'open attachment');
  await takePicture(page, 'attachment');
  await log.getByRole('button', {name: /^Whole output, 108 KB/}).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('searchbox').fill('FATAL');
  await dialog.getByText('1 of 1').waitFor();
  await dialog.getByRole('button', {name: 'Close'}).click();
  // It is the same after a reload, which reads the log again.
  await page.reload();
  await blocks.nth(1).waitFor();
});

test('an answer is rated, and the newest rating stays', async () => {
  const visited = await visit(browser, demo.url);
  const {page} = visited;
  await ask(page, 'what is broken?');
  await page.getByText('Done ·').waitFor();
  const answer = page.locator('.message.assistant').last();
  await answer.hover();
  await answer.getByRole('button', {name: 'This did not help'}).click();
  await answer.getByLabel('What is wrong with this answer?').fill('it is the database');
  await checkPage(visited, 'rating');
  await answer.getByRole('button', {name: 'Send'}).click();
  await answer.getByRole('button', {name: 'This did not help', pressed: true}).waitFor();
  await answer.getByRole('button', {name: 'This helped'}).click();
  await answer.getByRole('button', {name: 'This helped', pressed: true}).waitFor();
  await takePicture(page, 'rated');
  await page.reload();
  await page.locator('.message-tools.rated').getByRole('button', {name: 'This helped', pressed: true}).waitFor();
});

test('the report is saved, and a link shows it to others until it is revoked', async () => {
  const visited = await visit(browser, demo.url);
  const {page} = visited;
  await ask(page, 'roll back storefront');
  await page.locator('.approval-card').getByRole('button', {name: 'Approve'}).click();
  await page.getByText('Done ·').waitFor();
  await page.getByRole('button', {name: 'Export or share this session'}).click();
  const dialog = page.getByRole('dialog', {name: 'Export and share'});
  for (const [format, ending, expected] of [['Markdown', '.md', '## Changes'], ['HTML', '.html', '<h2>Changes</h2>'], ['JSON', '.json', '"changes"']]) {
    const [download] = await Promise.all([page.waitForEvent('download'), dialog.getByRole('button', {name: format}).click()]);
    assert.match(download.suggestedFilename(), new RegExp(`^roll-back-storefront-.*\\${ending}$`));
    const text = readFileSync(await download.path(), 'utf8');
    assert.ok(text.includes(expected) && text.includes('nginx:1.26'), text.slice(0, 500));
  }
  await dialog.getByLabel(/^A link/).selectOption('1 day');
  await dialog.getByRole('button', {name: 'Create a link'}).click();
  const field = dialog.getByLabel('The link, which is shown once');
  await field.waitFor();
  await checkPage(visited, 'share dialog');
  await takePicture(page, 'share-dialog');
  const link = await field.inputValue();
  assert.ok(link.startsWith(`${demo.url}/shared/`), link);

  const reader = await (await browser.newContext()).newPage();
  const problems = [];
  reader.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  await reader.goto(link);
  await reader.getByRole('heading', {name: 'Changes'}).waitFor();
  await reader.getByText('nginx:1.26').first().waitFor();
  assert.equal(await reader.locator('form, button, script').count(), 0);
  assert.deepEqual(problems, []);
  await takePicture(reader, 'shared-report');

  await dialog.getByRole('button', {name: 'Revoke'}).click();
  await dialog.getByText(/^Link of/).waitFor({state: 'detached'});
  assert.equal((await reader.goto(link)).status(), 404);
});

test('the first Execute of the page of the API works', async () => {
  const context = await browser.newContext({viewport: {width: 1280, height: 900}});
  const page = await context.newPage();
  await page.goto(`${demo.url}/docs/`);
  const operation = page.locator('#operations-sessions-create_session');
  await operation.locator('.opblock-summary-control').click();
  await operation.getByRole('button', {name: 'Execute'}).click();
  await operation.locator('.live-responses-table .response-col_status', {hasText: '201'}).waitFor();
  // A stream with the values of its example ends.
  const events = page.locator('#operations-events-stream_account');
  await events.locator('.opblock-summary-control').click();
  await events.getByRole('button', {name: 'Execute'}).click();
  await events.locator('.live-responses-table .response-col_status', {hasText: '200'}).waitFor({timeout: 20_000});
  await takePicture(page, 'api-page');
});

/** Text of models and tools is not trusted: nothing of it runs, loads or hides, whatever its size. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, visit} from './browser.mjs';
import {HOSTILE_LINES} from './mcp_server.mjs';
import {startScripted} from './scripted_service.mjs';

const MARKDOWN = [
  ...HOSTILE_LINES,
  '[safe](https://example.com/path) and [here](https://evil.example/?q=1) and [https://good.example](https://evil.example/)',
  '[run](javascript:alert(8)) [data](data:text/html,<script>alert(9)</script>) [vb](vbscript:x) [rel](/v1/info) [hash](#/usage)',
  '![picture](https://evil.example/pixel.png) <iframe src="https://evil.example"></iframe>',
  '<https://auto.example/> <style>body{display:none}</style> <form action="https://evil.example"><input></form>',
  '<a href="https://evil.example" onclick="alert(10)">raw</a> <math><mtext><table><mglyph><style><img src=x onerror=alert(11)>',
  '',
  '| a | b |\n|---|---|\n| <img src=x onerror=alert(12)> | [x](javascript:alert(13)) |',
  '',
  '```html\n<script>alert(14)</script>\n```',
].join('\n');

let browser, scripted, url;
before(async () => {
  browser = await launchBrowser();
  scripted = await startScripted({
    markdown: {text: MARKDOWN},
    'large log': {call: {name: 'read_log', arguments: {megabytes: 5}}, text: 'Read.'},
    'invisible change': {call: {name: 'apply_change', arguments: {name: 'pay\u202egnp\u200b<img src=x onerror=alert(1)>', replicas: 2}}, text: 'Changed.'},
  });
  url = scripted.service.url;
});
after(async () => {
  await browser.close();
  await scripted.stop();
});

test('Markdown of a model is inert', async () => {
  const visited = await visit(browser, url);
  const {page} = visited;
  await ask(page, 'markdown');
  await page.getByText('Done ·').waitFor();
  const message = page.locator('.message.assistant').last();
  assert.equal(await message.locator('img, script, iframe, style, form, svg:not(.icon), math, [onclick], [onerror]').count(), 0);
  const links = await message.locator('a').evaluateAll((found) => found.map((link) => [link.getAttribute('href'), link.target, link.rel]));
  for (const [href, target, rel] of links) {
    assert.match(href, /^https:\/\//);
    assert.equal(target, '_blank');
    assert.match(rel, /noopener/);
  }
  const said = await message.textContent();
  for (const shown of ['<script>alert(2)</script>', 'javascript:alert(8)', '⟨U+202E⟩', '⟨U+001B⟩', 'evil.example']) assert.ok(said.includes(shown), shown);
  const hosts = await message.locator('.link-host').allTextContents();
  assert.ok(hosts.filter((host) => host.trim() === 'evil.example').length >= 2, String(hosts));
  await checkPage(visited, 'hostile text');
});

test('an output of 5 MB can be read, searched and copied, and is inert', async () => {
  const visited = await visit(browser, url);
  const {page} = visited;
  await ask(page, 'large log');
  await page.getByText('Done ·').waitFor({timeout: 300_000});
  await page.locator('.tool summary').click();
  await page.getByRole('button', {name: /^Whole output, 5/}).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText(/4\d\d\d\d lines|5\d\d\d\d lines/).waitFor();
  assert.ok((await dialog.locator('.line').count()) < 200);
  await dialog.getByRole('searchbox').fill('needle');
  await dialog.getByText('1 of 1').waitFor();
  await dialog.locator('.line.current', {hasText: 'the last line: needle'}).waitFor();
  await dialog.getByRole('searchbox').fill('onerror');
  await dialog.locator('.line.current', {hasText: '<img src=x onerror='}).waitFor();
  assert.equal(await page.locator('img').count(), 0);
  await checkPage(visited, 'large output');
});

test('an approval shows what cannot be seen', async () => {
  const visited = await visit(browser, url);
  const {page} = visited;
  await ask(page, 'invisible change');
  const card = page.locator('.approval-card');
  await card.waitFor();
  assert.match(await card.locator('.arguments pre').textContent(), /\\u202egnp\\u200b<img/);
  assert.equal(await page.locator('img').count(), 0);
  await checkPage(visited, 'hostile approval');
  await card.getByRole('button', {name: 'Deny…'}).click();
  await card.getByRole('button', {name: 'Deny', exact: true}).click();
  await page.locator('.approval-result').waitFor();
});

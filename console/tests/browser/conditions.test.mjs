/** Browsers, addresses and clocks that are not as the page would like them. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {ask, checkPage, launchBrowser, visit} from './browser.mjs';
import {startScripted} from './scripted_service.mjs';

const NESTED = '### A heading\n\n###### Another one\n\n1. Run:\n   ```sh\n   kubectl -n payments logs deploy/payments-api --previous | grep -i fatal | sort | uniq -c\n   ```\n\n'
  + `| ${'a column | '.repeat(24)}\n|${'---|'.repeat(24)}\n| ${'a value | '.repeat(24)}\n`;

let browser, scripted, url;
before(async () => {
  browser = await launchBrowser();
  const change = {call: {name: 'apply_change', arguments: {name: 'web', replicas: 3}}, text: 'Changed.'};
  scripted = await startScripted({'change it': change, nested: {text: NESTED}});
  url = scripted.service.url;
});
after(async () => {
  await browser.close();
  await scripted.stop();
});

/** Creates a session with an approval that waits. */
async function openApproval() {
  const {session_id: id} = await scripted.service.call('POST', '/v1/sessions', {});
  await scripted.service.call('POST', `/v1/sessions/${id}/messages`, {content: 'change it'});
  return id;
}

/** A page with a script that runs before those of the page. */
async function visitAfter(script, argument, hash = '') {
  const context = await browser.newContext({viewport: {width: 1200, height: 800}});
  const page = await context.newPage();
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  await page.addInitScript(script, argument);
  await page.goto(`${url}/${hash}`);
  return {page, problems};
}

test('a browser that stores nothing still shows the page, keeps a draft and a theme until the page is left', async () => {
  const visited = await visitAfter(() => {
    for (const name of ['localStorage', 'sessionStorage']) {
      Object.defineProperty(window, name, {
        get() {
          throw new DOMException('The operation is insecure.', 'SecurityError');
        },
      });
    }
  });
  const {page} = visited;
  await page.getByRole('heading', {name: 'What is going on in the cluster?'}).waitFor();
  await page.locator('#composer').fill('half a question');
  await page.getByRole('link', {name: 'Tools'}).click();
  await page.getByRole('heading', {name: 'Tools', exact: true}).waitFor();
  await page.getByRole('link', {name: 'New session'}).first().click();
  assert.equal(await page.locator('#composer').inputValue(), 'half a question');
  await page.locator('#composer').fill('why?');
  await page.keyboard.press('Enter');
  await page.locator('.run-end').waitFor();
  await checkPage(visited, 'no storage');
});

test('a draft that is larger than what a browser stores is no error', async () => {
  const visited = await visit(browser, url);
  const {page} = visited;
  await page.locator('#composer').evaluate((area) => {
    area.value = 'a line of a log that was pasted\r\n'.repeat(250_000);
    area.dispatchEvent(new Event('input', {bubbles: true}));
  });
  await page.locator('#composer').fill('short again');
  await page.reload();
  await page.waitForFunction(() => document.querySelector('#composer')?.value === 'short again');
  await checkPage(visited, 'large draft');
});

test('an address with what is no id of a session says so', async () => {
  for (const id of ['abc', '..', '%00', 'a%20b', '<b onclick=x>', '..%2F..%2Fmemories', '漢', '?x=1', 'x'.repeat(3000)]) {
    const {page} = await visit(browser, `${url}`, {ignored: /status of 40|WebSocket connection/});
    await page.evaluate((hash) => (location.hash = hash), `#/sessions/${id}`);
    await page.getByRole('heading', {name: 'This session does not exist any more'}).waitFor({timeout: 60_000});
    await page.context().close();
  }
});

test('a request expires by the clock of the service, and not by that of the browser', async () => {
  const id = await openApproval();
  for (const skewMs of [7_200_000, -7_200_000]) {
    const {page, problems} = await visitAfter(
      (skew) => {
        const Clock = Date;
        window.Date = class extends Clock {
          constructor(...values) {
            if (values.length) super(...values);
            else super(Clock.now() + skew);
          }
          static now() {
            return Clock.now() + skew;
          }
        };
      },
      skewMs,
      `#/sessions/${id}`,
    );
    const card = page.locator('.approval-card');
    await card.getByText(/expires in (59|60) min/).waitFor();
    assert.ok(await card.getByRole('button', {name: 'Approve'}).isEnabled());
    assert.deepEqual(problems, []);
    await page.context().close();
  }
});

test('nothing waits in a session that was deleted elsewhere', async () => {
  const id = await openApproval();
  const visited = await visit(browser, url, {ignored: /status of 404|WebSocket connection/});
  const {page} = visited;
  await page.evaluate((hash) => (location.hash = hash), `#/sessions/${id}`);
  await page.locator('.approval-card').waitFor();
  await page.locator('#composer').fill('half a message');
  await scripted.service.call('DELETE', `/v1/sessions/${id}`);
  await page.locator('.approval-result', {hasText: 'Expired'}).waitFor();
  assert.equal(await page.locator('.approval-card').count(), 0);
  assert.equal(await page.getByRole('button', {name: 'Stop'}).count(), 0);
  assert.equal(await page.getByRole('status').getByText('Waiting').count(), 0);
  assert.equal(await page.locator('#composer').inputValue(), 'half a message', 'what was written can be copied');
  await checkPage(visited, 'deleted session');
});

test('headings, code and wide tables of an answer can be reached by everyone', async () => {
  const visited = await visit(browser, url, {width: 390});
  await ask(visited.page, 'nested');
  await visited.page.locator('.run-end').waitFor();
  await checkPage(visited, 'nested code');
});

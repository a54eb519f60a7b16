// Asks one question: streams the run, resumes after a lost connection, and asks before a change.
//
//     node client.ts http://127.0.0.1:8080 "is this safe to apply?" checkout.yaml

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';

type Event = { type: string; seq?: number; run_id?: string; [field: string]: any };

const base = process.argv[2].replace(/\/$/, '') + '/v1';
const token = process.env.K8SOPS_TOKEN;
const headers = { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) };

async function call(path: string, body: object, more: Record<string, string> = {}): Promise<any> {
  const request = { method: 'POST', headers: { ...headers, ...more }, body: JSON.stringify(body) };
  const response = await fetch(base + path, request);
  if (!response.ok) throw new Error((await response.json()).detail);
  return response.json();
}

/** Yields events and previews. After a lost connection it continues with the first event that was not seen. */
async function* events(session: string): AsyncGenerator<Event> {
  for (let seq = 0; ; await new Promise((done) => setTimeout(done, 1000))) {
    try {
      const response = await fetch(`${base}/sessions/${session}/events?after=${seq}`, { headers });
      let rest = '';
      for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + piece).split('\n');
        rest = lines.pop()!;
        for (const line of lines.filter((line) => line.startsWith('data: '))) {
          const event: Event = JSON.parse(line.slice(6));
          seq = event.seq ?? seq;
          yield event;
        }
      }
    } catch (error) {
      console.error(`connection lost (${error}), trying again`);
    }
  }
}

const { session_id: session } = await call('/sessions', {});
const [content, ...paths] = process.argv.slice(3);
const attachments = paths.map((path) => ({ name: basename(path), text: readFileSync(path, 'utf8') }));
// The key makes the message safe to send again.
const key = { 'idempotency-key': crypto.randomUUID() };
const { run_id: run } = await call(`/sessions/${session}/messages`, { content, attachments }, key);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
for await (const event of events(session)) {
  if (event.type === 'approval_requested') {
    console.log(`${event.name}: ${event.summary ?? ''}\n${event.preview ?? ''}\nRun it? [y/n]`);
    const decision = (await answers.next()).value === 'y' ? 'approve' : 'deny';
    await call(`/sessions/${session}/approvals/${event.approval_id}`, { decision });
  } else if (event.type === 'assistant_message') {
    console.log(event.content);
  } else if (['run_finished', 'run_failed'].includes(event.type) && event.run_id === run) {
    process.exit(event.type === 'run_failed' ? 1 : 0);
  }
}

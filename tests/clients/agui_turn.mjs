// Runs turns over the client library of AG-UI: one with tools and, where the version knows interrupts, an approval.
//
//     node agui_turn.mjs URL VERSION      beside a `node_modules` with `@ag-ui/client-VERSION`
import assert from "node:assert/strict";

const [, , url, version] = process.argv;
const { HttpAgent } = await import(`@ag-ui/client-${version}`);
const knowsInterrupts = version !== "0.0.45";

function newAgent() {
  return new HttpAgent({ url: `${url}/agui`, threadId: `thread-${version}-${Math.random()}` });
}

// The ids of the messages of the user, by agent.
const sent = new Map();

async function turn(agent, input, message) {
  const seen = { types: [], interrupts: [], failed: null };
  if (message) {
    const id = `u-${Math.random()}`;
    sent.set(agent, [...(sent.get(agent) ?? []), id]);
    agent.addMessage({ id, role: "user", content: message });
  }
  await agent.runAgent(input, {
    onEvent: ({ event }) => {
      seen.types.push(event.type);
    },
    onRunFailed: ({ error }) => {
      seen.failed = error;
    },
    onRunFinishedEvent: ({ event }) => {
      seen.interrupts = event.outcome?.interrupts ?? [];
    },
  });
  assert.equal(seen.failed, null);
  assert.equal(seen.types[0], "RUN_STARTED");
  assert.equal(seen.types.at(-1), "RUN_FINISHED");
  return seen;
}

const reader = newAgent();
const read = await turn(reader, {}, "what is broken?");
assert.ok(read.types.includes("TOOL_CALL_RESULT"));
assert.match(reader.messages.at(-1).content, /CrashLoopBackOff/);
assert.equal(reader.messages[0].role, "user");

const changer = newAgent();
const asked = await turn(changer, {}, "scale checkout to 3");
if (knowsInterrupts) {
  assert.equal(asked.interrupts.length, 1);
  const payload = { approved: true, comment: "from the client" };
  const resume = asked.interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload }));
  await turn(changer, { resume }, null);
} else {
  const words = changer.messages.at(-1).content.match(/approve [0-9a-f]{6}/)[0];
  await turn(changer, {}, words);
}
const results = changer.messages.filter(({ role }) => role === "tool");
assert.ok(results.length > 0 && results.every(({ content }) => content !== undefined));
assert.match(changer.messages.at(-1).content, /checkout/);
const ids = changer.messages.map(({ id }) => id);
assert.equal(new Set(ids).size, ids.length, "a message is there twice");
// Each once, under the id that the client gave it. An answer in words is in no log, and stays as well, behind its question.
const fromUser = changer.messages.filter(({ role }) => role === "user").map(({ id }) => id);
assert.deepEqual(fromUser, sent.get(changer));
if (!knowsInterrupts) {
  const answer = changer.messages.findIndex(({ id }) => id === sent.get(changer)[1]);
  assert.match(changer.messages[answer - 1].content, /Approval needed/);
}

// A page that is loaded again has no messages. What it gets then stays the same when it sends more.
const reloaded = new HttpAgent({ url: `${url}/agui`, threadId: reader.threadId });
await turn(reloaded, {}, null);
const attached = reloaded.messages.map(({ id }) => id);
assert.ok(attached.length >= 2);
await turn(reloaded, {}, "scale checkout to 4");
assert.deepEqual(reloaded.messages.slice(0, attached.length).map(({ id }) => id), attached);
console.log("done");

// Streams a response over two providers of Vercel's AI SDK.
//
//     node ai_sdk_responses.mjs URL        beside a `node_modules` with `ai`, `@ai-sdk/openai` and `@ai-sdk/open-responses`
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenResponses } from "@ai-sdk/open-responses";
import { generateText, streamText } from "ai";

const baseURL = `${process.argv[2]}/v1`;
const openai = createOpenAI({ baseURL, apiKey: "none" }).responses("k8sops");
const open = createOpenResponses({ name: "k8sops", url: `${baseURL}/responses`, apiKey: "none" })("k8sops");
for (const [model, tools] of [[openai, true], [open, false]]) {
  const errors = [];
  const stream = streamText({ model, prompt: "what is broken?", onError: ({ error }) => errors.push(error) });
  const kinds = new Set();
  for await (const part of stream.fullStream) kinds.add(part.type);
  assert.deepEqual(errors, []);
  assert.match(await stream.text, /CrashLoopBackOff/);
  assert.equal(await stream.finishReason, "stop");
  // The open specification has no calls of tools that the server runs.
  assert.equal(kinds.has("tool-result"), tools, [...kinds].join(" "));
}

// An approval over two requests, which hold the whole conversation.
const messages = [{ role: "user", content: "scale checkout to 6" }];
const asked = await generateText({ model: openai, messages });
const request = asked.content.find((part) => part.type === "tool-approval-request");
assert.ok(request, JSON.stringify(asked.content));
messages.push(...asked.response.messages);
const answer = { type: "tool-approval-response", approvalId: request.approvalId, approved: true };
messages.push({ role: "tool", content: [answer] });
const done = await generateText({ model: openai, messages });
assert.match(done.text, /checkout/);
console.log("done");

// Streams a chat over Vercel's AI SDK.
//
//     node ai_sdk_chat.mjs URL        beside a `node_modules` with `ai` and `@ai-sdk/openai-compatible`
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";

const provider = createOpenAICompatible({ name: "k8sops", baseURL: `${process.argv[2]}/v1`, apiKey: "none" });
const model = provider("k8sops");
const errors = [];
const stream = streamText({ model, prompt: "what is broken?", onError: ({ error }) => errors.push(error) });
const kinds = new Set();
for await (const part of stream.fullStream) kinds.add(part.type);
assert.deepEqual(errors, []);
for (const kind of ["text-delta", "reasoning-delta", "finish"]) assert.ok(kinds.has(kind), `no ${kind} in ${[...kinds]}`);
assert.ok(!kinds.has("tool-call"), "the client would run the tools itself");
assert.match(await stream.text, /CrashLoopBackOff/);
assert.equal(await stream.finishReason, "stop");

const whole = await generateText({ model, prompt: "what is broken?" });
assert.match(whole.text, /CrashLoopBackOff/);
await assert.rejects(generateText({ model: provider("gpt-5"), prompt: "hi" }), /there is no model/);
console.log("done");

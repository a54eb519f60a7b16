// Runs turns over the OpenAI SDK for Node.js, the OpenAI Agents SDK and LangChain, each over chat completions and over Responses.
//
//     node node_frameworks.mjs URL        beside a `node_modules` with `openai`, `@openai/agents`, `@langchain/openai` and `zod`
import assert from "node:assert/strict";
import { ChatOpenAI } from "@langchain/openai";
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner } from "@openai/agents";
import OpenAI from "openai";

const baseURL = `${process.argv[2]}/v1`;
const client = new OpenAI({ baseURL, apiKey: "none" });
const question = "what is broken?";

// The SDK.
assert.deepEqual((await client.models.list()).data.map(({ id }) => id), ["k8sops"]);
const messages = [{ role: "user", content: question }];
const chunks = await client.chat.completions.create({ model: "k8sops", messages, stream: true });
let text = "";
for await (const chunk of chunks) text += chunk.choices[0]?.delta?.content ?? "";
assert.match(text, /CrashLoopBackOff/);
const stream = client.responses.stream({ model: "k8sops", input: question });
const kinds = new Set();
for await (const event of stream) kinds.add(event.type);
const response = await stream.finalResponse();
assert.match(response.output_text, /CrashLoopBackOff/);
assert.ok(kinds.has("response.mcp_call.completed"), [...kinds].join(" "));
const again = await client.responses.retrieve(response.id);
assert.equal(again.output_text, response.output_text);
const asked = await client.responses.create({ model: "k8sops", input: "scale checkout to 6" });
const request = asked.output.find(({ type }) => type === "mcp_approval_request");
const input = [{ type: "mcp_approval_response", approval_request_id: request.id, approve: true }];
const done = await client.responses.create({ model: "k8sops", input, previous_response_id: asked.id });
assert.match(done.output_text, /checkout/);
await assert.rejects(client.responses.retrieve("resp_1"), OpenAI.NotFoundError);

// The Agents SDK: two turns of a conversation, whole and streamed.
for (const model of [new OpenAIChatCompletionsModel(client, "k8sops"), new OpenAIResponsesModel(client, "k8sops")]) {
  const agent = new Agent({ name: "caller", instructions: "You ask about the cluster.", model });
  const runner = new Runner({ tracingDisabled: true });
  const first = await runner.run(agent, question);
  assert.match(first.finalOutput, /CrashLoopBackOff/, model.constructor.name);
  const second = [...first.history, { role: "user", content: question }];
  const streamed = await runner.run(agent, second, { stream: true });
  let shown = "";
  for await (const chunk of streamed.toTextStream()) shown += chunk;
  await streamed.completed;
  assert.match(shown, /CrashLoopBackOff/, model.constructor.name);
}

// LangChain.
for (const useResponsesApi of [false, true]) {
  const model = new ChatOpenAI({ model: "k8sops", apiKey: "none", configuration: { baseURL }, useResponsesApi });
  const whole = await model.invoke(question);
  assert.match(whole.text, /CrashLoopBackOff/);
  let shown = "";
  for await (const chunk of await model.stream([["user", question], whole, ["user", question]])) shown += chunk.text;
  assert.match(shown, /CrashLoopBackOff/);
}
console.log("done");

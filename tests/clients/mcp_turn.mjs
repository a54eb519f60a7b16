// Runs a change over the official MCP SDK for TypeScript; its user approves it in a form.
//
//     node mcp_turn.mjs URL ERA      beside a `node_modules` with `@modelcontextprotocol/client`; ERA is `legacy` or `2026-07-28`
import assert from "node:assert/strict";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [, , url, era] = process.argv;
const mode = era === "legacy" ? "legacy" : { pin: era };
const capabilities = { elicitation: { form: {} } };
const client = new Client({ name: "test", version: "1" }, { capabilities, versionNegotiation: { mode } });
const asked = [];
client.setRequestHandler("elicitation/create", async ({ params }) => {
  asked.push(params.message);
  return { action: "accept", content: { decision: "approve", comment: "from the client" } };
});
await client.connect(new StreamableHTTPClientTransport(new URL(`${url}/mcp`)));
const { tools } = await client.listTools();
assert.deepEqual(
  tools.map(({ name }) => name),
  ["ask", "get_session"],
);
const steps = [];
const call = { name: "ask", arguments: { question: "scale checkout to 3" } };
const { structuredContent: done } = await client.callTool(call, {
  onprogress: ({ progress }) => steps.push(progress),
  resetTimeoutOnProgress: true,
});
assert.equal(done.outcome, "completed");
assert.equal(asked.length, 1);
assert.match(asked[0], /deployment_scale/);
assert.ok(steps.length > 2);
const { structuredContent: shown } = await client.callTool({
  name: "get_session",
  arguments: { session_id: done.session_id },
});
assert.equal(shown.status, "idle");
await client.close();
console.log("done");

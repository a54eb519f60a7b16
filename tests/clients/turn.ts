// A whole turn with the types that openapi-typescript makes of openapi.json, and openapi-fetch.
//   node turn.js URL
import createClient from "openapi-fetch";

import type { components, paths } from "./schema.js";

type Event = components["schemas"]["Event"];

declare const process: { argv: string[] };

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });

function must<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

function check(holds: boolean, what: unknown): void {
  if (!holds) throw new Error(JSON.stringify(what));
}

/** What `look` finds, once it finds something. */
async function poll<T>(look: () => Promise<T | undefined>): Promise<T> {
  const until = performance.now() + 120_000;
  while (performance.now() < until) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not found in time: ${look}`);
}

const created = must(await client.POST("/v1/sessions", { body: { title: "by a generated client" } }));
const path = { session_id: created.session_id };

must(
  await client.POST("/v1/sessions/{session_id}/messages", {
    params: { path },
    body: { content: "scale checkout to 3", on_busy: "reject" },
  }),
);

async function events(): Promise<Event[]> {
  const log = await client.GET("/v1/sessions/{session_id}/events", {
    params: { path, query: { follow: false } },
    headers: { accept: "application/x-ndjson" },
    parseAs: "text",
  });
  const lines = must(log).split("\n").filter((line) => line !== "");
  return lines.map((line): Event => JSON.parse(line));
}

const asked = await poll(async () => (await events()).find((event) => event.type === "approval_requested"));
const resolved = must(
  await client.POST("/v1/sessions/{session_id}/approvals/{approval_id}", {
    params: { path: { ...path, approval_id: asked.approval_id } },
    body: { decision: "approve", comment: "from TypeScript" },
  }),
);
check(resolved.decision === "approve", resolved);

const finished = await poll(async () => (await events()).find((event) => event.type === "run_finished"));
check(finished.outcome === "completed", finished);
const { messages } = must(await client.GET("/v1/sessions/{session_id}/messages", { params: { path } }));
const words = messages.map((message): string => {
  switch (message.role) {
    case "user":
    case "assistant":
      return message.content;
    case "tool":
      return `${message.name}: ${message.content}`;
  }
});
check(words[0] === "scale checkout to 3", words);
check(messages.some(({ role }) => role === "tool"), words);
check(messages.at(-1)?.role === "assistant" && words.at(-1)?.includes("checkout") === true, words);

const usage = must(await client.GET("/v1/usage"));
check(usage.from <= usage.to, usage);
const { memories } = must(await client.GET("/v1/memories"));
check(Array.isArray(memories), memories);

const deleted = await client.DELETE("/v1/sessions/{session_id}", { params: { path } });
check(deleted.response.status === 204, deleted.error);
const gone = await client.GET("/v1/sessions/{session_id}", { params: { path } });
check(gone.error?.code === "session_not_found", gone.data);
console.log("done");

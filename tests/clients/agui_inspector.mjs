// Uses agui-inspector, a page that shows any endpoint of AG-UI: a turn with an approval, and another after it.
//
//     node agui_inspector.mjs URL STATIC MODULES CHROMIUM      STATIC is the folder of the page, MODULES has playwright-core
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const [, , url, inspector, modules, executablePath] = process.argv;
const { chromium } = createRequire(join(modules, "package.json"))("playwright-core");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
page.setDefaultTimeout(90_000);
const problems = [];
page.on("pageerror", (error) => problems.push(String(error.stack)));
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
// The page is served as its package would serve it: beside the endpoint.
await page.route(`${url}/inspector/**`, (route) => {
  const name = new URL(route.request().url()).pathname.slice("/inspector/".length) || "index.html";
  return name === "config.json" ? route.fulfill({ json: { version: 0, agents: [] } }) : route.fulfill({ path: join(inspector, name) });
});
await page.goto(`${url}/inspector/`);
await page.getByLabel("Endpoint URL").fill(`${url}/agui`);
await page.getByRole("button", { name: "Use endpoint" }).click();

/** Waits for the end of the run. */
async function finish() {
  await page.getByText("Enter sends.").waitFor();
}

async function say(text) {
  await page.getByPlaceholder("Message the agent").fill(text);
  await page.keyboard.press("Enter");
}

await say("scale checkout to 3");
await page.getByText("Approve deployment_scale? shop/checkout: replicas 2 → 3").waitFor();
await page.getByRole("textbox", { name: "Answer" }).fill('{"approved": true, "comment": "from the page"}');
await page.getByRole("button", { name: "Resolve" }).click();
await page.getByText("k8sops:approval_resolved").first().waitFor();
await finish();
await say("what is broken?");
await page.getByText("CrashLoopBackOff").first().waitFor();
await finish();
assert.equal(await page.getByText("Interrupted", { exact: true }).count(), 1);
const issues = await page.getByRole("button", { name: /^Issues/ }).innerText();
assert.match(issues, /\b0$/, "findings of the page");
assert.deepEqual(problems, []);
await browser.close();
console.log("done");

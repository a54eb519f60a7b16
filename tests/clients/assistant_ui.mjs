// Uses the page of `examples/assistant-ui` in a browser: a turn with an approval, and another after it.
//
//     node assistant_ui.mjs URL PAGE MODULES CHROMIUM      PAGE is the folder of the built page, MODULES has playwright-core
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const [, , url, built, modules, executablePath] = process.argv;
const { chromium } = createRequire(join(modules, "package.json"))("playwright-core");

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
page.setDefaultTimeout(90_000);
const problems = [];
page.on("pageerror", (error) => problems.push(String(error.stack)));
page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
await page.route(`${url}/example/**`, (route) => {
  const name = new URL(route.request().url()).pathname.slice("/example/".length) || "index.html";
  return route.fulfill({ path: join(built, name) });
});
await page.goto(`${url}/example/?service=${url}`);

async function say(text) {
  await page.getByPlaceholder("What is going on in the cluster?").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

await say("scale checkout to 3");
await page.getByText("Approve deployment_scale? shop/checkout: replicas 2 → 3").waitFor();
await page.getByRole("button", { name: "Approve" }).click();
await page.locator("summary", { hasText: "deployment_scale" }).waitFor();
await page.locator(".approval").waitFor({ state: "detached" });
await page.locator("p", { hasText: "successfully rolled out" }).waitFor();
await say("what is broken?");
await page.locator("summary", { hasText: "events_list" }).first().waitFor();
await page.locator("p", { hasText: "CrashLoopBackOff" }).first().waitFor();
if (process.env.K8SOPS_TEST_PICTURES) {
  await page.screenshot({ path: join(process.env.K8SOPS_TEST_PICTURES, "assistant-ui.png"), fullPage: true });
}
assert.deepEqual(problems, []);
await browser.close();
console.log("done");

// Reads the AsyncAPI document as its makers' own parser does, and prints it as JSON.
//   node asyncapi.mjs NODE_MODULES FILE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, file] = process.argv.slice(2);
const { Parser } = createRequire(`${modules}/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
// 0 is an error, 1 a warning; the rest is advice.
const faults = diagnostics.filter(({ severity }) => severity <= 1);
if (!document || faults.length > 0) {
  console.error(JSON.stringify(diagnostics, null, 2));
  process.exit(1);
}
const of = (operation) => operation.messages().all().map((message) => message.id());
const operations = document.operations().all().map((operation) => [operation.id(), of(operation)]);
console.log(JSON.stringify(Object.fromEntries(operations)));

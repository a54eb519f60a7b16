/** What the console uses of js-yaml. */

export function load(text: string): unknown;

/** YAML, diffs, forms and texts as the console shows them. */

import assert from 'node:assert/strict';
import {test} from 'node:test';

import {changedPart, countChanges, pairLines, parseDiff} from '../src/view/diff.js';
import {formatAge, formatBytes, formatDuration, formatMoney, formatRemaining, formatTokens} from '../src/view/format.js';
import {listFields, readAnswer} from '../src/view/schema_form.js';
import {hasInvisible, showInvisible} from '../src/view/visible_text.js';
import {readYamlObject, writeYaml} from '../src/view/yaml.js';

const VALUES = [
  {namespace: 'shop', name: 'checkout', replicas: 3},
  {manifest: 'apiVersion: v1\nkind: ConfigMap\ndata:\n  a: "1"\n'},
  {manifest: 'no newline\nat the end', empty: '', none: null, list: [], map: {}},
  {list: ['a', 'b c', {name: 'x', args: ['--flag', '-n']}, ['nested', 1], [], null]},
  {yes: 'yes', no: 'no', on: 'on', null: 'null', tilde: '~', number: '12', float: '1e3', hex: '0x1F', date: '2026-11-30', version: '1.10'},
  {colon: 'a: b', hash: 'a # b', dash: '- x', quote: '"\'', percent: '%a', at: '@b', bang: '!tag', anchor: '&a *a', brace: '{a}', space: ' x ', pipe: '|'},
  {'a key': 1, 'key: odd': 2, '': 3, '- key': 4, 12: 'n'},
  {text: 'tab\tcolumn\n\ttabbed', crlf: 'a\r\nb', trailing: 'a \nb', leading: '  a\nb', blank: '\n\n', many: 'a\n\n\nb\n\n'},
  {command: "kubectl get pods -o jsonpath='{.items[*].metadata.name}' | grep -v \"x\""},
  {unicode: 'Zürich 東京 🚀', bidi: 'user\u202Egnp.exe', zero: 'a\u200Bb', tag: 'a\u{E0041}b', escape: 'a\u001b[31mb', bom: '\uFEFFa', line: 'a\u2028b'},
  {deep: {a: {b: {c: {d: [{e: {f: 'g\nh'}}]}}}}},
  {numbers: [0, -1, 1.5, 1e21, 1e-7], flags: [true, false]},
  {selector: 'app=checkout', image: 'registry.local/shop/api:1.8.0', path: '/etc/passwd', time: '10:30', octal: '0755', ratio: '1:2'},
];

test('every JSON object is the same after it was written and read as YAML', () => {
  for (const value of VALUES) {
    const text = writeYaml(value);
    const read = readYamlObject(text);
    assert.equal(read.error, '', text);
    assert.deepEqual(read.value, JSON.parse(JSON.stringify(value)), text);
  }
});

test('random texts are the same after it, too', () => {
  const alphabet = [...'ab 01:#-"\'\\\n\t|>&*!%@{}[],?~=<.é\u200b\u202e'];
  let seed = 7;
  const random = (limit) => (seed = (seed * 1103515245 + 12345) % 2147483648) % limit;
  for (let round = 0; round < 3000; round++) {
    const text = Array.from({length: random(14)}, () => alphabet[random(alphabet.length)]).join('');
    const value = {text, list: [text, {[text]: text}]};
    const written = writeYaml(value);
    assert.deepEqual(readYamlObject(written).value, value, written);
  }
});

test('what cannot be seen is written as an escape', () => {
  for (const value of VALUES) assert.equal(hasInvisible(writeYaml(value)), false);
  assert.match(writeYaml({bidi: 'user\u202Egnp'}), /\\u202e/);
  assert.equal(showInvisible('a\u202eb\u200b\u001b[31m\r\nc'), 'a⟨U+202E⟩b⟨U+200B⟩⟨U+001B⟩[31m\nc');
  assert.equal(showInvisible('plain, Zürich 東京 🚀\n\tx'), 'plain, Zürich 東京 🚀\n\tx');
});

test('manifests are readable blocks', () => {
  assert.equal(writeYaml({manifest: 'kind: Pod\nspec: {}\n', count: 1}), 'manifest: |\n  kind: Pod\n  spec: {}\ncount: 1');
});

test('what is no list of arguments is named with its place', () => {
  assert.match(readYamlObject('replicas: 3\n  name: x').error, /^Line 2, column/);
  assert.match(readYamlObject('- a').error, /names with values/);
  assert.match(readYamlObject('text').error, /names with values/);
  assert.match(readYamlObject('a: *missing').error, /\S/);
  assert.deepEqual(readYamlObject('').value, {});
});

const DIFF = `--- Deployment shop/storefront
+++ Deployment shop/storefront
@@ -14,5 +14,5 @@
         app: storefront
     spec:
---- # a removed line that looks like a name
-      - image: nginx:1.72
++++ x
+      - image: nginx:1.26
         name: storefront
@@ -40 +40 @@
-a
+b
1 more object could not be read.
--- /dev/null
+++ ConfigMap shop/new
@@ -0,0 +1,2 @@
+kind: ConfigMap
+data: {}
\\ No newline at end of file
`;

test('a diff is read by the counts of its hunks', () => {
  const parts = parseDiff(DIFF);
  assert.deepEqual(parts.map((part) => part.kind), ['file', 'hunk', 'hunk', 'text', 'file', 'hunk', 'text'].slice(0, parts.length));
  assert.equal(parts[0].name, 'Deployment shop/storefront');
  assert.equal(parts[4].name, 'ConfigMap shop/new (new)');
  assert.equal(parts[1].lines.length, 7);
  assert.equal(parts[1].lines[4].newNumber, 16);
  assert.deepEqual(countChanges(DIFF), {added: 5, removed: 3});
});

test('removed lines stand next to what takes their place', () => {
  const [, hunk] = parseDiff(DIFF);
  const rows = pairLines(hunk.lines);
  assert.equal(rows.length, 5);
  assert.equal(rows[3].left.text, '      - image: nginx:1.72');
  assert.equal(rows[3].right.text, '      - image: nginx:1.26');
  assert.deepEqual(changedPart('nginx:1.72', 'nginx:1.26'), {start: 8, beforeEnd: 10, afterEnd: 10});
  assert.deepEqual(changedPart('replicas: 1', 'replicas: 11'), {start: 11, beforeEnd: 11, afterEnd: 12});
});

test('texts that are no diff stay texts', () => {
  assert.deepEqual(parseDiff('deployment.apps/x configured (dry run)').map((part) => part.kind), ['text']);
  assert.deepEqual(parseDiff('').length, 0);
});

const SCHEMA = {
  type: 'object',
  required: ['name', 'size', 'tier'],
  properties: {
    name: {type: 'string', title: 'Name', minLength: 2},
    mail: {type: 'string', format: 'email'},
    size: {type: 'integer', minimum: 1, maximum: 9, default: 3},
    ratio: {type: 'number'},
    tier: {type: 'string', enum: ['a', 'b'], enumNames: ['First', 'Second']},
    zone: {type: 'string', oneOf: [{const: 'z1', title: 'Zone 1'}]},
    tags: {type: 'array', items: {type: 'string', enum: ['x', 'y']}},
    sure: {type: 'boolean', default: true},
  },
};

test('a form has a field for each property of its schema', () => {
  const fields = listFields(SCHEMA);
  assert.deepEqual(fields.map((field) => field.kind), ['text', 'text', 'whole', 'number', 'choice', 'choice', 'choices', 'flag']);
  assert.deepEqual(fields[4].options, [{value: 'a', label: 'First'}, {value: 'b', label: 'Second'}]);
  assert.equal(fields[1].inputType, 'email');
});

test('an answer has the types of the schema, and no empty optional fields', () => {
  const fields = listFields(SCHEMA);
  assert.deepEqual(readAnswer(fields, {name: 'x1', tier: 'b'}), {name: 'x1', size: 3, tier: 'b', sure: true});
  assert.deepEqual(readAnswer(fields, {name: 'x1', size: '5', ratio: '0.5', tier: 'a', tags: ['y'], sure: false, zone: 'z1', mail: 'a@b.c'}), {
    name: 'x1',
    mail: 'a@b.c',
    size: 5,
    ratio: 0.5,
    tier: 'a',
    zone: 'z1',
    tags: ['y'],
    sure: false,
  });
});

test('numbers and times are short', () => {
  assert.deepEqual([4, 3966, 59_990, 61_000, 3_600_000, 5_400_000].map(formatDuration), ['4 ms', '4.0 s', '1 min', '1 min 1 s', '1 h', '1 h 30 min']);
  assert.deepEqual([381, 12_400, 4_800_000].map(formatBytes), ['381 B', '12 KB', '4.8 MB']);
  assert.deepEqual([950, 12_400, 1_200_000].map(formatTokens), ['950', '12.4k', '1.2M']);
  assert.deepEqual([0, 0.0042, 12.3].map(formatMoney), ['$0', '$0.0042', '$12.30']);
  const now = Date.parse('2026-11-30T12:00:00Z');
  assert.equal(formatAge('2026-11-30T11:59:40Z', now), 'just now');
  assert.equal(formatAge('2026-11-30T09:00:00Z', now), '3 h ago');
  assert.equal(formatRemaining('2026-11-30T12:12:00Z', now), 'in 12 min');
  assert.equal(formatRemaining('2026-11-30T11:00:00Z', now), 'expired');
});

/** The fold from frames to what is shown, on logs that a service wrote. */

import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {test} from 'node:test';

import {describeActivity} from '../src/view/activity.js';
import {closeSession, emptyState, foldFrames} from '../src/view/fold.js';
import {groupItems} from '../src/view/groups.js';
import {listTimeline} from '../src/view/timeline.js';

const read = (name) =>
  readFileSync(new URL(`recordings/${name}.ndjson`, import.meta.url), 'utf8').trim().split('\n').map((line) => JSON.parse(line));
const fold = (frames) => foldFrames(emptyState(), frames);
const shown = ({items, run, title, lastSeq}) => ({items, run, title, lastSeq});
const RECORDINGS = ['diagnosis', 'changes', 'takeover'];

/** A state whose parts cannot be changed. */
function freeze(state) {
  state.items.forEach((item) => Object.freeze(item));
  Object.freeze(state.items);
  return Object.freeze(state);
}

for (const name of RECORDINGS) {
  test(`${name}: frames give the same view one by one, all at once, and when they come again`, () => {
    const frames = read(name);
    const whole = fold(frames);
    const stepwise = frames.reduce((state, frame) => foldFrames(freeze(state), [frame]), freeze(emptyState()));
    assert.deepEqual(shown(stepwise), shown(whole));
    assert.deepEqual(shown(foldFrames(whole, frames.filter((frame) => frame.seq))), shown(whole));
  });

  test(`${name}: a reconnect at any event gives the same view`, () => {
    const frames = read(name);
    const logged = frames.filter((frame) => frame.seq);
    const whole = shown(fold(logged));
    for (let cut = 1; cut < frames.length; cut += 7) {
      const before = fold(frames.slice(0, cut));
      const rest = logged.filter((frame) => frame.seq > before.lastSeq);
      assert.deepEqual(shown(foldFrames(before, rest)), whole, `after ${cut} frames`);
    }
  });

  test(`${name}: nothing runs or waits at the end`, () => {
    const state = fold(read(name));
    assert.equal(state.run, null);
    assert.equal(describeActivity(state), '');
    for (const item of state.items) {
      if (item.kind === 'tool') assert.equal(item.phase, 'ended', item.name);
      if (item.kind === 'assistant') assert.equal(item.streaming, false);
    }
  });
}

test('the text that is written grows with its tokens, and the message that closes it replaces it', () => {
  const frames = read('diagnosis');
  const closing = frames.findLastIndex((frame) => frame.type === 'assistant_message');
  const preview = fold(frames.slice(0, closing)).items.at(-1);
  assert.equal(preview.streaming, true);
  assert.equal(preview.text, frames[closing].content);
  assert.equal(fold(frames).items.find((item) => item.key === preview.key).streaming, false);
});

test('a call is one item from its message to its end', () => {
  const tools = fold(read('diagnosis')).items.filter((item) => item.kind === 'tool');
  assert.equal(tools.length, 8);
  for (const tool of tools) {
    assert.equal(tool.status, 'ok');
    assert.equal(tool.server, 'demo-cluster');
    assert.ok(tool.output);
  }
});

test('approvals are part of their call: approved, denied, and approved with edited arguments', () => {
  const tools = fold(read('changes')).items.filter((item) => item.kind === 'tool' && item.approvals.length);
  const decisions = tools.map((tool) => [tool.name, tool.approvals[0].resolution.decision, tool.status]);
  assert.deepEqual(decisions, [
    ['deployment_rollback', 'approve', 'ok'],
    ['deployment_scale', 'deny', 'denied'],
    ['deployment_scale', 'approve', 'ok'],
  ]);
  assert.equal(tools[2].arguments.replicas, 3);
});

test('an open approval waits until it is answered', () => {
  const frames = read('changes');
  const asked = frames.findIndex((frame) => frame.type === 'approval_requested');
  const state = fold(frames.slice(0, asked + 1));
  assert.equal(describeActivity(state), 'Waiting for an approval');
  assert.equal(state.items.at(-1).phase, 'waiting');
});

test('nothing waits in a session that is gone', () => {
  const frames = read('changes');
  const asked = frames.findIndex((frame) => frame.type === 'approval_requested');
  const question = {type: 'input_requested', input_id: 'q', server: 'prod', message: 'which?', seq: 900, ts: '', run_id: 'r'};
  const open = freeze(fold([...frames.slice(0, asked + 1), question]));
  const closed = closeSession(open);
  assert.equal(describeActivity(closed), '');
  assert.equal(closed.run, null);
  assert.ok(!listTimeline(closed.items, '').some((entry) => /waiting/.test(JSON.stringify(entry))), JSON.stringify(listTimeline(closed.items, '')));
  assert.equal(describeActivity(open), 'Waiting for an approval');
});

test('the timeline names messages, looks, approvals, changes and ends, and points to what is shown', () => {
  const {items, index, owner} = fold(read('changes'));
  const entries = listTimeline(items, owner);
  const kinds = entries.map((entry) => entry.kind);
  for (const kind of ['message', 'look', 'approval', 'change', 'end']) assert.ok(kinds.includes(kind), kind);
  const denied = entries.find((entry) => entry.detail.startsWith('denied'));
  assert.equal(denied.detail, 'denied by you');
  const approvals = new Set(items.flatMap((item) => item.approvals ?? []).map((approval) => `a:${approval.request.approval_id}`));
  for (const entry of entries) assert.ok(index.has(entry.key) || approvals.has(entry.key), entry.key);
});

test('a takeover voids what the process that died was writing', () => {
  const frames = read('takeover');
  const recovered = frames.findIndex((frame) => frame.type === 'run_recovered');
  const before = fold(frames.slice(0, recovered));
  const preview = before.items.at(-1);
  assert.equal(preview.streaming, true);
  const after = foldFrames(before, [frames[recovered]]);
  assert.equal(after.index.has(preview.key), false);
  assert.ok(listTimeline(after.items, after.owner).some((entry) => entry.kind === 'takeover'));
  assert.deepEqual(fold(frames).items.filter((item) => item.kind === 'assistant').length, 1);
});

test('looks in a row are one group, and changes stand alone', () => {
  const groups = groupItems(fold(read('changes')).items, 0);
  assert.ok(groups.some((group) => group.kind === 'tools' && group.tools.length === 6));
  assert.equal(groups.filter((group) => group.kind === 'single' && group.item.kind === 'tool').length, 3);
});

test('what is new since the last visit is marked once', () => {
  const groups = groupItems(fold(read('changes')).items, 26);
  assert.equal(groups.filter((group) => group.kind === 'marker').length, 1);
});

test('a snapshot replaces what was shown', () => {
  const snapshot = {
    type: 'snapshot',
    as_of_seq: 40,
    messages: [
      {role: 'user', message_id: 'u', seq: 30, ts: '2026-11-30T10:00:00Z', content: 'hello'},
      {role: 'assistant', message_id: 'a', seq: 31, ts: '2026-11-30T10:00:01Z', content: '', stop_reason: 'tool_use', usage: {}, tool_calls: [{id: 'c1', name: 'pods_list', arguments: {}}, {id: 'c2', name: 'pod_delete', arguments: {name: 'x'}}]},
      {role: 'tool', tool_call_id: 'c1', seq: 33, ts: '2026-11-30T10:00:02Z', name: 'pods_list', status: 'ok', content: 'NAME'},
    ],
    settings: {provider: 'demo', model: 'rules'},
    pending_approvals: [{approval_id: 'p', tool_call_id: 'c2', name: 'pod_delete', arguments: {name: 'x'}, effect: 'mutating', reason: 'r', expires_at: '2026-11-30T11:00:00Z'}],
    pending_inputs: [],
    open_run: 'r',
  };
  const state = foldFrames(fold(read('diagnosis')), [{type: 'gap', requested: 90, oldest_seq: 30, reason: 'log_truncated'}, snapshot]);
  assert.deepEqual(state.items.map((item) => item.key), ['m:u', 'm:a', 't:c1', 't:c2']);
  assert.equal(state.items[3].phase, 'waiting');
  assert.equal(state.lastSeq, 40);
  assert.equal(foldFrames(state, [{type: 'title_changed', seq: 41, title: 'new'}]).title, 'new');
});

test('unknown frames and frames about unknown calls do no harm', () => {
  const state = fold([
    {type: 'something_new', seq: 1},
    {type: 'tool_end', seq: 2, tool_call_id: 'x', status: 'unknown', content: '', truncated: false, bytes: 0, duration_ms: 1, ts: ''},
    {type: 'approval_resolved', seq: 3, approval_id: 'y', decision: 'deny', by: 'user:a', ts: ''},
    {type: 'tool_progress', tool_call_id: 'z', progress: 1},
  ]);
  assert.equal(state.items.length, 1);
  assert.equal(state.lastSeq, 3);
});

test('a rating belongs to its reply, and an attachment to its message', () => {
  const attachments = [{attachment_id: 'file_1', name: 'a.log', media_type: 'text/plain', text: 'x', bytes: 1}];
  const said = [
    {type: 'user_message', seq: 1, ts: '', message_id: 'u', content: 'look', attachments},
    {type: 'assistant_message', seq: 2, ts: '', message_id: 'a', content: 'fine', stop_reason: 'end_turn'},
    {type: 'message_feedback', seq: 3, ts: '', message_id: 'a', rating: 'down', by: 'user:a'},
    {type: 'message_feedback', seq: 4, ts: '', message_id: 'gone', rating: 'up', by: 'user:a'},
  ];
  const state = fold(said);
  assert.deepEqual(state.items.map((item) => item.attachments ?? item.rating), [attachments, 'down']);
  assert.equal(foldFrames(state, [{...said[2], seq: 5, rating: 'up'}]).items[1].rating, 'up');
});

test('a warning about the stream goes with the next event', () => {
  const warned = fold([{type: 'warning', code: 'store_unavailable', message: 'The store is unavailable.'}]);
  assert.equal(warned.streamWarning.code, 'store_unavailable');
  assert.equal(foldFrames(warned, [{type: 'title_changed', seq: 1, title: 'x'}]).streamWarning, null);
});

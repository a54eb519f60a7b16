/**
 * The fold from frames to what is shown of a session. It is pure: the same frames give the same view, whatever was
 * reconnected or repeated in between.
 */

import {foldSnapshot} from './snapshot.js';
import {newTool} from './tool_item.js';
import {ViewDraft as Draft} from './view_draft.js';

/** @typedef {import('../../types/wire').Frame} Frame */
/** @typedef {import('../../types/view').SessionState} SessionState */
/** @typedef {import('../../types/view').ToolItem} ToolItem */
/** @typedef {import('./view_draft.js').ViewDraft} ViewDraft */

/** @returns {SessionState} The view of a session of which nothing is known yet. */
export function emptyState() {
  return {
    items: [],
    index: new Map(),
    lastSeq: 0,
    ready: false,
    title: '',
    owner: '',
    settings: null,
    run: null,
    contextTokens: 0,
    usage: {inputTokens: 0, outputTokens: 0, costUsd: 0},
    streamWarning: null,
    deleted: false,
  };
}

/**
 * @param {SessionState} state
 * @param {Frame[]} frames In the order in which they arrived.
 * @returns {SessionState} A new view. Items that did not change are the same objects.
 */
export function foldFrames(state, frames) {
  const draft = new Draft(state);
  for (const frame of frames) {
    const seq = 'seq' in frame && frame.type !== 'ack' ? Number(frame.seq) : 0;
    // After a reconnect an event may come again.
    if (seq && seq <= draft.state.lastSeq) continue;
    const fold = FOLDS[frame.type];
    if (fold) fold(draft, /** @type {any} */ (frame));
    if (seq) {
      draft.state.lastSeq = seq;
      draft.state.streamWarning = null;
    }
  }
  return draft.finish();
}

/**
 * The order of frames within one run is that of the log, so that each fold only adds or changes items.
 *
 * @type {Record<string, (draft: ViewDraft, frame: any) => void>}
 */
const FOLDS = {
  hello(draft, frame) {
    draft.state.ready = draft.state.ready || frame.last_seq <= draft.state.lastSeq;
    draft.state.headSeq = frame.last_seq;
  },
  snapshot: foldSnapshot,
  session_created(draft, frame) {
    draft.state.title = frame.title ?? draft.state.title;
    draft.state.owner = frame.user_id;
    draft.state.settings = frame.settings;
  },
  title_changed(draft, frame) {
    draft.state.title = frame.title;
  },
  settings_changed(draft, frame) {
    const before = draft.state.settings;
    draft.state.settings = frame.settings;
    const changed = before && (before.model !== frame.settings.model || before.provider !== frame.settings.provider);
    if (changed) draft.notice(frame, 'info', `Model changed to ${frame.settings.provider}/${frame.settings.model}`);
  },
  user_message(draft, frame) {
    draft.add({
      kind: 'user',
      key: `m:${frame.message_id}`,
      seq: frame.seq,
      ts: frame.ts,
      runId: frame.run_id,
      commandId: frame.command_id ?? null,
      text: frame.content,
      attachments: frame.attachments ?? [],
    });
  },
  run_started(draft, frame) {
    draft.state.run = {id: frame.run_id, startedAt: frame.ts, provider: frame.provider, model: frame.model};
  },
  token(draft, frame) {
    appendPreview(draft, frame, 'text');
  },
  reasoning(draft, frame) {
    appendPreview(draft, frame, 'reasoning');
  },
  assistant_message(draft, frame) {
    draft.put({
      kind: 'assistant',
      key: `m:${frame.message_id}`,
      seq: frame.seq,
      ts: frame.ts,
      runId: frame.run_id,
      text: frame.content,
      reasoning: frame.reasoning ?? draft.get(`m:${frame.message_id}`)?.reasoning ?? '',
      streaming: false,
      stopReason: frame.stop_reason,
      model: frame.model ?? '',
      citations: frame.citations ?? [],
      rating: null,
    });
    draft.state.contextTokens = frame.usage?.input_tokens ?? draft.state.contextTokens;
    for (const call of frame.tool_calls ?? []) {
      draft.put(newTool(call.id, {seq: frame.seq, ts: frame.ts, runId: frame.run_id, name: call.name, arguments: call.arguments}));
    }
  },
  message_feedback(draft, frame) {
    const reply = draft.get(`m:${frame.message_id}`);
    if (reply) draft.put({...reply, rating: frame.rating});
  },
  approval_requested(draft, frame) {
    const tool = toolFor(draft, frame);
    const approvals = tool.approvals.map((old) =>
      old.request.approval_id === frame.replaces ? {...old, replaced: true} : old,
    );
    approvals.push({request: frame, requestedAt: frame.ts, resolution: null, resolvedAt: null, replaced: false});
    draft.put({...tool, name: frame.name, arguments: frame.arguments, effect: frame.effect, server: frame.server ?? tool.server, phase: 'waiting', approvals});
  },
  approval_resolved(draft, frame) {
    for (const item of draft.state.items) {
      if (item.kind !== 'tool' || !item.approvals.some((a) => a.request.approval_id === frame.approval_id)) continue;
      const approvals = item.approvals.map((a) =>
        a.request.approval_id === frame.approval_id ? {...a, resolution: frame, resolvedAt: frame.ts} : a,
      );
      draft.put({...item, approvals, arguments: frame.arguments ?? item.arguments, phase: 'planned'});
    }
  },
  input_requested(draft, frame) {
    draft.add({
      kind: 'input',
      key: `q:${frame.input_id}`,
      seq: frame.seq,
      ts: frame.ts,
      runId: frame.run_id,
      request: frame,
      resolution: null,
    });
  },
  input_resolved(draft, frame) {
    const item = draft.get(`q:${frame.input_id}`);
    if (item) draft.put({...item, resolution: frame});
  },
  tool_start(draft, frame) {
    const tool = toolFor(draft, frame);
    draft.put({
      ...tool,
      name: frame.name,
      server: frame.server,
      arguments: frame.arguments,
      effect: frame.effect,
      attempt: frame.attempt,
      // A call that was denied was not sent.
      startedAt: frame.sent === false ? null : frame.ts,
      phase: frame.sent === false ? 'planned' : 'running',
      progress: null,
    });
  },
  tool_progress(draft, frame) {
    const tool = draft.get(`t:${frame.tool_call_id}`);
    const progress = {value: frame.progress, total: frame.total ?? null, message: frame.message ?? ''};
    if (tool && tool.phase === 'running') draft.put({...tool, progress});
  },
  tool_end(draft, frame) {
    draft.put({
      ...toolFor(draft, frame),
      phase: 'ended',
      endedAt: frame.ts,
      status: frame.status,
      output: frame.content,
      truncated: frame.truncated,
      bytes: frame.bytes,
      durationMs: frame.duration_ms,
      progress: null,
    });
  },
  run_recovered(draft, frame) {
    // A process that was killed could not say which of its previews are void: all that are not logged.
    const previews = draft.state.items.filter((item) => item.kind === 'assistant' && item.streaming);
    draft.remove([...frame.superseded.map((/** @type {string} */ id) => `m:${id}`), ...previews.map((item) => item.key)]);
    draft.notice(frame, 'takeover', `The run was resumed: ${frame.reason}`);
  },
  run_finished(draft, frame) {
    endRun(draft, frame);
    draft.add({
      kind: 'end',
      key: `e:${frame.seq}`,
      seq: frame.seq,
      ts: frame.ts,
      runId: frame.run_id,
      outcome: frame.outcome,
      durationMs: frame.duration_ms,
      usage: frame.usage,
    });
  },
  run_failed(draft, frame) {
    endRun(draft, frame);
    const again = frame.retryable ? ' The same message may succeed later.' : '';
    draft.notice(frame, 'failure', `${frame.message}${again}`, frame.code);
  },
  warning(draft, frame) {
    if (frame.seq) {
      draft.notice(frame, 'warning', frame.message, frame.code);
      return;
    }
    draft.state.deleted = draft.state.deleted || frame.code === 'session_deleted';
    draft.state.streamWarning = {code: frame.code, text: frame.message};
  },
  context_compacted(draft, frame) {
    const saved = `${frame.tokens_before} → ${frame.tokens_after} tokens`;
    draft.notice(frame, 'info', `Older turns were summarized (${saved}).`, 'context_compacted', frame.summary);
  },
  memory_recalled(draft, frame) {
    if (frame.memories.length) draft.notice(frame, 'memory', `Recalled ${countMemories(frame)}`, '', memoryLines(frame));
  },
  memory_saved(draft, frame) {
    if (frame.memories.length) draft.notice(frame, 'memory', `Remembered ${countMemories(frame)}`, '', memoryLines(frame));
  },
  log_truncated(draft, frame) {
    const lost = (frame.lost_calls ?? []).map((/** @type {any} */ call) => `${call.server}: ${call.name}`).join('\n');
    const loss = frame.lost
      ? 'The store lost the newest events of this session.'
      : 'The store failed over or was restarted, and may have lost the newest events of this session.';
    const text = `${loss} Messages after this point may have to be sent again.`;
    draft.notice(frame, 'failure', text, 'log_truncated', lost);
  },
  gap(draft) {
    draft.clear();
  },
};

/**
 * @param {ViewDraft} draft
 * @param {any} frame
 * @param {'text' | 'reasoning'} field
 */
function appendPreview(draft, frame, field) {
  const key = `m:${frame.message_id}`;
  const item = draft.get(key) ?? {
    kind: 'assistant',
    key,
    seq: 0,
    ts: '',
    runId: frame.run_id,
    text: '',
    reasoning: '',
    streaming: true,
    stopReason: '',
    model: '',
    citations: [],
    rating: null,
  };
  if (item.kind !== 'assistant' || !item.streaming) return;
  draft.put({...item, [field]: frame.offset === 0 ? frame.content : item[field] + frame.content});
}

/**
 * @param {ViewDraft} draft
 * @param {any} frame
 * @returns {ToolItem} The call of a frame, also if the message that made it is not known.
 */
function toolFor(draft, frame) {
  const known = draft.get(`t:${frame.tool_call_id}`);
  return known ?? newTool(frame.tool_call_id, {seq: frame.seq, ts: frame.ts, runId: frame.run_id, name: frame.name ?? 'unknown tool'});
}

/**
 * @param {ViewDraft} draft
 * @param {any} frame
 */
function endRun(draft, frame) {
  draft.state.run = null;
  const used = frame.usage ?? {};
  const {usage} = draft.state;
  draft.state.usage = {
    inputTokens: usage.inputTokens + (used.input_tokens ?? 0),
    outputTokens: usage.outputTokens + (used.output_tokens ?? 0),
    costUsd: usage.costUsd + (used.cost_usd ?? 0),
  };
  for (const item of draft.state.items) {
    if (item.kind === 'assistant' && item.streaming) draft.put({...item, streaming: false});
  }
}

/**
 * The view of a session that is gone: nothing runs or waits in it.
 *
 * @param {SessionState} state
 * @returns {SessionState}
 */
export function closeSession(state) {
  const draft = new Draft(state);
  endRun(draft, {});
  for (const item of draft.state.items) {
    if (item.kind === 'input' && !item.resolution) draft.put({...item, resolution: /** @type {any} */ ({action: 'cancel', by: 'system'})});
    if (item.kind !== 'tool' || item.phase === 'ended') continue;
    const approvals = item.approvals.map((old) => (old.resolution || old.replaced ? old : {...old, resolution: /** @type {any} */ ({decision: 'expired', by: 'system'})}));
    draft.put({...item, phase: 'planned', approvals});
  }
  return draft.state;
}

/** @param {any} frame */
function countMemories(frame) {
  return frame.memories.length === 1 ? '1 memory' : `${frame.memories.length} memories`;
}

/** @param {any} frame */
function memoryLines(frame) {
  return frame.memories.map((/** @type {any} */ memory) => `- ${memory.content}`).join('\n');
}

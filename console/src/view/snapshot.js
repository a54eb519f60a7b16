/** Folds a snapshot: the conversation as the store has it, in place of everything that was shown. */

import {newTool} from './tool_item.js';

/** @typedef {import('./view_draft.js').ViewDraft} ViewDraft */

/**
 * @param {ViewDraft} draft
 * @param {any} frame
 */
export function foldSnapshot(draft, frame) {
  draft.clear();
  for (const message of frame.messages) MESSAGES[message.role]?.(draft, message);
  for (const request of frame.pending_approvals) {
    const tool = draft.get(`t:${request.tool_call_id}`) ?? newTool(request.tool_call_id, {});
    const approval = {request, requestedAt: tool.ts, resolution: null, resolvedAt: null, replaced: false};
    const known = {name: request.name, arguments: request.arguments, effect: request.effect, server: request.server ?? ''};
    draft.put({...tool, ...known, phase: 'waiting', approvals: [approval]});
  }
  for (const request of frame.pending_inputs) {
    draft.add({kind: 'input', key: `q:${request.input_id}`, seq: frame.as_of_seq, ts: '', runId: '', request, resolution: null});
  }
  draft.state.settings = frame.settings;
  draft.state.run = frame.open_run ? {id: frame.open_run, startedAt: null, provider: '', model: ''} : null;
  draft.state.lastSeq = frame.as_of_seq;
  draft.state.ready = true;
}

/** @type {Record<string, (draft: ViewDraft, message: any) => void>} */
const MESSAGES = {
  user(draft, message) {
    const {message_id: id, seq, ts, content, attachments = []} = message;
    draft.add({kind: 'user', key: `m:${id}`, seq, ts, runId: '', commandId: null, text: content, attachments});
  },
  assistant(draft, message) {
    draft.add({
      kind: 'assistant',
      key: `m:${message.message_id}`,
      seq: message.seq,
      ts: message.ts,
      runId: message.run_id ?? '',
      text: message.content,
      reasoning: message.reasoning ?? '',
      streaming: false,
      stopReason: message.stop_reason,
      model: message.model ?? '',
      citations: message.citations ?? [],
      rating: message.feedback?.rating ?? null,
    });
    for (const call of message.tool_calls ?? []) {
      draft.add(newTool(call.id, {seq: message.seq, ts: message.ts, runId: message.run_id ?? '', name: call.name, arguments: call.arguments}));
    }
  },
  tool(draft, message) {
    const tool = draft.get(`t:${message.tool_call_id}`) ?? newTool(message.tool_call_id, {seq: message.seq, ts: message.ts});
    const ended = {name: message.name, phase: 'ended', endedAt: message.ts, status: message.status, output: message.content};
    draft.put({...tool, ...ended, bytes: message.content.length});
  },
};

/** A call of a tool, as it is shown. */

/** @typedef {import('../../types/view').ToolItem} ToolItem */

/**
 * @param {string} id
 * @param {Partial<ToolItem>} known
 * @returns {ToolItem}
 */
export function newTool(id, known) {
  return {
    kind: 'tool',
    key: `t:${id}`,
    callId: id,
    seq: 0,
    ts: '',
    runId: '',
    name: '',
    server: '',
    arguments: {},
    effect: null,
    attempt: 1,
    phase: 'planned',
    approvals: [],
    startedAt: null,
    endedAt: null,
    status: null,
    output: '',
    truncated: false,
    bytes: 0,
    durationMs: 0,
    progress: null,
    ...known,
  };
}

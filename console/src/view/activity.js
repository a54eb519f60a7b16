/** What a run is doing at the moment, in words. */

/** @typedef {import('../../types/view').SessionState} SessionState */

/**
 * @param {SessionState} state
 * @returns {string} Empty if no run is in progress.
 */
export function describeActivity(state) {
  if (!state.run) return '';
  const last = state.items.at(-1);
  const running = state.items.filter((item) => item.kind === 'tool' && item.phase === 'running');
  if (state.items.some((item) => item.kind === 'tool' && item.phase === 'waiting')) return 'Waiting for an approval';
  if (state.items.some((item) => item.kind === 'input' && !item.resolution)) return 'Waiting for your answer';
  if (running.length === 1) return `Calling ${running[0].kind === 'tool' ? running[0].name : ''}`;
  if (running.length) return `Calling ${running.length} tools`;
  if (last?.kind === 'assistant' && last.streaming) return last.text ? 'Writing' : 'Thinking';
  return 'Thinking';
}

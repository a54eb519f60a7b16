/** Numbers and times as people read them. */

/**
 * @param {number} ms
 * @returns {string} Such as `340 ms`, `2.4 s` or `3 min 5 s`.
 */
export function formatDuration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 59_950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 3600) return join(Math.floor(seconds / 60), 'min', seconds % 60, 's');
  return join(Math.floor(seconds / 3600), 'h', Math.floor((seconds % 3600) / 60), 'min');
}

/** @type {(large: number, largeUnit: string, small: number, smallUnit: string) => string} */
function join(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

/**
 * @param {number} bytes
 * @returns {string} Such as `381 B`, `12 KB` or `4.8 MB`.
 */
export function formatBytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${Math.round(bytes / 1000)} KB`;
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/**
 * @param {number} tokens
 * @returns {string} Such as `950`, `12.4k` or `1.2M`.
 */
export function formatTokens(tokens) {
  if (tokens < 1000) return String(tokens);
  return tokens < 1e6 ? `${trim(tokens / 1000)}k` : `${trim(tokens / 1e6)}M`;
}

/** @param {number} value */
function trim(value) {
  return value.toFixed(1).replace(/\.0$/, '');
}

/**
 * @param {number} usd
 * @returns {string} Such as `$0.0042` or `$12.30`.
 */
export function formatMoney(usd) {
  if (usd === 0) return '$0';
  return `$${usd.toFixed(usd < 0.1 ? 4 : 2)}`;
}

/**
 * @param {string} ts RFC 3339.
 * @returns {string} The time of day, such as `10:17:16`.
 */
export function formatClock(ts) {
  return ts ? new Date(ts).toLocaleTimeString('en-GB') : '';
}

/**
 * @param {string} ts RFC 3339.
 * @param {number} [now]
 * @returns {string} Such as `just now`, `5 min ago`, `3 h ago` or a date.
 */
export function formatAge(ts, now = Date.now()) {
  const seconds = (now - Date.parse(ts)) / 1000;
  if (seconds < 45) return 'just now';
  if (seconds < 3570) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 23.5 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return new Date(ts).toLocaleDateString('en-GB', {day: 'numeric', month: 'short'});
}

/**
 * @param {string} ts RFC 3339.
 * @param {number} [now]
 * @returns {string} How long it is until then, such as `in 12 min`, or `expired`.
 */
export function formatRemaining(ts, now = Date.now()) {
  const ms = Date.parse(ts) - now;
  if (ms <= 0) return 'expired';
  if (ms < 60_000) return `in ${Math.ceil(ms / 1000)} s`;
  return ms < 3_600_000 ? `in ${Math.round(ms / 60_000)} min` : `in ${trim(ms / 3_600_000)} h`;
}

/** @type {(count: number, one: string, many?: string) => string} */
export function countOf(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

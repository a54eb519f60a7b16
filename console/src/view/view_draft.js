/** A view that is being changed. Nothing of the view before it changes. */

/** @typedef {import('../../types/view').SessionState} SessionState */
/** @typedef {import('../../types/view').ConversationItem} ConversationItem */
/** @typedef {import('../../types/view').NoticeLevel} NoticeLevel */

export class ViewDraft {
  /** @param {SessionState} state */
  constructor(state) {
    this.state = {...state, items: [...state.items], index: new Map(state.index)};
  }

  /**
   * @param {string} key
   * @returns {any} The item with this key, if there is one.
   */
  get(key) {
    const at = this.state.index.get(key);
    return at === undefined ? undefined : this.state.items[at];
  }

  /**
   * Replaces the item with the same key, or adds it.
   *
   * @param {ConversationItem} item
   */
  put(item) {
    const at = this.state.index.get(item.key);
    if (at === undefined) this.add(item);
    else this.state.items[at] = item;
  }

  /** @param {ConversationItem} item */
  add(item) {
    this.state.index.set(item.key, this.state.items.length);
    this.state.items.push(item);
  }

  /** @param {string[]} keys */
  remove(keys) {
    if (!keys.some((key) => this.state.index.has(key))) return;
    this.replaceItems(this.state.items.filter((item) => !keys.includes(item.key)));
  }

  clear() {
    this.replaceItems([]);
    this.state.run = null;
    this.state.lastSeq = 0;
  }

  /** @param {ConversationItem[]} items */
  replaceItems(items) {
    this.state.items = items;
    this.state.index = new Map(items.map((item, at) => [item.key, at]));
  }

  /**
   * Adds a line that is no message.
   *
   * @param {any} frame
   * @param {NoticeLevel} level
   * @param {string} text
   * @param {string} [code]
   * @param {string} [detail] Shown on request.
   */
  notice(frame, level, text, code = '', detail = '') {
    this.add({kind: 'notice', key: `e:${frame.seq}`, seq: frame.seq, ts: frame.ts, runId: frame.run_id ?? '', level, text, code, detail});
  }

  /** @returns {SessionState} */
  finish() {
    const {state} = this;
    state.ready = state.ready || state.lastSeq >= (state.headSeq ?? Infinity);
    return state;
  }
}

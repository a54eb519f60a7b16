/** Puts items of a conversation together as they are drawn: looks in a row are one list. */

/** @typedef {import('../../types/view').ConversationItem} ConversationItem */
/** @typedef {import('../../types/view').ToolItem} ToolItem */

/**
 * @typedef {{kind: 'tools', key: string, tools: ToolItem[]} | {kind: 'single', key: string, item: ConversationItem} |
 *   {kind: 'marker'}} ItemGroup
 */

/**
 * @param {ConversationItem[]} items
 * @param {number} newFrom The first event that the user has not seen, or 0.
 * @returns {ItemGroup[]}
 */
export function groupItems(items, newFrom) {
  /** @type {ItemGroup[]} */
  const groups = [];
  let marked = newFrom === 0;
  for (const item of items) {
    if (!marked && item.seq >= newFrom) {
      marked = true;
      groups.push({kind: 'marker'});
    }
    const last = groups.at(-1);
    if (item.kind !== 'tool' || item.approvals.length) groups.push({kind: 'single', key: item.key, item});
    else if (last?.kind === 'tools') last.tools.push(item);
    else groups.push({kind: 'tools', key: item.key, tools: [item]});
  }
  return groups;
}

/**
 * Text of a model as Markdown. The text is not trusted: markup in it is shown as text, pictures are not loaded, and what
 * becomes markup goes through the sanitizer.
 */

import {Marked} from '../../vendor/marked.js';
import {html, useMemo} from '../../vendor/preact.js';
import purifier from '../../vendor/purify.js';
import {showInvisible} from '../view/visible_text.js';

const TAGS = 'a b blockquote br code del em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span strong table tbody td th thead tr ul'.split(' ');
const SANITIZE = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ['href', 'title', 'target', 'rel', 'class', 'start', 'align', 'tabindex'],
  RETURN_TRUSTED_TYPE: true,
};
const WEB_ADDRESS = /^https?:\/\//i;

/** @param {string} text */
function escapeMarkup(text) {
  const names = {'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;'};
  return text.replace(/[&<>"']/g, (char) => names[/** @type {keyof typeof names} */ (char)]);
}

/**
 * A link of a model leads where its text says: the host is shown next to a text that does not name it. Addresses inside of
 * the page, and those that run something, are no links.
 *
 * @param {string} href
 * @param {string} inner Markup of the text.
 * @param {string} text
 */
function renderLink(href, inner, text) {
  const url = WEB_ADDRESS.test(href) && URL.canParse(href) ? new URL(href) : null;
  if (!url) return `${inner}${href && href !== text ? ` <code>${escapeMarkup(href)}</code>` : ''}`;
  const host = text.includes(url.host) ? '' : ` <span class="link-host">${escapeMarkup(url.host)}</span>`;
  return `<a href="${escapeMarkup(url.href)}" target="_blank" rel="noopener noreferrer nofollow">${inner}</a>${host}`;
}

const markdown = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: (/** @type {any} */ token) => escapeMarkup(token.text),
    image: (/** @type {any} */ token) => renderLink(token.href, escapeMarkup(token.text || 'image'), token.text),
    /** @this {any} */
    link(/** @type {any} */ token) {
      return renderLink(token.href, this.parser.parseInline(token.tokens), token.text);
    },
    // The headings of a text are below those of the page, and a model leaves out levels.
    /** @this {any} */
    heading(/** @type {any} */ token) {
      return `<h2 class="h${token.depth}">${this.parser.parseInline(token.tokens)}</h2>`;
    },
    checkbox: (/** @type {any} */ token) => (token.checked ? '☑ ' : '☐ '),
  },
});

/** @param {{text: string}} props */
export function Markdown({text}) {
  const blocks = useMemo(() => markdown.lexer(showInvisible(text)).filter((token) => token.type !== 'space'), [text]);
  return html`<div class="markdown">${blocks.map((block, at) => html`<${MarkdownBlock} key=${at} block=${block} />`)}</div>`;
}

/**
 * While a text is written only its last block changes, so that the others keep their elements and what is selected in them.
 *
 * @param {{block: import('../../vendor/marked.js').Token}} props
 */
function MarkdownBlock({block}) {
  return useMemo(() => {
    // What scrolls can be reached with the keyboard.
    const parsed = markdown.parser([block]).replace(/<(pre|table)>/g, '<$1 tabindex="0">');
    const markup = {__html: purifier.sanitize(parsed, SANITIZE)};
    return html`<div class="markdown-block ${block.type}" dangerouslySetInnerHTML=${markup} />`;
  }, [block.raw]);
}

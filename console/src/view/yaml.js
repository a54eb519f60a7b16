/** Arguments as YAML, and back. */

import {load} from '../../vendor/yaml.js';
import {hasInvisible} from './visible_text.js';

/** A text that YAML reads as the same text without quotes. */
const PLAIN = /^[A-Za-z_/][\w ./@+-]*(?:[:=][\w./@+-]+)*$/;
/** Words that YAML reads as something else than a text. */
const RESERVED = /^(?:~|null|true|false|yes|no|on|off|y|n)$/i;

/**
 * @param {unknown} value A JSON value.
 * @returns {string} YAML that reads as the same value, in which every invisible character is written as an escape.
 */
export function writeYaml(value) {
  return isEmpty(value) || typeof value !== 'object' ? writeScalar(value, '') : writeLines(value, '').join('\n');
}

/**
 * @param {string} text
 * @returns {{value: any, error: string}} A JSON object, or what is wrong with the text.
 */
export function readYamlObject(text) {
  try {
    const value = text.trim() === '' ? {} : load(text);
    if (value === null || typeof value !== 'object' || Array.isArray(value)) {
      return {value: null, error: 'Arguments are a list of names with values, such as "replicas: 3".'};
    }
    return {value: JSON.parse(JSON.stringify(value)), error: ''};
  } catch (error) {
    const {mark, reason, message} = error;
    return {value: null, error: mark ? `Line ${mark.line + 1}, column ${mark.column + 1}: ${reason}` : message};
  }
}

/**
 * @param {any} value
 * @param {string} indent
 * @returns {string[]}
 */
function writeLines(value, indent) {
  if (Array.isArray(value)) {
    return value.flatMap((entry) => {
      if (isEmpty(entry) || typeof entry !== 'object') return [`${indent}- ${writeScalar(entry, indent)}`];
      const lines = writeLines(entry, `${indent}  `);
      return [`${indent}- ${lines[0].trimStart()}`, ...lines.slice(1)];
    });
  }
  return Object.entries(value).flatMap(([name, entry]) => {
    const key = `${indent}${writeText(name)}:`;
    if (isEmpty(entry) || typeof entry !== 'object') return [`${key} ${writeScalar(entry, indent)}`];
    return [key, ...writeLines(entry, `${indent}  `)];
  });
}

/** @param {unknown} value */
function isEmpty(value) {
  return value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}

/**
 * @param {unknown} value
 * @param {string} indent
 */
function writeScalar(value, indent) {
  if (typeof value !== 'string') return JSON.stringify(value) ?? 'null';
  const isBlock = value.includes('\n') && !/^\s|[\t\r]|[ ]\n|\s\n$/.test(value) && value.trim() !== '' && !hasInvisible(value);
  if (!isBlock) return writeText(value);
  const mark = value.endsWith('\n') ? '|' : '|-';
  const lines = value.replace(/\n$/, '').split('\n');
  return [mark, ...lines.map((line) => (line ? `${indent}  ${line}` : ''))].join('\n');
}

/** @param {string} text */
function writeText(text) {
  if (PLAIN.test(text) && !text.endsWith(' ') && !RESERVED.test(text)) return text;
  // What JSON leaves as it is and a reader cannot see.
  return JSON.stringify(text).replace(/[^\x20-\x7e]/gu, (char) => (hasInvisible(char) ? escape(char) : char));
}

/** @param {string} char */
function escape(char) {
  const code = /** @type {number} */ (char.codePointAt(0)).toString(16);
  return code.length > 4 ? `\\U${code.padStart(8, '0')}` : `\\u${code.padStart(4, '0')}`;
}

/** A form for the answer to a question of an MCP server, from the JSON Schema of the answer. */

/**
 * @typedef {object} FormField
 * @property {string} name
 * @property {string} label
 * @property {string} help
 * @property {boolean} required
 * @property {'text' | 'long' | 'number' | 'whole' | 'flag' | 'choice' | 'choices'} kind
 * @property {string} inputType The type of the `input` element of a text.
 * @property {{value: string, label: string}[]} options
 * @property {any} initial
 * @property {Record<string, any>} limits Attributes that the browser checks.
 */

const TEXT_INPUTS = {email: 'email', uri: 'url', date: 'date', 'date-time': 'datetime-local'};

/**
 * @param {any} schema
 * @returns {FormField[]}
 */
export function listFields(schema) {
  const required = new Set(schema?.required ?? []);
  return Object.entries(schema?.properties ?? {}).map(([name, property]) => describeField(name, property, required.has(name)));
}

/**
 * @param {string} name
 * @param {any} property
 * @param {boolean} required
 * @returns {FormField}
 */
function describeField(name, property, required) {
  const field = {
    name,
    required,
    label: property.title ?? name,
    help: property.description ?? '',
    inputType: 'text',
    initial: property.default ?? '',
    options: listOptions(property),
    limits: {},
  };
  if (property.type === 'boolean') return {...field, kind: 'flag', initial: property.default ?? false};
  if (property.type === 'array') {
    return {...field, kind: 'choices', options: listOptions(property.items ?? {}), initial: property.default ?? []};
  }
  if (field.options.length) return {...field, kind: 'choice'};
  if (property.type === 'number' || property.type === 'integer') {
    const kind = property.type === 'integer' ? 'whole' : 'number';
    return {...field, kind, limits: {min: property.minimum, max: property.maximum, step: kind === 'whole' ? 1 : 'any'}};
  }
  const limits = {minLength: property.minLength, maxLength: property.maxLength, pattern: property.pattern};
  const inputType = TEXT_INPUTS[/** @type {keyof typeof TEXT_INPUTS} */ (property.format)] ?? 'text';
  return {...field, kind: property.maxLength > 200 ? 'long' : 'text', inputType, limits};
}

/**
 * @param {any} property
 * @returns {{value: string, label: string}[]}
 */
function listOptions(property) {
  const titled = property.oneOf ?? property.anyOf;
  if (titled) return titled.map((/** @type {any} */ option) => ({value: option.const, label: option.title ?? option.const}));
  const names = property.enumNames ?? [];
  return (property.enum ?? []).map((/** @type {string} */ value, /** @type {number} */ at) => ({value, label: names[at] ?? value}));
}

/**
 * @param {FormField[]} fields
 * @param {Record<string, any>} values As the form has them: texts, flags, and lists of texts.
 * @returns {Record<string, any>} The answer. Optional fields that are empty are left out.
 */
export function readAnswer(fields, values) {
  /** @type {Record<string, any>} */
  const answer = {};
  for (const field of fields) {
    const value = values[field.name] ?? field.initial;
    if (field.kind === 'flag') answer[field.name] = Boolean(value);
    else if (field.kind === 'choices') {
      if (field.required || value.length) answer[field.name] = value;
    } else if (value !== '' || field.required) {
      const isNumber = field.kind === 'number' || field.kind === 'whole';
      answer[field.name] = isNumber ? Number(value) : toWireText(field, String(value));
    }
  }
  return answer;
}

/**
 * @param {FormField} field
 * @param {string} value
 * @returns {string} A local time of the browser becomes a point in time.
 */
function toWireText(field, value) {
  return field.inputType === 'datetime-local' ? new Date(value).toISOString() : value;
}

/**
 * An MCP server for tests, over standard input and output: a log of any size with hostile text, a change, a call with
 * progress, and a question to the user.
 */

import {createInterface} from 'node:readline';

export const HOSTILE_LINES = [
  '<img src=x onerror="alert(1)"><script>alert(2)</script>',
  '"><svg/onload=alert(3)>',
  'javascript:alert(4) [click](javascript:alert(5))',
  '\u001b[2J\u001b[31mred\u001b[0m \u202egnp.exe \u200bzero',
  '${alert(6)} {{constructor.constructor("alert(7)")()}}',
];

const CHANGE_SCHEMA = {type: 'object', properties: {name: {type: 'string'}, replicas: {type: 'integer'}}, required: ['name']};
const TOOLS = [
  {name: 'read_log', description: 'Reads a log.', inputSchema: {type: 'object', properties: {megabytes: {type: 'number'}}}, annotations: {readOnlyHint: true}},
  {name: 'apply_change', description: 'Changes <b>something</b>.', inputSchema: CHANGE_SCHEMA, annotations: {destructiveHint: true}},
  {name: 'wait_long', description: 'Waits, with progress.', inputSchema: {type: 'object', properties: {}}, annotations: {readOnlyHint: true}},
  {name: 'ask_user', description: 'Asks the user.', inputSchema: {type: 'object', properties: {}}, annotations: {readOnlyHint: true}},
];
const QUESTION = {
  message: 'Which <b>environment</b> is affected?',
  requestedSchema: {
    type: 'object',
    required: ['environment', 'pods'],
    properties: {
      environment: {type: 'string', title: 'Environment', enum: ['prod', 'staging'], enumNames: ['Production', 'Staging']},
      pods: {type: 'integer', title: 'Pods', minimum: 1, maximum: 50},
      paged: {type: 'boolean', title: 'On-call was paged', default: false},
      contact: {type: 'string', title: 'Contact', format: 'email'},
    },
  },
};

const send = (message) => process.stdout.write(`${JSON.stringify({jsonrpc: '2.0', ...message})}\n`);
const pending = new Map();
let lastId = 0;

/** Asks the client, and resolves with its answer. */
function request(method, params) {
  const id = `server-${++lastId}`;
  send({id, method, params});
  return new Promise((resolve) => pending.set(id, resolve));
}

const CALLS = {
  read_log({megabytes = 0}) {
    const filler = 'the request was served, and no more than that is to be said about it on this line of the log\n';
    const count = Math.floor((megabytes * 1e6) / filler.length);
    return `${HOSTILE_LINES.join('\n')}\n${filler.repeat(count)}the last line: needle\n`;
  },
  apply_change: ({name, replicas}) => `${name} changed to ${replicas}`,
  async wait_long(_, token) {
    for (let progress = 1; progress <= 4; progress++) {
      send({method: 'notifications/progress', params: {progressToken: token, progress, total: 4, message: `step ${progress} of 4`}});
      await new Promise((resolve) => setTimeout(resolve, 400));
    }
    return 'waited';
  },
  async ask_user() {
    const answer = await request('elicitation/create', QUESTION);
    return `the user answered ${JSON.stringify(answer)}`;
  },
};

async function answer({id, method, params}) {
  if (method === 'initialize') {
    send({id, result: {protocolVersion: params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: 'console-test', version: '1.0.0'}}});
  } else if (method === 'tools/list') {
    send({id, result: {tools: TOOLS}});
  } else if (method === 'tools/call') {
    const output = await CALLS[params.name](params.arguments ?? {}, params._meta?.progressToken);
    send({id, result: {content: [{type: 'text', text: output}]}});
  } else {
    send({id, result: {}});
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  createInterface({input: process.stdin}).on('line', (line) => {
    const message = JSON.parse(line);
    if (message.method && message.id !== undefined) answer(message);
    else if (message.id !== undefined) pending.get(message.id)?.(message.result ?? message.error);
  });
}

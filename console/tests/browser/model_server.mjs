/**
 * A model server for tests, with the chat API of OpenAI: it writes the text that the last message of the user is mapped to,
 * word by word, or calls a tool.
 */

import {createServer} from 'node:http';

/**
 * @typedef {object} Reply
 * @property {string} [text]
 * @property {{name: string, arguments: object}} [call] Made once; after it the text is written.
 * @property {number} [delayMs] Between two words.
 */

/**
 * @param {(message: string) => Reply} replyTo
 * @returns {Promise<{url: string, close: () => void}>}
 */
export async function startModelServer(replyTo) {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    if (request.method !== 'POST') {
      response.setHeader('content-type', 'application/json');
      response.end('{"object": "list", "data": [{"id": "test-model", "object": "model"}]}');
      return;
    }
    const {messages, stream} = JSON.parse(body);
    const last = messages.findLastIndex((message) => message.role === 'user');
    const content = messages[last].content;
    const reply = replyTo(typeof content === 'string' ? content : content.map((part) => part.text ?? '').join('\n'));
    const isAnswered = messages.slice(last).some((message) => message.role === 'tool');
    const call = isAnswered ? undefined : reply.call;
    if (!stream) {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({choices: [{index: 0, message: {role: 'assistant', content: reply.text ?? ''}, finish_reason: 'stop'}], usage: USAGE}));
      return;
    }
    response.writeHead(200, {'content-type': 'text/event-stream'});
    const send = (choice) => response.write(`data: ${JSON.stringify({id: 'r', object: 'chat.completion.chunk', model: 'test-model', choices: [{index: 0, ...choice}]})}\n\n`);
    if (call) {
      const made = {index: 0, id: `call_${messages.length}`, type: 'function', function: {name: call.name, arguments: JSON.stringify(call.arguments)}};
      send({delta: {role: 'assistant', tool_calls: [made]}});
    } else {
      for (const word of (reply.text ?? 'Done.').match(/\S+\s*|\s+/g) ?? []) {
        if (response.destroyed) return;
        send({delta: {content: word}});
        if (reply.delayMs) await new Promise((resolve) => setTimeout(resolve, reply.delayMs));
      }
    }
    send({delta: {}, finish_reason: call ? 'tool_calls' : 'stop'});
    response.write(`data: ${JSON.stringify({id: 'r', object: 'chat.completion.chunk', model: 'test-model', choices: [], usage: USAGE})}\n\n`);
    response.end('data: [DONE]\n\n');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const {port} = /** @type {import('node:net').AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}/v1`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

const USAGE = {prompt_tokens: 1200, completion_tokens: 80, total_tokens: 1280};

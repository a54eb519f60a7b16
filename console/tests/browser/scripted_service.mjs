/** A service with a scripted model and the MCP server of these tests. */

import {fileURLToPath} from 'node:url';

import {startModelServer} from './model_server.mjs';
import {startService} from './service.mjs';

/** @typedef {import('./model_server.mjs').Reply} Reply */
/** @typedef {import('./service.mjs').Service} Service */

/**
 * @param {Record<string, Reply>} replies By a word in the message of the user.
 * @param {{env?: Record<string, string>, yaml?: string}} [options]
 * @returns {Promise<{service: Service, restart: (changed?: Record<string, string>) => Promise<Service>, stop: () => Promise<void>}>}
 */
export async function startScripted(replies, {env = {}, yaml = ''} = {}) {
  const words = Object.keys(replies);
  const model = await startModelServer((message) => replies[words.find((word) => message.includes(word)) ?? ''] ?? {text: 'Done.'});
  const variables = {
    LLM_PROVIDER: 'openai',
    LLM_MODEL: 'test-model',
    OPENAI_BASE_URL: model.url,
    OPENAI_API_KEY: 'unused',
    MCP_TRANSPORT: 'stdio',
    MCP_SERVER_COMMAND: process.execPath,
    MCP_SERVER_ARGS: fileURLToPath(new URL('mcp_server.mjs', import.meta.url)),
    ...env,
  };
  let service = await startService(variables, {yaml});
  return {
    service,
    async restart(changed = {}) {
      const {folder, url} = service;
      service = await startService({...variables, ...changed}, {yaml, folder, port: Number(new URL(url).port)});
      return service;
    },
    async stop() {
      await service.stop();
      model.close();
    },
  };
}

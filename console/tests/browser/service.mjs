/** Starts the program under test. */

import {spawn} from 'node:child_process';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

const PROGRAM = process.env.K8SOPS_TEST_PROGRAM ?? '';

/**
 * @typedef {object} Service
 * @property {string} url
 * @property {string} folder
 * @property {(method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<any>} call
 * @property {() => Promise<void>} kill With SIGKILL, as a machine fails.
 * @property {() => Promise<void>} stop
 */

/** @returns {Promise<Service>} */
export function startDemo() {
  return start(['demo', '--port', '0'], {});
}

/**
 * @param {Record<string, string>} env
 * @param {{yaml?: string, folder?: string, port?: number}} [options]
 * @returns {Promise<Service>} A service with its sessions in files.
 */
export async function startService(env, {yaml = '', folder, port} = {}) {
  const data = folder ?? mkdtempSync(join(tmpdir(), 'k8sops-console-'));
  writeFileSync(join(data, 'k8sops.yaml'), yaml);
  const variables = {MEMORY_BACKEND: 'filesystem', MEMORY_FILESYSTEM_PATH: join(data, 'data'), K8SOPS_CONFIG: join(data, 'k8sops.yaml'), K8SOPS_PORT: String(port ?? (await freePort()))};
  return start(['serve'], {...variables, ...env}, data);
}

/**
 * @param {string[]} args
 * @param {Record<string, string>} env
 * @param {string} [folder]
 * @returns {Promise<Service>}
 */
async function start(args, env, folder = mkdtempSync(join(tmpdir(), 'k8sops-console-'))) {
  const child = spawn(PROGRAM, args, {cwd: folder, env: {PATH: process.env.PATH, ...env}, stdio: ['ignore', 'pipe', 'pipe']});
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let output = '';
  const url = await new Promise((resolve, reject) => {
    const read = (/** @type {Buffer} */ chunk) => {
      output += chunk;
      const found = /https?:\/\/127\.0\.0\.1:\d+/.exec(output);
      if (found) resolve(found[0]);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    ended.then(() => reject(new Error(`the program ended: ${output}`)));
  });
  const call = async (/** @type {string} */ method, /** @type {string} */ path, /** @type {unknown} */ body, headers = {}) => {
    const response = await fetch(url + path, {method, headers: {'content-type': 'application/json', ...headers}, body: body === undefined ? undefined : JSON.stringify(body)});
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text && (response.headers.get('content-type') ?? '').includes('json') ? JSON.parse(text) : text;
  };
  const end = async (/** @type {NodeJS.Signals} */ signal) => {
    child.kill(signal);
    await ended;
  };
  return {
    url,
    folder,
    call,
    kill: () => end('SIGKILL'),
    async stop() {
      await end('SIGKILL');
      rmSync(folder, {recursive: true, force: true});
    },
  };
}

/** @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const {port} = /** @type {import('node:net').AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}

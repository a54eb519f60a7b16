/** nginx as an authenticating proxy: the cookie `user` stands for the login that it would check. */

import {spawn} from 'node:child_process';
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';

import {freePort} from './service.mjs';

/**
 * @param {string} service The URL of the service.
 * @returns {Promise<{urls: {passing: string, redirecting: string, refusing: string}, stop: () => Promise<void>}>} Without a login,
 *   requests to these addresses are passed on without a user, redirected to a page of the proxy, or refused by one.
 */
export async function startLoginProxy(service) {
  const folder = mkdtempSync(join(tmpdir(), 'k8sops-nginx-'));
  mkdirSync(join(folder, 'logs'));
  const [passing, redirecting, refusing] = [await freePort(), await freePort(), await freePort()];
  const pass = `proxy_pass ${service}; proxy_http_version 1.1; proxy_buffering off; proxy_set_header Host $http_host;
    proxy_set_header X-Auth-Request-User $cookie_user; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_kind;`;
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/${kind};`).join(' ');
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off; pid ${folder}/pid; error_log ${folder}/logs/error.log;
    events {}
    http {
      access_log off; ${temporary}
      map $http_upgrade $connection_kind { "" ""; default upgrade; }
      server { listen 127.0.0.1:${passing}; location / { ${pass} } }
      server {
        listen 127.0.0.1:${redirecting};
        location = /login { default_type text/html; return 200 "<!doctype html><html lang=en><title>Login</title><h1>Log in here</h1></html>"; }
        location / { if ($cookie_user = "") { return 302 /login; } ${pass} }
      }
      server { listen 127.0.0.1:${refusing}; location / { if ($cookie_user = "") { return 401; } ${pass} } }
    }`,
  );
  const nginx = spawn(process.env.K8SOPS_TEST_NGINX ?? '', ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', join(folder, 'logs/error.log')], {stdio: 'inherit'});
  const ended = new Promise((resolve) => nginx.once('exit', resolve));
  const address = (/** @type {number} */ port) => `http://127.0.0.1:${port}`;
  while (nginx.exitCode === null && !(await fetch(`${address(redirecting)}/login`).then((page) => page.ok, () => false)));
  return {
    urls: {passing: address(passing), redirecting: address(redirecting), refusing: address(refusing)},
    async stop() {
      nginx.kill('SIGTERM');
      await ended;
      rmSync(folder, {recursive: true, force: true});
    },
  };
}

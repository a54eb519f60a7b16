/** An OpenID Connect issuer, which publishes one key and signs tokens with it. */

import {generateKeyPairSync, sign} from 'node:crypto';
import {createServer} from 'node:http';

export const AUDIENCE = 'k8sops-test';

/** @returns {Promise<{url: string, issue: (user: string, seconds: number) => string, close: () => void}>} */
export async function startIssuer() {
  const {privateKey, publicKey} = generateKeyPairSync('rsa', {modulusLength: 2048});
  const server = createServer((request, response) => {
    const key = {...publicKey.export({format: 'jwk'}), kid: 'one', use: 'sig', alg: 'RS256'};
    const body = request.url === '/keys' ? {keys: [key]} : {issuer: url, jwks_uri: `${url}/keys`};
    response.writeHead(200, {'content-type': 'application/json'}).end(JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const url = `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (server.address()).port}`;
  const encode = (/** @type {object} */ part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  return {
    url,
    /** Issues a token that expires in so many seconds; negative ones are in the past. */
    issue(user, seconds) {
      const exp = Math.floor(Date.now() / 1000) + seconds;
      const unsigned = `${encode({alg: 'RS256', kid: 'one'})}.${encode({iss: url, aud: AUDIENCE, sub: user, exp})}`;
      return `${unsigned}.${sign('sha256', Buffer.from(unsigned), privateKey).toString('base64url')}`;
    },
    close: () => server.close(),
  };
}

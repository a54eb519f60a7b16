// Preloaded into a Node server (`node --require loopback_only.js …`) that has no option for its address and would
// listen on all interfaces: whatever TCP address it asks for, it gets 127.0.0.1. It also tells on stderr which port it
// got, since such servers print the port they asked for, which may have been 0.
'use strict';

const net = require('node:net');

const listen = net.Server.prototype.listen;

net.Server.prototype.listen = function (...args) {
  const [first] = args;
  const callback = args.find((arg) => typeof arg === 'function');
  const options = first !== null && typeof first === 'object' ? { ...first } : { port: first };
  // A Unix socket, a handle or a file descriptor has no address to force.
  const isTcp = options.port === undefined || options.port === null || /^\d+$/.test(String(options.port));
  if (!isTcp || typeof options.path === 'string' || options.fd !== undefined || options.handle !== undefined) {
    return listen.apply(this, args);
  }
  this.once('listening', () => {
    process.stderr.write(`listening on http://127.0.0.1:${this.address().port}\n`);
  });
  const forced = { ...options, port: Number(options.port ?? 0), host: '127.0.0.1' };
  return callback ? listen.call(this, forced, callback) : listen.call(this, forced);
};

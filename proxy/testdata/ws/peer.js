'use strict';
// What both peers share.
const { createHash } = require('node:crypto');

// Messages of any size are compressed, with the context kept from one to the next.
const deflate = { threshold: 0 };

// Sums are digests of all that went up, to the server, and down.
class Sums {
  up = createHash('sha256');
  down = createHash('sha256');

  text() {
    return JSON.stringify({ up: this.up.copy().digest('hex'), down: this.down.copy().digest('hex') });
  }
}

// ended calls back once with how a connection ended: "code reason" of its close frame, or the error of its socket.
function ended(ws, callback) {
  let failure;
  const watch = () => ws._socket.on('error', (error) => { failure = error.code; });
  if (ws._socket) watch();
  else ws.once('open', watch);
  ws.on('error', () => {}); // The socket has told it.
  ws.on('close', (code, reason) => callback(failure ?? `${code} ${reason}`));
}

module.exports = { Sums, deflate, ended };

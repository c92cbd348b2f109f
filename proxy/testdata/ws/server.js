'use strict';
// Sends each binary message back. Text is a command: "sums" answers with the digests, "close" closes, "reset" sends an RST.
// It prints its port, then how each connection ended, and leaves when its input ends.
const { WebSocketServer } = require('ws');
const { Sums, deflate, ended } = require('./peer.js');

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: deflate, maxPayload: 16 << 20 });
server.on('listening', () => console.log(server.address().port));
server.on('connection', (ws) => {
  const sums = new Sums();
  ended(ws, (how) => console.log(how));
  ws.on('message', (data, isBinary) => {
    if (isBinary) {
      sums.up.update(data);
      ws.send(data);
      sums.down.update(data);
      return;
    }
    switch (data.toString()) {
      case 'sums': ws.send(sums.text()); break;
      case 'close': ws.close(4002, 'server done'); break;
      case 'reset': ws._socket.resetAndDestroy(); break;
    }
  });
});
process.stdin.on('end', () => process.exit()).resume();

'use strict';
// node client.js <url> soak <seconds> <connections>: sends random messages and checks what comes back, then the digests.
// node client.js <url> close | closed | reset | torn: ends one connection that way.
// It prints how each connection ended, and for a soak first what was sent.
const { randomBytes, randomInt } = require('node:crypto');
const { WebSocket } = require('ws');
const { Sums, deflate, ended } = require('./peer.js');

const [url, mode, seconds, connections] = process.argv.slice(2);

function open() {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url, { perMessageDeflate: deflate, maxPayload: 16 << 20 });
    ws.once('error', reject);
    ended(ws, (how) => console.log(how));
    ws.once('open', () => {
      if (!ws.extensions.includes('permessage-deflate')) reject(new Error('compression was not agreed'));
      resolve(ws);
    });
  });
}

// answer waits for the next message.
function answer(ws) {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error('the connection ended in the midst'));
    ws.once('close', gone);
    ws.once('message', (data) => {
      ws.off('close', gone);
      resolve(data);
    });
  });
}

// message makes one of random size, half of them such as compress well.
function message() {
  const size = randomInt(1 << randomInt(1, 18));
  return randomInt(2) ? randomBytes(size) : Buffer.alloc(size, randomBytes(randomInt(1, 50)));
}

async function soak() {
  const ws = await open();
  const sums = new Sums();
  let messages = 0;
  let bytes = 0;
  for (const end = Date.now() + seconds * 1000; Date.now() < end;) {
    const sent = message();
    const got = answer(ws);
    ws.send(sent);
    sums.up.update(sent);
    sums.down.update(await got);
    messages++;
    bytes += sent.length;
  }
  const theirs = answer(ws);
  ws.send('sums');
  if ((await theirs).toString() !== sums.text()) throw new Error('the digests differ');
  ws.close(4001, 'client done');
  return { messages, bytes };
}

const endings = {
  close: (ws) => ws.close(4001, 'client done'),
  closed: (ws) => ws.send('close'),
  reset: (ws) => ws._socket.resetAndDestroy(),
  torn: (ws) => ws.send('reset'),
};

async function main() {
  if (mode !== 'soak') {
    endings[mode](await open());
    return;
  }
  const all = await Promise.all(Array.from({ length: Number(connections) }, soak));
  console.log(JSON.stringify({
    messages: all.reduce((n, one) => n + one.messages, 0),
    bytes: all.reduce((n, one) => n + one.bytes, 0),
  }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

#!/usr/bin/env node
// One AI answer, many tabs, refreshes and a stop button: a Durable Stream, with nothing but fetch.
//
//   writer:  TOKEN=<a service's token> node examples/answer.mjs write alice q1
//   reader:  TOKEN=<alice's token>     node examples/answer.mjs read q1
//   stop:    TOKEN=<alice's token>     node examples/answer.mjs stop q1
//
// Any number of readers may come, go and come back; each has the whole answer. Made for this table:
//   CREATE STREAM TABLE chat.answers (stream TEXT NOT NULL, data TEXT NOT NULL) WITH (TTL_SECONDS = 86400)

const { TOKEN, SERVER = 'http://127.0.0.1:8080', TABLE = 'chat/answers', PAUSE_MS = '100' } = process.env;
const authorization = { Authorization: `Bearer ${TOKEN}` };
const address = (key, params = {}) =>
  `${SERVER}/v1/streams/${TABLE}/${encodeURIComponent(key)}?${new URLSearchParams(params)}`;

// What a model says, word by word.
async function* model() {
  for (const word of 'The mailbox is the unit of order: what you append, every reader sees in that order.'.split(/(?<= )/)) {
    await new Promise((resolve) => setTimeout(resolve, Number(PAUSE_MS)));
    yield word;
  }
}

// Sends a request until it is answered. The server knows a request that it has seen by its number, so sending again is safe.
async function send(url, init) {
  for (;;) {
    const answer = await fetch(url, init).catch(() => undefined);
    if (answer && answer.status < 500 && answer.status !== 429) return answer;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function write(user, key) {
  const url = address(key, { user });
  const text = { ...authorization, 'Content-Type': 'text/plain' };
  await send(url, { method: 'PUT', headers: text });
  let seq = 0;
  for await (const body of model()) {
    const producer = { 'Producer-Id': 'model', 'Producer-Epoch': '0', 'Producer-Seq': String(seq++) };
    const answer = await send(url, { method: 'POST', headers: { ...text, ...producer }, body });
    if (answer.headers.get('Stream-Closed')) return console.error('stopped by the reader');
    if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  }
  await send(url, { method: 'POST', headers: { ...authorization, 'Stream-Closed': 'true' } });
}

async function read(key) {
  let offset = '-1'; // A page keeps it beside what it shows, and goes on behind it.
  for (;;) {
    const answer = await send(address(key, { live: 'long-poll', offset }), { headers: authorization });
    if (answer.status === 404) await new Promise((resolve) => setTimeout(resolve, 500)); // Not begun yet.
    else if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
    else {
      process.stdout.write(await answer.text());
      offset = answer.headers.get('Stream-Next-Offset');
      if (answer.headers.get('Stream-Closed')) return process.stdout.write('\n');
    }
  }
}

const stop = (key) => send(address(key), { method: 'POST', headers: { ...authorization, 'Stream-Closed': 'true' } });

const [command, ...rest] = process.argv.slice(2);
const commands = { write, read, stop };
if (!commands[command]) throw new Error('write <user> <key> | read <key> | stop <key>');
await commands[command](...rest);

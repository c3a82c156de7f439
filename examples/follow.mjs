// Follows a live query and prints what it is told, one JSON object a line. When the connection breaks it comes back and
// resumes: nothing is missed, and once the first rows are complete nothing comes twice.
//
//   TOKEN=… node examples/follow.mjs "SELECT * FROM chat.messages" [FROM]
//
// FROM: a _seq; only what changed above it is printed. Node 22 or later (its WebSocket is built in); no packages.

const [sql, from] = process.argv.slice(2);
const token = process.env.TOKEN;
const url = process.env.INBOXDB_URL ?? 'ws://127.0.0.1:8080';
if (!sql || !token) {
  console.error('usage: TOKEN=… node follow.mjs "SELECT … FROM namespace.table [WHERE …]" [FROM]');
  process.exit(2);
}

const COME_BACK = ['SLOW_CONSUMER', 'SHUTTING_DOWN', 'BUSY'];

// The last _seq that was printed. A string: a _seq has 63 bits, a JavaScript number only 53.
let position = from;
// Until the initial rows are complete, a new connection begins with them again.
let loaded = from !== undefined;
let pause = 250;

function connect() {
  const socket = new WebSocket(`${url}/v1/ws?compress=false`);
  const send = (message) => socket.send(JSON.stringify(message));

  socket.onopen = () =>
    send({ type: 'authenticate', method: 'jwt', token, protocol: { serialization: 'json', compression: 'none' } });

  const subscribe = () =>
    send({ type: 'subscribe', subscription: { id: 'follow', sql, options: loaded ? { from: position } : {} } });

  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    switch (frame.type) {
      case 'auth_success':
        pause = 250;
        return subscribe();
      case 'initial_data_batch':
        for (const row of frame.rows) print('row', row);
        if (frame.batch_control.has_more) return send({ type: 'next_batch', subscription_id: 'follow' });
        loaded = true;
        // Read from the text, since parsing it as a number would round it.
        position = data.match(/"snapshot_end_seq":(\d+)/)[1];
        return;
      case 'subscription_ack':
        return;
      case 'change':
        return print(frame.change_type, frame.rows?.[0] ?? frame.old_values[0]);
      default:
        console.error(frame.code ?? frame.type, frame.message);
        // The table has other columns now: the subscription is over, the socket is not.
        if (frame.code === 'TABLE_ALTERED') return subscribe();
        // What is worth coming back for closes the socket by itself; anything else is the end of it.
        if (!COME_BACK.includes(frame.code)) process.exit(1);
    }
  };

  let gone = false;
  const comeBack = ({ code = 1006, reason = '' }) => {
    if (gone) return;
    gone = true;
    // 4500 to 4999 and 1008: coming back will not help. Everything else: come back, and go on where we were.
    if (code >= 4500 || code === 1008) process.exit(1);
    console.error(`closed (${code} ${reason}); again in ${pause} ms`);
    setTimeout(connect, pause);
    pause = Math.min(pause * 2, 10_000);
  };
  socket.onclose = comeBack;
  // Some versions of Node tell of a connection that could not be opened in this way only.
  socket.onerror = () => comeBack({});
}

function print(what, row) {
  position = row._seq;
  console.log(JSON.stringify({ what, ...row }));
}

connect();

// One live query over the WebSocket, which comes back by itself and goes on where it was.
//
// A `_seq` has more digits than a JavaScript number holds: it is kept as text, and compared as BigInt.

const FIRST_PAUSE_MS = 400;
const LONGEST_PAUSE_MS = 10_000;
const CAN_GUNZIP = 'DecompressionStream' in globalThis;

export class LiveQuery {
  #session;
  #sql;
  #on;
  #socket = null;
  /** The last `_seq` seen. */
  #position = null;
  #pause = FIRST_PAUSE_MS;
  #timer = 0;
  #wanted = false;
  // Frames are handled one after the other: unpacking one takes a moment, and the next must not overtake it.
  #turn = Promise.resolve();

  /**
   * @param on `row(row, live)`, `gone(row)`, `state(name)`: connecting, loading, live, waiting, offline,
   *   ended;
   *   `reset()`: what was shown is out of date; `ended(code, message)`: it does not come back.
   */
  constructor(session, sql, on) {
    this.#session = session;
    this.#sql = sql;
    this.#on = on;
  }

  start() {
    this.#wanted = true;
    this.#connect();
  }

  /** Leaves, until `start`: the position is kept. */
  stop() {
    this.#wanted = false;
    this.#leave();
    this.#on.state('offline');
  }

  #leave() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #connect() {
    this.#leave();
    this.#on.state('connecting');
    const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(`${scheme}//${location.host}/v1/ws${CAN_GUNZIP ? '' : '?compress=false'}`);
    socket.binaryType = 'arraybuffer';
    this.#socket = socket;
    socket.onopen = () => this.#send({
      type: 'authenticate',
      method: 'jwt',
      token: this.#session.token,
      protocol: { serialization: 'json', compression: 'gzip' },
    });
    socket.onmessage = ({ data }) => {
      this.#turn = this.#turn.then(() => this.#frame(socket, data)).catch((fault) => this.#end('CLIENT', String(fault)));
    };
    socket.onclose = ({ code, reason }) => {
      this.#turn = this.#turn.then(() => {
        if (socket === this.#socket) this.#closed(code, reason);
      });
    };
  }

  async #frame(socket, data) {
    const text = typeof data === 'string' ? data : await gunzip(data);
    // A frame of a socket that was left meanwhile: its rows come again, after the position.
    if (socket === this.#socket) this.#handle(JSON.parse(text));
  }

  #handle(message) {
    switch (message.type) {
      case 'auth_success':
        return this.#subscribe();
      case 'auth_error':
        return this.#end('UNAUTHORIZED', message.message);
      // With `from`, what was missed comes as changes, and the answer itself says that they follow.
      case 'subscription_ack':
        return this.#ready(message.batch_control);
      case 'initial_data_batch':
        return this.#batch(message);
      case 'change':
        return this.#change(message);
      case 'error':
        return this.#error(message);
    }
  }

  #subscribe() {
    this.#on.state('loading');
    // `from` is a number of up to 19 digits: written as text, since a JavaScript number would round it.
    const options = this.#position === null ? '{"last_rows":200}' : `{"from":${this.#position}}`;
    this.#socket.send(
      `{"type":"subscribe","subscription":{"id":"chat","sql":${JSON.stringify(this.#sql)},"options":${options}}}`,
    );
  }

  #batch({ rows, batch_control: control }) {
    for (const row of rows) this.#take(row, false);
    if (control.has_more) {
      const last = this.#position === null ? '' : `,"last_seq_id":${this.#position}`;
      this.#socket.send(`{"type":"next_batch","subscription_id":"chat"${last}}`);
    }
    this.#ready(control);
  }

  #ready({ status }) {
    if (status !== 'ready') return;
    this.#pause = FIRST_PAUSE_MS;
    this.#on.state('live');
  }

  #change({ change_type: type, rows = [], old_values: old = [] }) {
    if (type === 'delete') for (const row of old) this.#take({ ...row, _deleted: true }, true);
    else for (const row of rows) this.#take(row, true);
  }

  #take(row, live) {
    if (/^\d+$/.test(row._seq) && (this.#position === null || BigInt(row._seq) > BigInt(this.#position))) {
      this.#position = row._seq;
    }
    if (row._deleted === true) this.#on.gone(row);
    else this.#on.row(row, live);
  }

  #error({ code, message }) {
    // The server closes the socket, and we come back with `from`.
    if (code === 'SLOW_CONSUMER' || code === 'SHUTTING_DOWN' || code === 'BUSY') return;
    // The table has other columns now: the same query again, from where we were.
    if (code === 'TABLE_ALTERED') return this.#subscribe();
    if (code === 'POSITION_LOST') {
      this.#position = null;
      this.#on.reset();
      return this.#subscribe();
    }
    this.#end(code, message);
  }

  #closed(code, reason) {
    if (code === 1008 || (code >= 4500 && code < 5000)) return this.#end(String(code), reason || 'The server closed.');
    if (!this.#wanted) return;
    this.#on.state('waiting');
    // Not all at the same moment, when a server with many readers comes back.
    this.#timer = setTimeout(() => this.#connect(), this.#pause * (0.5 + Math.random() / 2));
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE_MS);
  }

  #end(code, message) {
    this.#wanted = false;
    this.#leave();
    this.#on.state('ended');
    this.#on.ended(code, message);
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }
}

function gunzip(data) {
  const unpacked = new Blob([data]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(unpacked).text();
}

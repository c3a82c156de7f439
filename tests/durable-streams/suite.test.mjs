// The published suite of the Durable Streams protocol, against a running server: see ./run.

const { STREAMS_URL, TOKEN } = process.env;
const plain = globalThis.fetch;

// The suite knows no authentication: the protocol leaves that to servers.
globalThis.fetch = (input, init = {}) => {
  const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined));
  if (!headers.has('authorization')) headers.set('authorization', `Bearer ${TOKEN}`);
  return plain(input, { ...init, headers });
};

const { runConformanceTests } = await import('@durable-streams/server-conformance-tests');

// As long as the server waits in a long poll: `streams.long_poll_timeout`.
runConformanceTests({ baseUrl: STREAMS_URL, longPollTimeoutMs: 2000 });

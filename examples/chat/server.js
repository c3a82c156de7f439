// The server over HTTP: first-run set-up, sign-in, SQL.

/** What the server answered instead of doing it. `message` is for people, `code` for programs. */
export class Refusal extends Error {
  constructor(status, code, message, sqlstate = '') {
    super(message);
    this.status = status;
    this.code = code;
    this.sqlstate = sqlstate;
  }
}

async function call(path, { body, token, method = 'POST' } = {}) {
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Refusal(0, 'UNREACHABLE', 'The server can not be reached.');
  }
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    throw new Refusal(response.status, 'NOT_JSON', text || `The server answered ${response.status}.`);
  }
  if (!response.ok) {
    // SQL: {"error":{"code","message"}}. All else: {"error":"slug","message"}.
    const { error } = answer;
    const code = error?.code ?? error ?? '';
    const message = error?.message ?? answer.message ?? `The server answered ${response.status}.`;
    throw new Refusal(response.status, code, message, error?.sqlstate);
  }
  return answer;
}

/** Is this a database without users? Only this machine is told; anyone else signs in. */
export async function needsSetup() {
  try {
    return (await call('/v1/api/auth/status', { method: 'GET' })).needs_setup;
  } catch (refusal) {
    if (refusal.status === 403) return false;
    throw refusal;
  }
}

/** Makes the administrator. */
export async function setUp(user, password) {
  await call('/v1/api/auth/setup', { body: { user, password, root_password: password } });
}

/** A session: `{ user, role, token }`. */
export async function signIn(user, password) {
  const answer = await call('/v1/api/auth/login', { body: { user, password } });
  return { user: answer.user.id, role: answer.user.role, token: answer.access_token };
}

/** Runs one statement. Rows of a SELECT come as arrays. */
export async function sql(session, text, params = []) {
  const answer = await call('/v1/api/sql', { body: { sql: text, params }, token: session.token });
  return answer.results[0]?.rows ?? [];
}

/** A text as an SQL literal, for the places where no parameter can stand: names of users, passwords. */
export function literal(text) {
  return `'${text.replaceAll("'", "''")}'`;
}

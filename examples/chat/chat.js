// The chat: who is signed in, which mailbox is shown, what is written.
//
// A user's messages and the answers are rows of that user's own mailbox. An administrator or service sees everyone's
// messages in one feed and answers as each user: that is what an agent does.
// The session lives in this tab only, so that two tabs can be two users.

import { LiveQuery } from './live.js';
import { MessageList } from './messages.js';
import { literal, needsSetup, setUp, signIn, sql } from './server.js';

const SCHEMA = [
  'CREATE NAMESPACE IF NOT EXISTS chat',
  `CREATE TABLE IF NOT EXISTS chat.messages (id BIGINT PRIMARY KEY DEFAULT SNOWFLAKE_ID(), role TEXT NOT NULL,
     content TEXT NOT NULL, written_at TIMESTAMP DEFAULT NOW()) WITH (TYPE='USER')`,
];
const OWN = 'SELECT * FROM chat.messages';
const EVERYONE = `EXECUTE AS USER '*' (${OWN})`;
const INSERT = 'INSERT INTO chat.messages (id, role, content) VALUES ($1, $2, $3)';
/** SQLSTATE: a row with this key is there. */
const UNIQUE_VIOLATION = '23505';

const STATES = {
  connecting: 'connecting', loading: 'loading', live: 'live', waiting: 'reconnecting', offline: 'offline', ended: 'stopped',
};

const $ = (id) => document.getElementById(id);
const list = new MessageList($('messages'), $('empty'));

let session = null;
let live = null;
let showsEveryone = false;

function isAgent() {
  return ['service', 'dba', 'system'].includes(session.role);
}

// ---- Signing in -----------------------------------------------------------------------------------------------------

async function begin() {
  const kept = sessionStorage.getItem('inboxdb.chat');
  if (kept) {
    session = JSON.parse(kept);
    return enter();
  }
  await showEntrance();
}

async function showEntrance() {
  const first = await needsSetup();
  $('chat').hidden = $('session').hidden = true;
  $('entrance').hidden = false;
  $('entrance').dataset.first = first;
  $('entrance-title').textContent = $('entrance-button').textContent = first ? 'Set up' : 'Sign in';
  $('entrance-text').textContent = first
    ? 'This database has no users yet. Choose the name and password of its administrator (8 characters at least).'
    : 'Each tab has its own session: open a second one to be somebody else.';
  const form = $('entrance-form');
  form.reset();
  form.password.autocomplete = first ? 'new-password' : 'current-password';
  form.password.minLength = first ? 8 : 1;
  form.user.focus();
}

onSubmit($('entrance-form'), async (form) => {
  const [user, password] = [form.user.value.trim(), form.password.value];
  if ($('entrance').dataset.first === 'true') await setUp(user, password);
  session = await signIn(user, password);
  sessionStorage.setItem('inboxdb.chat', JSON.stringify(session));
  await enter();
});

async function enter() {
  // Whoever may make the schema makes it, where it is missing.
  if (session.role === 'dba' || session.role === 'system') {
    try {
      for (const statement of SCHEMA) await sql(session, statement);
    } catch (refusal) {
      return failed(refusal);
    }
  }
  $('entrance').hidden = true;
  $('chat').hidden = $('session').hidden = false;
  $('who').textContent = `${session.user} (${session.role})`;
  document.title = `${session.user} · InboxDB chat`;
  $('agent-tools').hidden = !isAgent();
  $('add-user').hidden = session.role === 'service';
  follow(isAgent());
  $('composer').content.focus();
}

async function signOut() {
  live?.stop();
  live = session = null;
  sessionStorage.removeItem('inboxdb.chat');
  document.title = 'InboxDB chat';
  await showEntrance();
}

$('sign-out').addEventListener('click', () => signOut().catch(failed));

// ---- Following ------------------------------------------------------------------------------------------------------

function follow(everyone) {
  live?.stop();
  showsEveryone = everyone;
  $('view-all').setAttribute('aria-pressed', everyone);
  $('view-own').setAttribute('aria-pressed', !everyone);
  $('recipient').hidden = !everyone;
  $('composer').recipient.replaceChildren();
  $('offline').setAttribute('aria-pressed', false);
  clearList();
  live = new LiveQuery(session, everyone ? EVERYONE : OWN, { row, gone, state, reset: clearList, ended });
  live.start();
}

function clearList() {
  list.clear(showsEveryone
    ? 'Nobody has written yet. Add a user, sign in as that user in another tab, and write.'
    : 'Your mailbox is empty. Write something.');
}

function row(message, isLive) {
  const owner = message._user_id ?? session.user;
  const isAnswer = message.role === 'assistant';
  if (showsEveryone) knowRecipient(owner);
  list.show(keyOf(message), {
    author: isAnswer ? (showsEveryone ? `to ${owner}` : 'assistant') : owner,
    mine: isAnswer === showsEveryone,
    content: message.content,
    sentAt: message.written_at ?? null,
    fresh: isLive,
    onAnswer: showsEveryone && !isAnswer ? () => answerTo(owner) : null,
  });
  if (showsEveryone && isLive && !isAnswer && $('auto').checked) {
    const text = `You wrote ${[...message.content].length} characters. (An answer by itself.)`;
    write(newId(), 'assistant', text, owner).catch(failed);
  }
}

function gone(message) {
  list.remove(keyOf(message));
}

function keyOf(message) {
  return `${message._user_id ?? ''}/${message.id}`;
}

function state(name) {
  $('state').textContent = STATES[name];
  $('state').dataset.state = name;
  if (name === 'live') tell('');
}

function ended(code, message) {
  if (code === 'UNAUTHORIZED' || code === '1008') {
    signOut().then(() => tell('Please sign in again.'), failed);
  } else if (code === 'NOT_FOUND') {
    tell('There is no chat yet. An administrator who signs in here makes it.');
  } else {
    tell(`${message} (${code})`);
  }
}

$('view-all').addEventListener('click', () => follow(true));
$('view-own').addEventListener('click', () => follow(false));
$('offline').addEventListener('click', () => {
  const leave = $('offline').getAttribute('aria-pressed') !== 'true';
  $('offline').setAttribute('aria-pressed', leave);
  if (leave) live.stop();
  else live.start();
});

// ---- Writing --------------------------------------------------------------------------------------------------------

/**
 * Writes into one's own mailbox, or as `owner` into theirs. It is shown when it comes back live.
 * The key is ours: if the answer is lost and the same message is sent again, it is still there once.
 */
async function write(id, role, content, owner = session.user) {
  const statement = owner === session.user ? INSERT : `EXECUTE AS USER ${literal(owner)} (${INSERT})`;
  try {
    await sql(session, statement, [id, role, content]);
  } catch (refusal) {
    if (refusal.sqlstate !== UNIQUE_VIOLATION) throw refusal;
  }
}

function newId() {
  return Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
}

/** Key of what stands in the composer, while it may have been sent. */
let draft = null;

onSubmit($('composer'), async (form) => {
  const content = form.content.value.trim();
  if (!content) return;
  if (showsEveryone && !form.recipient.value) throw new Error('There is nobody to answer yet.');
  draft ??= newId();
  if (showsEveryone) await write(draft, 'assistant', content, form.recipient.value);
  else await write(draft, 'user', content);
  draft = null;
  form.content.value = '';
  form.content.focus();
});

// Another text or another recipient is another message.
$('composer').addEventListener('input', () => {
  draft = null;
});

$('composer').content.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $('composer').requestSubmit();
  }
});

function knowRecipient(user) {
  const choice = $('composer').recipient;
  if (![...choice.options].some((option) => option.value === user)) choice.append(new Option(user, user));
}

function answerTo(user) {
  draft = null;
  $('composer').recipient.value = user;
  $('composer').content.focus();
}

onSubmit($('user-form'), async (form) => {
  const name = form.user.value.trim();
  await sql(session, `CREATE USER ${literal(name)} WITH PASSWORD ${literal(form.password.value)} ROLE 'user'`);
  form.reset();
  $('add-user').open = false;
  knowRecipient(name);
});

// ---- Telling --------------------------------------------------------------------------------------------------------

function tell(text) {
  $('notice').textContent = text;
  $('notice').hidden = text === '';
}

function failed(refusal) {
  if (session && (refusal.code === 'TOKEN_EXPIRED' || refusal.code === 'INVALID_CREDENTIALS')) {
    return signOut().then(() => tell('Please sign in again.'), failed);
  }
  tell(refusal.message);
}

/** Runs `act` once at a time, and shows why it failed. */
function onSubmit(form, act) {
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const button = form.querySelector('button[type="submit"]');
    if (button.disabled) return;
    button.disabled = true;
    tell('');
    try {
      await act(form);
    } catch (refusal) {
      await failed(refusal);
    } finally {
      button.disabled = false;
    }
  });
}

begin().catch(failed);

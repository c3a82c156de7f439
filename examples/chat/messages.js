// The list of messages on the page. Content is set as text, never as markup.

const MOST_SHOWN = 500;
const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

export class MessageList {
  #list;
  #empty;
  #shown = new Map();
  /** The reader looks at the newest message, and wants to go on doing so. */
  #atEnd = true;

  constructor(list, empty) {
    this.#list = list;
    this.#empty = empty;
    list.addEventListener('scroll', () => {
      this.#atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
    });
    // A notice or a longer composer makes the list shorter.
    new ResizeObserver(() => this.#toEnd()).observe(list);
  }

  #toEnd() {
    if (this.#atEnd) this.#list.scrollTop = this.#list.scrollHeight;
  }

  clear(emptyText) {
    this.#shown.clear();
    this.#atEnd = true;
    this.#list.replaceChildren();
    this.#empty.textContent = emptyText;
    this.#empty.hidden = false;
  }

  /** `author`: who said it. `onAnswer`: what the button beside it does, if it has one. */
  show(key, { author, mine, content, sentAt, fresh, onAnswer }) {
    const item = document.createElement('li');
    item.className = `message${mine ? ' mine' : ''}${fresh ? ' fresh' : ''}`;

    const meta = document.createElement('div');
    meta.className = 'meta';
    const name = document.createElement('strong');
    name.textContent = author;
    meta.append(name);
    if (sentAt !== null) meta.append(time(sentAt));
    if (onAnswer) {
      const answer = document.createElement('button');
      answer.type = 'button';
      answer.textContent = 'Answer';
      answer.addEventListener('click', onAnswer);
      meta.append(answer);
    }
    const text = document.createElement('p');
    text.dir = 'auto';
    text.textContent = content;
    item.append(meta, text);

    const before = this.#shown.get(key);
    if (before) before.replaceWith(item);
    else this.#list.append(item);
    this.#shown.set(key, item);
    this.#empty.hidden = true;
    if (this.#shown.size > MOST_SHOWN) this.remove(this.#shown.keys().next().value);
    if (mine && fresh) this.#atEnd = true;
    this.#toEnd();
  }

  remove(key) {
    this.#shown.get(key)?.remove();
    this.#shown.delete(key);
    this.#empty.hidden = this.#shown.size > 0;
  }
}

/** `micros`: microseconds since 1970, as TIMESTAMP comes. */
function time(micros) {
  const date = new Date(micros / 1000);
  const element = document.createElement('time');
  element.dateTime = date.toISOString();
  element.textContent = TIME.format(date);
  return element;
}

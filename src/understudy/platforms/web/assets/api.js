// The server's own small API. Every failure becomes an Error whose text a person can read.
export function newId() {
  // crypto.randomUUID is missing where the page is not served over https.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function call(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && answer.login) location.assign(answer.login);
  if (!response.ok) throw new Error(answer.error || `The server said ${response.status}.`);
  return answer;
}

// Listens to an event stream and comes back by itself, also where EventSource gives up.
export class Stream {
  constructor(path, handlers, onState) {
    this.path = path;
    this.handlers = handlers;
    this.onState = onState;
    this.waits = 500;
    this.open();
  }

  open() {
    this.source = new EventSource(this.path);
    for (const [name, handle] of Object.entries(this.handlers)) {
      this.source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
    this.source.onopen = () => { this.waits = 500; this.onState(true); };
    this.source.onerror = () => {
      this.onState(false);
      if (this.source.readyState === EventSource.CLOSED) this.retry();
    };
  }

  retry() {
    // A refused stream says no reason; an ordinary call does, and leads to the login if need be.
    this.timer = setTimeout(() => this.open(), this.waits);
    this.waits = Math.min(this.waits * 2, 8000);
    call("GET", "/api/chats").catch(() => {});
  }

  close() {
    clearTimeout(this.timer);
    this.source.close();
  }
}

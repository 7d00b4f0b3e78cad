// Calls of the server's JSON API. A failure becomes an Error whose text the page shows.
export function newId() {
  // crypto.randomUUID exists only on pages served over https.
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
  if (!response.ok) {
    const error = new Error(answer.error || `The server answered with status ${response.status}.`);
    throw Object.assign(error, { retryAfter: answer.retry_after, answer });
  }
  return answer;
}

// An event stream that reconnects, also where EventSource stops reconnecting.
export class Stream {
  constructor(path, handlers, onState) {
    this.path = path;
    this.handlers = handlers;
    this.onState = onState;
    this.retryMs = 500;
    this.open();
  }

  open() {
    this.source = new EventSource(this.path);
    for (const [name, handle] of Object.entries(this.handlers)) {
      this.source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
    this.source.onopen = () => { this.retryMs = 500; this.onState(true); };
    this.source.onerror = () => {
      this.onState(false);
      if (this.source.readyState === EventSource.CLOSED) this.retry();
    };
  }

  retry() {
    // EventSource does not report why it was refused; an API call does, and opens the login page.
    this.timer = setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(this.retryMs * 2, 8000);
    call("GET", "/api/chats").catch(() => {});
  }

  close() {
    clearTimeout(this.timer);
    this.source.close();
  }
}

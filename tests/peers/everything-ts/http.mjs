// The everything-server over HTTP: requests of the 2026 revision one by one, the others in sessions, on one endpoint.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { node, sdk } from './sdk.mjs';
import { everything } from './server.mjs';

// Told to clients with the priming event of a stream: how long to wait before they take up a closed one.
const RETRY_MS = 50;
// Older ones are forgotten: what was lost cannot be replayed.
const EVENTS_MAX = 1000;
// A client that goes without a DELETE leaves its session behind; the oldest goes first.
const SESSIONS_MAX = 1000;

// Serves on any port, if `port` is 0; the endpoint's URL.
export async function serveHttp(port) {
  const modern = sdk.createMcpHandler(() => everything(modern.notify), { legacy: 'reject' });
  const toModern = node.toNodeHandler(modern);
  const sessions = new Sessions();
  const hostIsOurs = node.localhostHostValidation();
  const originIsOurs = node.localhostOriginValidation();
  const listener = createServer(async (request, response) => {
    if (!hostIsOurs(request, response) || !originIsOurs(request, response)) return;
    try {
      const body = await bodyOf(request);
      const legacy = await sdk.isLegacyRequest(await node.toWebRequest(request, body), body);
      await (legacy ? sessions.answer(request, response, body) : toModern(request, response, body));
    } catch (error) {
      console.error(error);
      if (!response.headersSent) response.writeHead(500).end();
    }
  });
  await new Promise((resolve) => listener.listen(port, '127.0.0.1', resolve));
  return `http://127.0.0.1:${listener.address().port}/mcp`;
}

// What was posted: its JSON, or nothing where it is none.
async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return undefined;
  }
}

class Sessions {
  #known = new Map();

  async answer(request, response, body) {
    const name = request.headers['mcp-session-id'];
    if (name === undefined) return (await this.#open()).handleRequest(request, response, body);
    const session = this.#known.get(name);
    if (session !== undefined) return session.handleRequest(request, response, body);
    const error = { code: -32001, message: 'Session not found' };
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
  }

  // One that becomes known with its `initialize`, and answers anything else itself.
  async #open() {
    const session = new node.NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: RETRY_MS,
      onsessioninitialized: (name) => {
        this.#known.set(name, session);
        if (this.#known.size > SESSIONS_MAX) this.#known.delete(this.#known.keys().next().value);
      },
      onsessionclosed: (name) => this.#known.delete(name),
    });
    await everything().connect(session);
    return session;
  }
}

// The events of a session's streams, kept so that a client can take up a stream that was closed (SEP-1699).
class Events {
  #kept = [];
  #last = 0;

  async storeEvent(stream, message) {
    this.#last += 1;
    this.#kept.push({ number: this.#last, stream, message });
    if (this.#kept.length > EVENTS_MAX) this.#kept.shift();
    return String(this.#last);
  }

  async getStreamIdForEventId(event) {
    return this.#kept.find(({ number }) => String(number) === event)?.stream;
  }

  async replayEventsAfter(event, { send }) {
    const stream = await this.getStreamIdForEventId(event);
    for (const { number, stream: of, message } of [...this.#kept]) {
      // A priming event has no message.
      const missed = of === stream && number > Number(event);
      if (missed && message.jsonrpc !== undefined) await send(String(number), message);
    }
    return stream;
  }
}

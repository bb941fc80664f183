// The TypeScript SDK 2.x as a client: connects to URL by Streamable HTTP, or starts the command '["program", "arg"]' and
// speaks over its stdin and stdout; lists all tools, makes the calls.
//
//   node client2.mjs URL|COMMAND '[{"name": "echo", "arguments": {"text": "hi"}}]' [default|legacy|auto|2026-07-28]
//
// The last is how the version is agreed upon; a version is taken for granted. Whatever a server asks of its client is
// answered. Prints one JSON object:
// {"version": "…", "server": {…}, "tools": ["…"], "results": [{…} | {"error": {"code", "message"}}]}.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../.cache/npm/package.json', import.meta.url));
const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');
const { StdioClientTransport } = require('@modelcontextprotocol/client/stdio');

const [where, calls = '[]', how = 'default'] = process.argv.slice(2);
const overHttp = where.startsWith('http');
const started = () => {
  const [command, ...args] = JSON.parse(where);
  return new StdioClientTransport({ command, args, env: process.env, stderr: 'ignore' });
};
const mode = how === 'legacy' || how === 'auto' ? how : { pin: how };
const client = new Client(
  { name: 'it-typescript-2', version: '0' },
  {
    ...(how === 'default' ? {} : { versionNegotiation: { mode } }),
    capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
  },
);
client.setRequestHandler('elicitation/create', ({ params }) => {
  const types = { string: 'said', integer: 7, number: 0.5, boolean: true };
  const wanted = Object.entries(params.requestedSchema.properties).filter(([, { type }]) => type in types);
  return { action: 'accept', content: Object.fromEntries(wanted.map(([name, { type }]) => [name, types[type]])) };
});
client.setRequestHandler('sampling/createMessage', () => ({
  role: 'assistant',
  model: 'it',
  content: { type: 'text', text: 'sampled' },
}));
client.setRequestHandler('roots/list', () => ({ roots: [{ uri: 'file:///it' }] }));
const transport = overHttp ? new StreamableHTTPClientTransport(new URL(where)) : started();
await client.connect(transport);

const tools = [];
let cursor;
do {
  const page = await client.listTools({ cursor });
  tools.push(...page.tools.map((tool) => tool.name));
  cursor = page.nextCursor;
} while (cursor !== undefined);

const results = [];
for (const call of JSON.parse(calls)) {
  try {
    results.push(await client.callTool(call));
  } catch (error) {
    if (error.code === undefined) throw error;
    results.push({ error: { code: error.code, message: error.message } });
  }
}

const version = client.getNegotiatedProtocolVersion();
const server = client.getServerVersion();
if (overHttp) await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ version, server, tools, results }));

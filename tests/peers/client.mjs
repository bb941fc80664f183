// The TypeScript SDK as a client: connects to URL by Streamable HTTP, or starts the command '["program", "arg"]' and
// speaks over its stdin and stdout; lists all tools, makes the calls.
//
//   node client.mjs URL|COMMAND '[{"name": "echo", "arguments": {"text": "hi"}}]'
//
// Prints one JSON object: {"server": {…}, "tools": ["…"], "results": [{…} | {"error": {"code", "message"}}]}.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../.cache/npm/package.json', import.meta.url));
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = require('@modelcontextprotocol/sdk/client/stdio.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

const [where, calls = '[]'] = process.argv.slice(2);
const overHttp = where.startsWith('http');
const started = () => {
  const [command, ...args] = JSON.parse(where);
  return new StdioClientTransport({ command, args, env: process.env });
};
const client = new Client({ name: 'it-typescript', version: '0' });
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

const server = client.getServerVersion();
if (overHttp) await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ server, tools, results }));

// Does what a client scenario of the conformance suite asks for, with the TypeScript SDK 2.x as the client. The suite
// starts it with the URL of its mock server (tests/conformance/run --client).
//
// With MCPVISOR=PROGRAM in the environment it starts that with the mock server as its only upstream and acts through it:
// what the suite judges then is mcpvisor as a client. MCPVISOR_CLIENT_ERA=legacy|modern is the era of the client before
// it; without it, that of the scenario.
import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const require = createRequire(new URL('../.cache/npm/package.json', import.meta.url));
const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');

const { MCP_CONFORMANCE_SCENARIO: scenario, MCP_CONFORMANCE_PROTOCOL_VERSION: revision, MCPVISOR } = process.env;
const upstream = process.argv[2];
const era = process.env.MCPVISOR_CLIENT_ERA ?? (revision === '2026-07-28' ? 'modern' : 'legacy');

const ACTIONS = {
  initialize: async () => {},
  tools_call: (client) => call(client, 'add_numbers', { a: 5, b: 3 }),
  'elicitation-sep1034-client-defaults': (client) => call(client, 'test_client_elicitation_defaults'),
  'sse-retry': (client) => call(client, 'test_reconnection'),
  'json-schema-2020-12-preservation': async (client) => {
    const focal = (await tools(client)).find(({ name }) => name === 'json_schema_2020_12_tool');
    await call(client, 'json_schema_echo', { schema: focal.inputSchema });
  },
  'json-schema-ref-no-deref': tools,
  'request-metadata': tools,
  'sep-2322-client-request-state': async (client) => {
    await Promise.all([call(client, 'test_mrtr_echo_state'), call(client, 'test_mrtr_unrelated')]);
    await call(client, 'test_mrtr_no_state');
    await call(client, 'test_mrtr_no_result_type');
  },
  'http-standard-headers': async (client) => {
    for (const { name } of await tools(client)) await call(client, name);
    const { resources } = await client.listResources();
    for (const { uri } of resources) await client.readResource({ uri });
    const { prompts } = await client.listPrompts();
    for (const { name } of prompts) await client.getPrompt({ name });
  },
  'http-custom-headers': async (client) => {
    await tools(client);
    const { toolCalls } = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT);
    for (const { name, arguments: given } of toolCalls) await call(client, name, given);
  },
  'http-invalid-tool-headers': async (client) => {
    // The SDK hides what must not be called; behind mcpvisor it must not come so far.
    const listed = MCPVISOR ? (await client.request({ method: 'tools/list', params: {} })).tools : await tools(client);
    for (const { name } of listed) await call(client, name, { region: 'eu', value: 'v' });
  },
};

async function tools(client) {
  return (await client.listTools()).tools;
}

// What comes of it is for the suite to judge: it is said, and no failure of ours.
async function call(client, name, given = {}) {
  try {
    console.log(name, JSON.stringify(await client.callTool({ name, arguments: given })));
  } catch (error) {
    console.log(name, String(error));
  }
}

// mcpvisor with the mock server behind it, until `act` is done with its endpoint.
async function behindMcpvisor(act) {
  const directory = await mkdtemp(join(tmpdir(), 'conformance-client-'));
  const config = join(directory, 'mcp_config.json');
  const features = ['sampling', 'elicitation', 'roots'];
  // The mock servers of a revision speak that alone, and judge whatever else is tried.
  const own = revision === '2026-07-28' ? 'modern' : 'legacy';
  const mock = { url: upstream, protocol: 'http', era: own, client_features: features };
  await writeFile(config, JSON.stringify({ mcpServers: { mock } }));
  const args = ['serve', '--config', config, '--state-dir', join(directory, 'state'), '--listen', '127.0.0.1:0'];
  const daemon = spawn(MCPVISOR, args, { stdio: ['ignore', 'inherit', 'pipe'] });
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  try {
    await act(await endpoint(daemon));
  } finally {
    daemon.kill('SIGTERM');
    await ended;
    await rm(directory, { recursive: true, force: true });
  }
}

// It says where it listens, among other things; all of them are passed on.
function endpoint(daemon) {
  return new Promise((resolve, reject) => {
    let said = '';
    daemon.stderr.on('data', (text) => {
      process.stderr.write(text);
      said += text;
      const url = /http:\/\/127\.0\.0\.1:\d+\/mcp/.exec(said)?.[0];
      if (url !== undefined) resolve(`${url}/s/mock`);
    });
    daemon.once('exit', () => reject(new Error('mcpvisor ended without a URL')));
  });
}

async function act(url) {
  const client = new Client(
    { name: 'it-conformance', version: '0' },
    {
      versionNegotiation: { mode: era === 'modern' ? { pin: '2026-07-28' } : 'legacy' },
      capabilities: { elicitation: { form: { applyDefaults: true } }, sampling: {}, roots: {} },
    },
  );
  const confirmed = ({ params }) => ('confirmed' in params.requestedSchema.properties ? { confirmed: true } : {});
  client.setRequestHandler('elicitation/create', (asked) => ({ action: 'accept', content: confirmed(asked) }));
  client.setRequestHandler('roots/list', () => ({ roots: [] }));
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  await ACTIONS[scenario](client);
  await client.close();
}

// The suite gives up on us after 30 s, and leaves us behind: what has come to nothing by then ends with its daemon.
const late = new Promise((_, reject) => setTimeout(() => reject(new Error('nothing came of it')), 25_000).unref());
const inTime = (url) => Promise.race([act(url), late]);
await (MCPVISOR ? behindMcpvisor(inTime) : inTime(upstream));

// The fixtures behind the SDK's methods.
import { complete, getPrompt, listPrompts } from './prompts.mjs';
import { listResources, listTemplates, readResource } from './resources.mjs';
import { opened } from './rounds.mjs';
import { sdk } from './sdk.mjs';
import { callTool, listTools, schemaOf } from './tools.mjs';

// The low-level server below it is told everything; this one is here for what the SDK looks up before a call.
class Everything extends sdk.McpServer {
  // To compare the headers of a call with its arguments.
  toolInputSchemaJson(name) {
    return schemaOf(name);
  }
}

const CHANGES = { listChanged: true };
const CAPABILITIES = {
  tools: CHANGES,
  prompts: CHANGES,
  resources: { subscribe: true, ...CHANGES },
  completions: {},
  logging: {},
};

// One for a request, for a session, or for a process. `changed` tells those who listen what has changed, where that is
// not for the server itself to tell (over HTTP, in the 2026 revision).
export function everything(changed) {
  const mcp = new Everything(
    { name: 'everything-ts', version: '1.0.0', title: 'Everything' },
    {
      instructions: 'Fixtures for the conformance suite; every tool says what it returns.',
      // Not the defaults: what is passed on can be told from what is made up.
      cacheHints: { 'tools/list': { ttlMs: 1500, cacheScope: 'public' } },
      requestState: { verify: opened },
    },
  );
  const { server } = mcp;
  server.registerCapabilities(CAPABILITIES);
  const watched = new Set();
  const tell = changed ?? toItsClient(server, watched);
  server.setRequestHandler('tools/list', () => listTools());
  server.setRequestHandler('tools/call', (request, context) => callTool(request.params, { server, context, tell }));
  server.setRequestHandler('prompts/list', () => listPrompts());
  server.setRequestHandler('prompts/get', (request, context) => getPrompt(request.params, context));
  server.setRequestHandler('completion/complete', (request) => complete(request.params));
  server.setRequestHandler('resources/list', () => listResources());
  server.setRequestHandler('resources/templates/list', () => listTemplates());
  server.setRequestHandler('resources/read', (request) => readResource(request.params.uri));
  server.setRequestHandler('resources/subscribe', (request) => {
    watched.add(request.params.uri);
    return {};
  });
  server.setRequestHandler('resources/unsubscribe', (request) => {
    watched.delete(request.params.uri);
    return {};
  });
  return mcp;
}

// What has changed, by the connection that the server is on.
function toItsClient(server, watched) {
  return {
    toolsChanged: () => server.sendToolListChanged(),
    promptsChanged: () => server.sendPromptListChanged(),
    // Over stdio in the 2026 revision it is the SDK that knows who listens for what.
    resourceUpdated: (uri, modern) => {
      if (modern || watched.has(uri)) return server.sendResourceUpdated({ uri });
    },
  };
}

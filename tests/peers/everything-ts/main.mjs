// The everything-server on the TypeScript SDK 2.x: what tests/peers/everything is on Python's, with the same fixtures
// (tools.mjs, prompts.mjs, resources.mjs). Both eras are served at once: over HTTP per request, over stdio as the client
// opens. On a 2025 session the SDK turns what takes several rounds into requests of its own.
//
//   node tests/peers/everything-ts/main.mjs --stdio
//   node tests/peers/everything-ts/main.mjs --port 8000    # 0: any; prints "listening on http://127.0.0.1:8000/mcp"
import { parseArgs } from 'node:util';
import { serveHttp } from './http.mjs';
import { stdio } from './sdk.mjs';
import { everything } from './server.mjs';

const { values } = parseArgs({ options: { stdio: { type: 'boolean' }, port: { type: 'string' } } });
if (values.stdio) {
  stdio.serveStdio(() => everything());
} else if (values.port !== undefined) {
  console.log(`listening on ${await serveHttp(Number(values.port))}`);
} else {
  throw new Error('either --stdio or --port');
}

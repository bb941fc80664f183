// The TypeScript SDK 2.x, from where scripts/test installs it.
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../.cache/npm/package.json', import.meta.url));
export const sdk = require('@modelcontextprotocol/server');
export const stdio = require('@modelcontextprotocol/server/stdio');
export const node = require('@modelcontextprotocol/node');

// What takes several rounds (SEP-2322): what is asked of the client, the state that it brings back, and what it answered.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { sdk } from './sdk.mjs';

// Known to everybody, so that the same state looks the same in every run: it shows that a state that was changed on its
// way is refused, and protects nothing.
const KEY = 'fixture';

const mac = (state) => createHmac('sha256', KEY).update(state).digest();
const seal = (state) => `${state}.${mac(state).toString('hex')}`;

// The SDK asks before it calls a tool; what is thrown is a refusal.
export function opened(sealed) {
  const end = sealed.lastIndexOf('.');
  const state = sealed.slice(0, Math.max(end, 0));
  const given = Buffer.from(sealed.slice(end + 1), 'hex');
  const expected = mac(state);
  if (sealed !== seal(state) || !timingSafeEqual(given, expected)) throw new Error('not the state that was given');
  return state;
}

export const ask = (inputRequests, state) =>
  sdk.inputRequired({ inputRequests, ...(state === undefined ? {} : { requestState: seal(state) }) });

export const elicit = (message, field, type = 'string') =>
  sdk.inputRequired.elicit({
    message,
    requestedSchema: { type: 'object', properties: { [field]: { type } }, required: [field] },
  });

export const sample = (words, maxTokens) =>
  sdk.inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: words } }], maxTokens });

export const listRoots = () => sdk.inputRequired.listRoots();

// What the client has answered so far; each is undefined where it has not.
export class Answers {
  constructor(context) {
    this.given = context.mcpReq.inputResponses ?? {};
    this.state = context.mcpReq.requestState();
  }
  // What the user filled in.
  content(key, field) {
    return sdk.acceptedContent(this.given, key)?.[field];
  }
  // What the model said.
  said(key) {
    const content = this.given[key]?.content;
    return content?.type === 'text' ? content.text : undefined;
  }
  roots(key) {
    return this.given[key]?.roots?.map((root) => root.uri);
  }
}

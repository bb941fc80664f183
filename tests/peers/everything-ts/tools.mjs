// The tools. Each is a function beside its definition, of a `Call`; a `Refused` that it throws is a tool's error, not the
// protocol's.
import { setTimeout as pause } from 'node:timers/promises';
import * as media from './media.mjs';
import { Answers, ask, elicit, listRoots, sample } from './rounds.mjs';
import { sdk } from './sdk.mjs';

// Between two notifications, so that they come apart and not in one write.
const PAUSE_MS = 50;
const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];
const NO_ARGUMENTS = { type: 'object', properties: {} };

// The tool could not do it, and says why in its result.
class Refused extends Error {}

const TOOLS = new Map();

function tool(name, description, run, inputSchema = NO_ARGUMENTS) {
  TOOLS.set(name, { definition: { name, description, inputSchema }, run });
}

const oneString = (name, description) => ({
  type: 'object',
  properties: { [name]: { type: 'string', description } },
  required: [name],
});

export const listTools = () => ({ tools: [...TOOLS.values()].map(({ definition }) => definition) });
export const schemaOf = (name) => TOOLS.get(name)?.definition.inputSchema;

class Call {
  constructor(given, { server, context, tell }) {
    this.given = given;
    this.request = context.mcpReq;
    this.context = context;
    this.answers = new Answers(context);
    this.tell = tell;
    // Of this request, in the 2026 revision; of the session, before it.
    this.client = this.request.envelope?.[sdk.CLIENT_CAPABILITIES_META_KEY] ?? server.getClientCapabilities() ?? {};
    this.modern = this.request.envelope !== undefined;
  }
  async progress(done, total) {
    const progressToken = this.request._meta?.progressToken;
    if (progressToken === undefined) return;
    await this.request.notify({ method: 'notifications/progress', params: { progressToken, progress: done, total } });
  }
}

export async function callTool({ name, arguments: given = {} }, around) {
  const found = TOOLS.get(name);
  if (found === undefined) {
    throw new sdk.ProtocolError(sdk.ProtocolErrorCode.InvalidParams, `Unknown tool: ${name}`);
  }
  try {
    const said = await found.run(new Call(given, around));
    return Array.isArray(said) ? { content: said } : said;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { content: [media.text(error.message)], isError: true };
  }
}

// Content of every kind

tool('test_simple_text', 'Returns a text', () => [media.text('This is a simple text response for testing.')]);
tool('test_image_content', 'Returns a picture', () => [media.image()]);
tool('test_audio_content', 'Returns a sound', () => [media.audio()]);
tool('test_embedded_resource', 'Returns a resource', () => [
  media.embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.'),
]);
tool('test_multiple_content_types', 'Returns a text, a picture and a resource', () => [
  media.text('Multiple content types test:'),
  media.image(),
  media.embedded('test://mixed-content-resource', 'application/json', JSON.stringify({ test: 'data', value: 123 })),
]);
tool('test_error_handling', 'Fails, always', () => {
  throw new Refused('This tool intentionally returns an error for testing');
});

// What comes while a call runs

tool('test_tool_with_logging', 'Logs three lines at level info', async (call) => {
  const lines = ['Tool execution started', 'Tool processing data', 'Tool execution completed'];
  for (const [number, line] of lines.entries()) {
    if (number > 0) await pause(PAUSE_MS);
    await call.request.log('info', line);
  }
  return [media.text('Tool with logging executed successfully')];
});
tool('test_tool_with_progress', 'Reports progress, if asked to: 0, 50 and 100 of 100', async (call) => {
  for (const done of [0, 50, 100]) {
    if (done > 0) await pause(PAUSE_MS);
    await call.progress(done, 100);
  }
  return [media.text('Tool with progress executed successfully')];
});
tool(
  'test_reconnection',
  'Closes the stream of its call before it answers on the stream that is taken up again',
  async (call) => {
    // Over stdio there is no stream to close; it only takes its time.
    call.context.http?.closeSSE?.();
    await pause(2 * PAUSE_MS);
    return [media.text('Reconnection test completed successfully')];
  },
);

// Requests to the client, of the 2025 revisions only

tool(
  'test_sampling',
  "Asks the client's model",
  async (call) => {
    if (call.client.sampling === undefined) throw new Refused('The client does not support sampling');
    const messages = [{ role: 'user', content: media.text(call.given.prompt) }];
    const { content } = await call.request.requestSampling({ messages, maxTokens: 100 });
    return [media.text(`LLM response: ${content.type === 'text' ? content.text : content.type}`)];
  },
  oneString('prompt', 'The prompt to send to the model'),
);

async function userSays(call, message, properties, required) {
  if (call.client.elicitation === undefined) throw new Refused('The client does not support elicitation');
  const requestedSchema = { type: 'object', properties, ...(required === undefined ? {} : { required }) };
  const { action, content } = await call.request.elicitInput({ message, requestedSchema });
  return `action=${action}, content=${JSON.stringify(content ?? null)}`;
}

tool(
  'test_elicitation',
  'Asks the user for a name and an address',
  async (call) => {
    const properties = {
      username: { type: 'string', description: "User's response" },
      email: { type: 'string', description: "User's email address" },
    };
    const said = await userSays(call, call.given.message, properties, ['username', 'email']);
    return [media.text(`User response: ${said}`)];
  },
  oneString('message', 'What the user is told'),
);
tool('test_elicitation_sep1034_defaults', 'Asks the user, with a default of every primitive type', async (call) => {
  const properties = {
    name: { type: 'string', description: 'User name', default: 'John Doe' },
    age: { type: 'integer', description: 'User age', default: 30 },
    score: { type: 'number', description: 'User score', default: 95.5 },
    status: {
      type: 'string',
      description: 'User status',
      enum: ['active', 'inactive', 'pending'],
      default: 'active',
    },
    verified: { type: 'boolean', description: 'Verification status', default: true },
  };
  const said = await userSays(call, 'Please review and update the form fields with defaults', properties);
  return [media.text(`Elicitation completed: ${said}`)];
});
tool('test_elicitation_sep1330_enums', 'Asks the user to choose, in every way that there is', async (call) => {
  const options = ['option1', 'option2', 'option3'];
  const titled = (titles) => titles.map((title, at) => ({ const: `value${at + 1}`, title }));
  const properties = {
    untitledSingle: { type: 'string', enum: options },
    titledSingle: { type: 'string', oneOf: titled(['First Option', 'Second Option', 'Third Option']) },
    legacyEnum: {
      type: 'string',
      enum: ['opt1', 'opt2', 'opt3'],
      enumNames: ['Option One', 'Option Two', 'Option Three'],
    },
    untitledMulti: { type: 'array', items: { type: 'string', enum: options } },
    titledMulti: { type: 'array', items: { anyOf: titled(['First Choice', 'Second Choice', 'Third Choice']) } },
  };
  const said = await userSays(call, 'Please select options from the enum fields', properties);
  return [media.text(`Elicitation completed: ${said}`)];
});

// Several rounds (SEP-2322)

tool('test_input_required_result_elicitation', 'Asks for a name, and greets', greet);
function greet({ answers }) {
  const name = answers.content('user_name', 'name');
  if (name === undefined) return ask({ user_name: elicit('What is your name?', 'name') });
  return [media.text(`Hello, ${name}!`)];
}

tool('test_input_required_result_sampling', "Asks the client's model, and says what it said", ({ answers }) => {
  const said = answers.said('capital_question');
  if (said === undefined) return ask({ capital_question: sample('What is the capital of France?', 100) });
  return [media.text(said)];
});
tool('test_input_required_result_list_roots', 'Asks for the roots, and names them', ({ answers }) => {
  const roots = answers.roots('client_roots');
  if (roots === undefined) return ask({ client_roots: listRoots() });
  return [media.text(`Roots: ${roots.join(', ')}`)];
});
tool(
  'test_input_required_result_request_state',
  'Asks for a yes, and looks at the state that came with it',
  ({ answers }) => {
    if (answers.state !== 'request-state' || answers.content('confirm', 'ok') === undefined) {
      return ask({ confirm: elicit('Please confirm', 'ok', 'boolean') }, 'request-state');
    }
    return [media.text('state-ok')];
  },
);
tool(
  'test_input_required_result_multiple_inputs',
  'Asks for a name, a greeting and the roots at once',
  ({ answers }) => {
    const name = answers.content('user_name', 'name');
    const greeting = answers.said('greeting');
    const roots = answers.roots('client_roots');
    if (answers.state !== 'multiple-inputs' || [name, greeting, roots].includes(undefined)) {
      const wanted = {
        user_name: elicit('What is your name?', 'name'),
        greeting: sample('Generate a greeting', 50),
        client_roots: listRoots(),
      };
      return ask(wanted, 'multiple-inputs');
    }
    return [media.text(`${greeting} ${name}, ${roots.length} roots`)];
  },
);
tool('test_input_required_result_multi_round', 'Asks for a name, then for a colour', ({ answers }) => {
  const [step, known] = (answers.state ?? '').split(':', 2);
  const name = step === 'step1' ? answers.content('step1', 'name') : known;
  if (!name) return ask({ step1: elicit('Step 1: What is your name?', 'name') }, 'step1');
  const colour = step === 'step2' ? answers.content('step2', 'color') : undefined;
  if (colour === undefined) {
    return ask({ step2: elicit('Step 2: What is your favorite color?', 'color') }, `step2:${name}`);
  }
  return [media.text(`${name} likes ${colour}`)];
});
tool(
  'test_input_required_result_tampered_state',
  'Asks for a yes; refuses a state that was changed on its way',
  ({ answers }) => {
    if (answers.state !== 'tampered-state' || answers.content('confirm', 'ok') === undefined) {
      return ask({ confirm: elicit('Please confirm', 'ok', 'boolean') }, 'tampered-state');
    }
    return [media.text('The state is the one that was given')];
  },
);
tool(
  'test_input_required_result_capabilities',
  'Asks for whatever the client says that it can answer',
  ({ answers, client }) => {
    const can = {
      ...(client.elicitation && { user_name: elicit('What is your name?', 'name') }),
      ...(client.sampling && { greeting: sample('Generate a greeting', 50) }),
      ...(client.roots && { client_roots: listRoots() }),
    };
    const missing = Object.fromEntries(Object.entries(can).filter(([key]) => !(key in answers.given)));
    if (Object.keys(missing).length > 0) return ask(missing);
    const asked = Object.keys(can).sort().join(', ');
    return [media.text(`Answered: ${asked || 'nothing, for nothing could be asked'}`)];
  },
);

// What the 2026 revision says of capabilities, streams and logs (SEP-2575)

tool('test_missing_capability', 'Needs a client with a model', async ({ client, modern, request }) => {
  if (client.sampling === undefined) {
    const needed = { requiredCapabilities: { sampling: {} } };
    throw new sdk.MissingRequiredClientCapabilityError(needed, 'This tool needs sampling');
  }
  if (!modern) {
    // What a session can says little of a client behind a gateway: only the model itself knows.
    const messages = [{ role: 'user', content: media.text('Are you there?') }];
    await request.requestSampling({ messages, maxTokens: 10 });
  }
  return [media.text('The client can sample')];
});
tool('test_streaming_elicitation', 'Reports progress, then asks for a name in its result', async (call) => {
  await call.progress(50, 100);
  return greet(call);
});
tool('test_logging_tool', 'Logs a line at every level', async (call) => {
  for (const level of LEVELS) await call.request.log(level, `A line at ${level}`);
  return [media.text('Logged')];
});
tool('test_trigger_tool_change', 'Says that the list of tools has changed', async ({ tell }) => {
  await tell.toolsChanged();
  return [media.text('Said that the tools have changed')];
});
tool('test_trigger_prompt_change', 'Says that the list of prompts has changed', async ({ tell }) => {
  await tell.promptsChanged();
  return [media.text('Said that the prompts have changed')];
});
tool('test_trigger_resource_update', 'Says that the watched resource has changed', async ({ tell, modern }) => {
  await tell.resourceUpdated('test://watched-resource', modern);
  return [media.text('Said that the resource has changed')];
});

// Arguments that are headers too (SEP-2243)

tool(
  'test_header_arguments',
  'Repeats its arguments, which over HTTP come as headers too',
  ({ given }) => [media.text(JSON.stringify(given))],
  {
    type: 'object',
    properties: {
      region: { type: 'string', 'x-mcp-header': 'Region' },
      limit: { type: 'integer', 'x-mcp-header': 'Limit' },
      exact: { type: 'boolean', 'x-mcp-header': 'Exact' },
    },
  },
);

// A schema with all that JSON Schema 2020-12 has and a careless proxy drops

tool(
  'json_schema_2020_12_tool',
  'Tool with JSON Schema 2020-12 features',
  ({ given }) => [media.text(`Called with ${JSON.stringify(given)}`)],
  {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    type: 'object',
    $defs: {
      address: {
        $anchor: 'addressDef',
        type: 'object',
        properties: { street: { type: 'string' }, city: { type: 'string' } },
      },
    },
    properties: {
      name: { type: 'string' },
      address: { $ref: '#/$defs/address' },
      contactMethod: { type: 'string', enum: ['phone', 'email'] },
      phone: { type: 'string' },
      email: { type: 'string' },
    },
    allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
    if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
    then: { required: ['phone'] },
    else: { required: ['email'] },
    additionalProperties: false,
  },
);

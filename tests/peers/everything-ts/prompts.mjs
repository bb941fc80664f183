// The prompts, and the completion of their arguments.
import * as media from './media.mjs';
import { Answers, ask, elicit } from './rounds.mjs';
import { sdk } from './sdk.mjs';

const PROMPTS = new Map();

// `wanted`: the arguments, name to description; each is required. `say`: the contents of the user's messages, or what
// the client is asked first.
function prompt(name, description, wanted, say) {
  const definition = {
    name,
    description,
    arguments: Object.entries(wanted).map(([key, about]) => ({ name: key, description: about, required: true })),
  };
  PROMPTS.set(name, { definition, say });
}

prompt('test_simple_prompt', 'One message, without arguments', {}, () => [
  media.text('This is a simple prompt for testing.'),
]);

prompt(
  'test_prompt_with_arguments',
  'One message that repeats its arguments',
  { arg1: 'First test argument', arg2: 'Second test argument' },
  ({ arg1, arg2 }) => [media.text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`)],
);

prompt(
  'test_prompt_with_embedded_resource',
  'A resource, and what to do with it',
  { resourceUri: 'URI of the resource to embed' },
  ({ resourceUri }) => [
    media.embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.'),
    media.text('Please process the embedded resource above.'),
  ],
);

prompt('test_prompt_with_image', 'A picture, and what to do with it', {}, () => [
  media.image(),
  media.text('Please analyze the image above.'),
]);

prompt('test_input_required_result_prompt', 'One message, with what the user says first', {}, (_, answers) => {
  const said = answers.content('user_context', 'context');
  if (said === undefined) return ask({ user_context: elicit('What context should the prompt use?', 'context') });
  return [media.text(`Use this context: ${said}`)];
});

// What the arguments of test_prompt_with_arguments are completed to.
const WORDS = ['park', 'party', 'paris', 'test', 'testing'];

export const listPrompts = () => ({ prompts: [...PROMPTS.values()].map(({ definition }) => definition) });

export function getPrompt({ name, arguments: given = {} }, context) {
  const found = PROMPTS.get(name);
  if (found === undefined) throw invalid(`Unknown prompt: ${name}`);
  const { definition, say } = found;
  const missing = definition.arguments.map((wanted) => wanted.name).filter((key) => !(key in given));
  if (missing.length > 0) throw invalid(`Missing arguments: ${missing.join(', ')}`);
  const said = say(given, new Answers(context));
  if (!Array.isArray(said)) return said;
  return { description: definition.description, messages: said.map((content) => ({ role: 'user', content })) };
}

export function complete({ argument }) {
  const values = WORDS.filter((word) => word.startsWith(argument.value));
  return { completion: { values, total: values.length, hasMore: false } };
}

const invalid = (message) => new sdk.ProtocolError(sdk.ProtocolErrorCode.InvalidParams, message);

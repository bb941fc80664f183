// The resources: a text, a picture, one to watch, and a template.
import { PNG } from './media.mjs';
import { sdk } from './sdk.mjs';

const RESOURCES = [
  {
    uri: 'test://static-text',
    name: 'static-text',
    title: 'A text',
    description: 'A text that never changes',
    mimeType: 'text/plain',
  },
  {
    uri: 'test://static-binary',
    name: 'static-binary',
    title: 'A picture',
    description: 'A picture that never changes: one red pixel',
    mimeType: 'image/png',
  },
  {
    uri: 'test://watched-resource',
    name: 'watched-resource',
    title: 'Something to watch',
    description: 'A text to subscribe to',
    mimeType: 'text/plain',
  },
];

const TEMPLATES = [
  {
    uriTemplate: 'test://template/{id}/data',
    name: 'template',
    title: 'Data by id',
    description: 'What is known about an id',
    mimeType: 'application/json',
  },
];

export const listResources = () => ({ resources: RESOURCES });
export const listTemplates = () => ({ resourceTemplates: TEMPLATES });

export function readResource(uri) {
  const content = contentOf(uri);
  if (content === undefined) throw new sdk.ResourceNotFoundError(uri);
  return { contents: [{ uri, ...content }] };
}

function contentOf(uri) {
  switch (uri) {
    case 'test://static-text':
      return { mimeType: 'text/plain', text: 'This is the content of the static text resource.' };
    case 'test://static-binary':
      return { mimeType: 'image/png', blob: PNG };
    case 'test://watched-resource':
      return { mimeType: 'text/plain', text: 'This is the content of the watched resource.' };
  }
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
  if (id === undefined) return undefined;
  return { mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) };
}

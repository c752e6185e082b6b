import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createRegistryHandler } from '../../src/oci/server.ts';

/** A registry over a layout folder that thinks about each request for some ms, as a process of its own: `FOLDER MS`. No limit of bandwidth. */
const [folder = '', delay = '0'] = process.argv.slice(2);
const milliseconds = Number(delay);
const handler = await createRegistryHandler(folder, { readOnly: true });
const server = createServer((request, response) => {
  if (milliseconds > 0) setTimeout(() => void handler.handle(request, response), milliseconds);
  else void handler.handle(request, response);
});
server.listen(0, '127.0.0.1', () => process.stdout.write(`listening on 127.0.0.1:${(server.address() as AddressInfo).port}\n`));

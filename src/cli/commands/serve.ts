import type { Command } from 'commander';
import { outputOf, type AddCommand } from '../app.ts';

interface Flags {
  readonly listen: string;
  readonly readOnly?: boolean;
  readonly log?: boolean;
}

export const addServe: AddCommand = (program, app) => {
  program
    .command('serve')
    .description('Serve an OCI image layout as a registry, until Ctrl-C')
    .argument('<dir>', 'the layout; made with the first push if it is not there')
    .option('--listen <host:port>', 'where to listen; port 0 is any free one', '127.0.0.1:5000')
    .option('--read-only', 'refuse pushes and deletes')
    .option('--log', 'print each request on standard error')
    .addHelpText('after', `
There is neither a login nor TLS: keep it on 127.0.0.1, or put a proxy in front.
--json prints one line with the address and the images once it listens.

Example:
  lazypull serve ./layout --listen 127.0.0.1:5000`)
    .action(async (dir: string, flags: Flags, self: Command) => {
      const [{ throwIfAborted }, { serveLayout }, { requestLine, servedImages }] = await Promise.all([
        import('../../core/errors.ts'),
        import('../../oci/server.ts'),
        import('../served.ts'),
      ]);
      const out = outputOf(app, self);
      const { signal } = app.io;
      throwIfAborted(signal);
      const server = await serveLayout(dir, {
        listen: flags.listen,
        ...(flags.readOnly ? { readOnly: true } : {}),
        ...(flags.log ? { onRequest: (record) => out.say(requestLine(record)) } : {}),
      });
      try {
        const images = (await servedImages(dir)).map((name) => `${server.host}/${name}`);
        if (out.json) await out.line(JSON.stringify({ url: server.url, images }));
        else await out.line([`listening on ${server.url}`, ...images.map((image) => `  ${image}`)].join('\n'));
        if (!signal.aborted) await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      } finally {
        await server.close();
      }
    });
};

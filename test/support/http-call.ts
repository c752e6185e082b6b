import { request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
  /** Code of the first error in a distribution-spec error body. */
  readonly code: string | undefined;
}

export interface Call {
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array | string | AsyncIterable<Uint8Array>;
}

/** One plain HTTP request on a connection of its own: no redirects, no retries, nothing added. */
export function call(method: string, url: string, options: Call = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { body } = options;
    const isWhole = typeof body === 'string' || body instanceof Uint8Array;
    const length = isWhole ? Buffer.byteLength(body) : body === undefined && method !== 'GET' && method !== 'HEAD' ? 0 : undefined;
    const headers = { ...(length !== undefined && { 'Content-Length': length }), ...options.headers };
    // The path goes out as it is written; a URL object would take dots away.
    const path = url.slice(url.indexOf('/', 'http://'.length));
    const outgoing = request(new URL(url), { path, method, headers, agent: false }, (incoming) => {
      const parts: Buffer[] = [];
      incoming.on('data', (part: Buffer) => parts.push(part));
      incoming.on('error', reject);
      incoming.on('end', () => {
        const whole = Buffer.concat(parts);
        resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: whole, text: whole.toString('utf8'), code: errorCode(whole) });
      });
    });
    outgoing.on('error', reject);
    if (body === undefined || isWhole) outgoing.end(body);
    else void pour(body, outgoing).catch((error: unknown) => outgoing.destroy(error as Error));
  });
}

async function pour(body: AsyncIterable<Uint8Array>, outgoing: NodeJS.WritableStream): Promise<void> {
  for await (const bytes of body) {
    await new Promise<void>((resolve, reject) => {
      outgoing.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  }
  outgoing.end();
}

function errorCode(body: Buffer): string | undefined {
  try {
    return (JSON.parse(body.toString('utf8')) as { errors?: { code?: string }[] }).errors?.[0]?.code;
  } catch {
    return undefined;
  }
}

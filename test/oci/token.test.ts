import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Authorizer, type AuthorizerOptions } from '../../src/oci/authorizer.ts';
import type { Credential } from '../../src/oci/credential.ts';
import { DEFAULT_TIMEOUTS, Transport } from '../../src/oci/http-transport.ts';
import { Retrier } from '../../src/oci/retry.ts';
import { isNearExpiry, requestToken, type Clock } from '../../src/oci/token.ts';
import { emptyEnv, scripted, type Scripted, type Seen } from './scripted.ts';
import { rejectsWith } from './store-contract.ts';
import type { ServerResponse } from 'node:http';

type Answer = (request: Seen, response: ServerResponse) => unknown;

function json(response: ServerResponse, body: object, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** A clock that stands until it is told to move. */
class TestClock implements Clock {
  at = 1_000_000;
  now(): number {
    return this.at;
  }
  date(): number {
    return Date.parse('2026-01-01T00:00:00Z') + this.at;
  }
}

interface Bench {
  readonly service: Scripted;
  readonly clock: TestClock;
  readonly transport: Transport;
  /** Asks the service directly. */
  ask(credential: Credential | undefined, scopes?: string[]): ReturnType<typeof requestToken>;
  authorizer(options?: Partial<AuthorizerOptions>): Authorizer;
  challenge(scope?: string): string[];
}

async function withService(answer: Answer, body: (bench: Bench) => Promise<void>): Promise<void> {
  const service = await scripted(answer);
  const transport = new Transport({ env: emptyEnv(), timeouts: DEFAULT_TIMEOUTS, userAgent: 'test', tls: async () => ({}) });
  const clock = new TestClock();
  try {
    await body({
      service, clock, transport,
      ask: (credential, scopes = ['repository:a:pull']) => requestToken(transport, { realm: new URL(`${service.url}/token?keep=1`), service: 'svc', scopes, credential }, clock),
      authorizer: (options = {}) => new Authorizer({
        registry: new URL('http://127.0.0.1:1/'), transport, clock, lookup: async () => undefined,
        retrier: new Retrier({ sleep: async () => undefined }), ...options,
      }),
      challenge: (scope) => [`Bearer realm="${service.url}/token",service="svc"${scope === undefined ? '' : `,scope="${scope}"`}`],
    });
  } finally {
    await transport.close();
    await service.close();
  }
}

const basic: Credential = { kind: 'basic', username: 'me', password: 'hunter2' };
const identity: Credential = { kind: 'identity', username: 'me', token: 'hunter2-refresh' };
const asBasic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;

describe('requestToken', () => {
  it('asks by GET, one parameter per scope, in order', async () => {
    await withService((_, response) => json(response, { token: 't' }), async ({ ask, service }) => {
      assert.equal((await ask(undefined, ['repository:b:push', 'repository:a:pull'])).value, 't');
      const [seen] = service.seen;
      assert.equal(seen?.method, 'GET');
      assert.deepEqual(seen?.url.searchParams.getAll('scope'), ['repository:b:push', 'repository:a:pull']);
      assert.equal(seen?.url.searchParams.get('service'), 'svc');
      assert.equal(seen?.url.searchParams.get('keep'), '1');
      assert.equal(seen?.headers.authorization, undefined);
      await ask(basic);
      assert.equal(service.seen[1]?.headers.authorization, asBasic('me:hunter2'));
    });
  });

  it('trades a refresh token by POST', async () => {
    await withService((_, response) => json(response, { access_token: 't', refresh_token: 'next' }), async ({ ask, service }) => {
      const token = await ask(identity, ['repository:a:pull', 'repository:b:pull']);
      assert.equal(token.value, 't');
      assert.equal(token.refreshToken, 'next');
      const form = new URLSearchParams(service.seen[0]?.body.toString());
      assert.deepEqual(Object.fromEntries(form), {
        grant_type: 'refresh_token', refresh_token: 'hunter2-refresh', service: 'svc', client_id: 'lazypull', scope: 'repository:a:pull repository:b:pull',
      });
    });
  });

  it('falls back to the other method when the service does not know the first', async () => {
    for (const status of [404, 405]) {
      await withService(({ method }, response) => (method === 'POST' ? json(response, {}, status) : json(response, { token: 'got' })), async ({ ask, service }) => {
        assert.equal((await ask(identity)).value, 'got');
        assert.equal(service.seen[1]?.headers.authorization, asBasic('me:hunter2-refresh'));
        await ask({ ...identity, username: '' });
        assert.equal(service.seen[3]?.headers.authorization, undefined);
      });
      await withService(({ method }, response) => (method === 'GET' ? json(response, {}, status) : json(response, { token: 'posted' })), async ({ ask, service }) => {
        assert.equal((await ask(basic)).value, 'posted');
        const form = new URLSearchParams(service.seen[1]?.body.toString());
        assert.equal(form.get('grant_type'), 'password');
        assert.equal(form.get('password'), 'hunter2');
        await rejectsWith(ask(undefined), status === 404 ? 'NOT_FOUND' : 'UNSUPPORTED');
      });
    }
  });

  const lives: readonly (readonly [string, object, number])[] = [
    ['nothing said', {}, 60], ['too short', { expires_in: 5 }, 60], ['as said', { expires_in: 300 }, 300], ['as text', { expires_in: '300' }, 300],
    ['negative', { expires_in: -1 }, 60], ['nonsense', { expires_in: 'soon' }, 60], ['huge', { expires_in: 1e12 }, 1e12],
    ['issued earlier', { expires_in: 300, issued_at: '2026-01-01T00:16:20Z' }, 280],
    ['issued in the future', { expires_in: 300, issued_at: '2027-01-01T00:00:00Z' }, 300],
    ['by a clock that is off', { expires_in: 300, issued_at: '2025-01-01T00:00:00Z' }, 300],
    ['at no date', { expires_in: 300, issued_at: 'x' }, 300],
  ];
  for (const [name, fields, seconds] of lives) {
    it(`lives as long as it should: ${name}`, async () => {
      await withService((_, response) => json(response, { token: 't', ...fields }), async ({ ask, clock }) => {
        const token = await ask(undefined);
        assert.equal((token.expiresAt - clock.now()) / 1000, seconds);
      });
    });
  }

  it('is replaced before it expires', () => {
    const token = (life: number): Parameters<typeof isNearExpiry>[0] => ({ value: 't', receivedAt: 0, expiresAt: life, refreshToken: undefined });
    assert.equal(isNearExpiry(token(60_000), 49_000), false);
    assert.equal(isNearExpiry(token(60_000), 51_000), true);
    assert.equal(isNearExpiry(token(1_000_000), 899_000), false);
    assert.equal(isNearExpiry(token(1_000_000), 901_000), true);
  });

  it('fails without showing secrets', async () => {
    const echo: Answer = ({ headers, body }, response) => json(response, { errors: [{ code: 'UNAUTHORIZED', message: `bad ${headers.authorization ?? ''} ${body.toString()}` }] }, 401);
    await withService(echo, async ({ ask }) => {
      for (const credential of [basic, identity]) {
        await assert.rejects(ask(credential), (error: Error) => {
          assert.match(error.message, /the token service refused: (GET|POST) answered 401/);
          assert.doesNotMatch(error.message, /hunter2|bWU6aHVudGVyMg/);
          return true;
        });
      }
    });
  });

  it('takes no nonsense for a token', async () => {
    for (const [type, text] of [['text/html', '<html>log in</html>'], ['application/json', '{"token":""}'], ['application/json', '{"token":5}'], ['application/json', 'null'], ['application/json', '{"token":"a\\r\\nb"}']] as const) {
      await withService((_, response) => response.writeHead(200, { 'content-type': type }).end(text), async ({ ask }) => rejectsWith(ask(undefined), 'UNAUTHORIZED', /token/));
    }
    await withService((_, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(), async ({ ask }) => rejectsWith(ask(basic), 'NETWORK', /302/));
    await withService((_, response) => response.end(Buffer.alloc(2_000_000, 0x20)), async ({ ask }) => rejectsWith(ask(undefined), 'LIMIT'));
  });
});

describe('Authorizer', () => {
  const count: () => Answer = () => {
    let n = 0;
    return (_, response) => json(response, { token: `t${++n}`, expires_in: 300 });
  };

  it('shows nothing before it is asked', async () => {
    await withService(count(), async ({ authorizer, service }) => {
      assert.equal(await authorizer({ lookup: async () => basic }).header(['repository:a:pull']), undefined);
      assert.equal(service.seen.length, 0);
    });
  });

  it('puts the newly demanded scope first and remembers what was granted', async () => {
    await withService(count(), async ({ authorizer, challenge, service }) => {
      const one = authorizer();
      const scopes = (i: number): unknown => service.seen[i]?.url.searchParams.getAll('scope');
      assert.equal(await one.answer(challenge('repository:a:pull'), ['repository:a:pull'], undefined), 'Bearer t1');
      assert.deepEqual(scopes(0), ['repository:a:pull']);
      assert.equal(await one.header(['repository:a:pull']), 'Bearer t1');
      assert.equal(await one.header(['repository:a:pull,push']), 'Bearer t2');
      assert.deepEqual(scopes(1), ['repository:a:pull,push']);
      // The wider token serves the narrower need.
      assert.equal(await one.header(['repository:a:pull']), 'Bearer t2');
      assert.equal(await one.answer(challenge('repository:z:delete'), ['repository:a:pull'], 'Bearer t2'), 'Bearer t3');
      assert.deepEqual(scopes(2), ['repository:z:delete', 'repository:a:pull,push']);
    });
  });

  it('does not keep asking for what a passing request needed', async () => {
    await withService(count(), async ({ authorizer, challenge, service }) => {
      const one = authorizer();
      await one.answer(challenge(), ['repository:a:pull'], undefined);
      await one.header(['repository:a:pull,push', 'repository:b:pull'], true);
      assert.equal(await one.header(['repository:a:pull']), 'Bearer t1');
      assert.equal(service.seen.length, 2);
    });
  });

  it('asks once however many wait, and again before the token expires', async () => {
    await withService(count(), async ({ authorizer, challenge, clock, service }) => {
      const one = authorizer();
      await one.answer(challenge(), ['repository:a:pull'], undefined);
      clock.at += 269_000;
      assert.equal(await one.header(['repository:a:pull']), 'Bearer t1');
      clock.at += 2000;
      assert.deepEqual(await Promise.all([1, 2, 3].map(() => one.header(['repository:a:pull']))), ['Bearer t2', 'Bearer t2', 'Bearer t2']);
      assert.equal(service.seen.length, 2);
    });
  });

  it('gets another token when one is refused, for all who hold it', async () => {
    await withService(count(), async ({ authorizer, challenge, service }) => {
      const one = authorizer();
      const first = await one.answer(challenge(), ['repository:a:pull'], undefined);
      const again = await Promise.all([1, 2, 3].map(() => one.answer(challenge(), ['repository:a:pull'], first)));
      assert.deepEqual(again, ['Bearer t2', 'Bearer t2', 'Bearer t2']);
      assert.equal(service.seen.length, 2);
    });
  });

  it('drops an old token after a 403, a fresh one not', async () => {
    await withService(count(), async ({ authorizer, challenge, clock }) => {
      const one = authorizer();
      const used = await one.answer(challenge(), ['repository:a:pull'], undefined);
      assert.equal(one.dropStale(used), false);
      clock.at += 31_000;
      assert.equal(one.dropStale('Bearer other'), false);
      assert.equal(one.dropStale(used), true);
      assert.equal(await one.header(['repository:a:pull']), 'Bearer t2');
    });
  });

  it('looks the credentials up again when the token service refuses them', async () => {
    const answer: Answer = ({ headers }, response) => (headers.authorization === asBasic('me:fresh') ? json(response, { token: 'ok' }) : json(response, {}, 401));
    await withService(answer, async ({ authorizer, challenge }) => {
      const passwords = ['old', 'fresh'];
      let lookups = 0;
      const one = authorizer({ lookup: async () => ({ kind: 'basic', username: 'me', password: passwords[lookups++] ?? 'fresh' }) });
      assert.equal(await one.answer(challenge(), [], undefined), 'Bearer ok');
      assert.equal(lookups, 2);
      lookups = 0;
      const stuck = authorizer({ lookup: async () => (lookups++, { kind: 'basic', username: 'me', password: 'old' }) });
      await rejectsWith(stuck.answer(challenge(), [], undefined), 'UNAUTHORIZED', /token service refused/);
      assert.equal(lookups, 2);
    });
  });

  it('goes on with the refresh token it is given', async () => {
    const answer: Answer = ({ body }, response) => json(response, { token: new URLSearchParams(body.toString()).get('refresh_token') ?? '', refresh_token: 'second' });
    await withService(answer, async ({ authorizer, challenge }) => {
      const one = authorizer({ lookup: async () => ({ kind: 'identity', username: '', token: 'first' }) });
      const used = await one.answer(challenge(), [], undefined);
      assert.equal(used, 'Bearer first');
      assert.equal(await one.answer(challenge(), [], used), 'Bearer second');
    });
  });

  it('repeats what fails in passing', async () => {
    let n = 0;
    await withService((_, response) => (n++ < 2 ? json(response, {}, 503) : json(response, { token: 't' })), async ({ authorizer, challenge }) => {
      assert.equal(await authorizer().answer(challenge(), [], undefined), 'Bearer t');
    });
  });

  it('sends a registry token as it is', async () => {
    await withService(count(), async ({ authorizer, challenge, service }) => {
      const one = authorizer({ lookup: async () => ({ kind: 'registry', token: 'direct' }) });
      assert.equal(await one.answer(challenge(), [], undefined), 'Bearer direct');
      assert.equal(await one.answer(challenge(), [], 'Bearer direct'), undefined);
      assert.equal(service.seen.length, 0);
    });
  });

  it('answers Basic, prefers Bearer, and knows when it has nothing to say', async () => {
    await withService(count(), async ({ authorizer, challenge }) => {
      const one = authorizer({ lookup: async () => basic });
      assert.equal(await one.answer(['Basic realm="x"'], [], undefined), asBasic('me:hunter2'));
      assert.equal(await one.header([]), asBasic('me:hunter2'));
      assert.equal(await one.answer(['Basic realm="x"'], [], asBasic('me:hunter2')), undefined);
      assert.equal(await authorizer({ lookup: async () => basic }).answer(['Basic realm="x"', ...challenge()], [], undefined), 'Bearer t1');
      assert.equal(await authorizer().answer(['Basic realm="x"'], [], undefined), undefined);
      assert.equal(await authorizer({ lookup: async () => identity }).answer(['Basic realm="x"'], [], undefined), undefined);
      assert.equal(await authorizer({ lookup: async () => basic }).answer(['Negotiate', 'Bearer service="no realm"'], [], undefined), undefined);
      assert.equal(await authorizer().answer([], [], undefined), undefined);
    });
  });

  it('takes a second look at changed Basic credentials', async () => {
    await withService(count(), async ({ authorizer }) => {
      let n = 0;
      const one = authorizer({ lookup: async () => ({ kind: 'basic', username: 'me', password: `p${++n}` }) });
      const used = await one.answer(['Basic realm="x"'], [], undefined);
      assert.equal(used, asBasic('me:p1'));
      assert.equal(await one.answer(['Basic realm="x"'], [], used), asBasic('me:p2'));
    });
  });

  it('sends no secret to a token service it does not trust', async () => {
    await withService(count(), async ({ authorizer, challenge, service }) => {
      const one = authorizer({ registry: new URL('https://registry.example/'), lookup: async () => basic, resolve: async () => ['93.184.216.34'] });
      await rejectsWith(one.answer(challenge(), [], undefined), 'UNAUTHORIZED', /token service that is not trusted/);
      await rejectsWith(one.answer(['Bearer realm="not a url"'], [], undefined), 'UNAUTHORIZED', /no URL/);
      const inside = authorizer({ registry: new URL('https://registry.example/'), lookup: async () => basic, resolve: async (host) => [host === 'registry.example' ? '93.184.216.34' : '10.0.0.1'] });
      await rejectsWith(inside.answer(['Bearer realm="https://auth.example/token"'], [], undefined), 'UNAUTHORIZED', /private network/);
      assert.equal(service.seen.length, 0);
    });
  });
});

import { mkdtempSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates, TLSSocket } from 'node:tls';
import pg from 'pg';
import { afterEach, describe, expect, it, test, vi } from 'vitest';
import { conditionHolds } from './conninfo-attempts.ts';
import { clientConfigs, connectionAttempts, resolveConninfo } from './conninfo.ts';

const homeDir = mkdtempSync(join(tmpdir(), 'bdr-attempts-'));
const environment = { env: {}, homeDir, userName: 'me' };
const attempts = (text: string, random?: () => number) =>
  clientConfigs(resolveConninfo(text, environment), random);
const ways = (text: string) =>
  attempts(text).map(
    ({ config, onlyAfter, requires }) =>
      `${config.host} ${config.ssl ? 'tls' : 'plain'} ${requires} ${onlyAfter ?? 'first'}`,
  );

// A certificate of its own for db.example, good for a hundred years; and its key, which protects nothing.
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmDCCAT6gAwIBAgIUN+3BaUcZoBHIs2nHkO9N1gE6vPQwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKZGIuZXhhbXBsZTAgFw0yNjExMjMxNTQwMzNaGA8yMTI2MTAz
MDE1NDAzM1owFTETMBEGA1UEAwwKZGIuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABOg/+PixnkCQtcO5dZPbo6O4Qe2LcDzf8Oii15/5AK9dOpo9KY0y
stECCmS2bPlplCbn2TtsmVKDapH/qKrttZGjajBoMB0GA1UdDgQWBBQXGkoCx2zn
y7nhfkWhsGTlhK3dezAfBgNVHSMEGDAWgBQXGkoCx2zny7nhfkWhsGTlhK3dezAP
BgNVHRMBAf8EBTADAQH/MBUGA1UdEQQOMAyCCmRiLmV4YW1wbGUwCgYIKoZIzj0E
AwIDSAAwRQIhAKkGbpXHJuz1hONj28wdvivw8X29HpN+ntwKag8JOiLlAiB/hXHD
HL8ndComd7CanaDD6T7jedFG1EcT1eVKsIgjBg==
-----END CERTIFICATE-----
`;
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgaPfPIVpuy5UA/MgQ
Tu35bBzQuuLf5YGXFuPkXcV72LuhRANCAAToP/j4sZ5AkLXDuXWT26OjuEHti3A8
3/Dootef+QCvXTqaPSmNMrLRAgpktmz5aZQm59k7bJlSg2qR/6iq7bWR
-----END PRIVATE KEY-----
`;
const rootFile = join(homeDir, 'root.pem');
writeFileSync(rootFile, CERTIFICATE);

describe('clientConfigs', () => {
  test.each([
    ['host=h sslmode=disable', ['h plain any first']],
    ['host=h sslmode=allow', ['h plain any first', 'h tls any plain_refused']],
    ['host=h sslmode=prefer', ['h tls any first', 'h plain any tls_refused']],
    ['host=h', ['h tls any first', 'h plain any tls_refused']],
    ['host=h sslmode=require', ['h tls any first']],
    [`host=h sslmode=verify-ca sslrootcert=${rootFile}`, ['h tls any first']],
    [`host=h sslmode=verify-full sslrootcert=${rootFile}`, ['h tls any first']],
    ['host=/tmp sslmode=require', ['/tmp plain any first']],
    [
      'host=a,b',
      [
        'a tls any first',
        'a plain any tls_refused',
        'b tls any host_failed',
        'b plain any tls_refused',
      ],
    ],
    [
      'host=a,b sslmode=disable target_session_attrs=prefer-standby',
      [
        'a plain standby first',
        'b plain standby host_failed',
        'a plain any host_failed',
        'b plain any host_failed',
      ],
    ],
  ])('of %s tries %j', (text, expected) => {
    expect(ways(text)).toEqual(expected);
  });

  it('verifies the server as far as sslmode says, and whenever a root certificate is there', () => {
    const verifies = (text: string) => {
      const ssl = attempts(text).find(({ config }) => config.ssl)?.config.ssl;
      return typeof ssl === 'object' && ssl.rejectUnauthorized;
    };
    expect(['prefer', 'require'].map((mode) => verifies(`host=h sslmode=${mode}`))).toEqual([
      false,
      false,
    ]);
    for (const mode of ['allow', 'prefer', 'require', 'verify-ca', 'verify-full']) {
      expect(verifies(`host=h sslmode=${mode} sslrootcert=${rootFile}`)).toBe(true);
    }
  });

  it('shuffles the hosts where asked to', () => {
    const hosts = (random: () => number) =>
      attempts('host=a,b,c sslmode=disable load_balance_hosts=random', random).map(
        ({ config }) => config.host,
      );
    expect(hosts(() => 0.999)).toEqual(['a', 'b', 'c']);
    expect(hosts(() => 0)).toEqual(['b', 'c', 'a']);
  });

  it('connects to hostaddr and knows the server by its name', () => {
    const [attempt] = attempts(
      'host=db.example hostaddr=127.0.0.1 port=7 dbname=d sslmode=require',
    );
    expect(attempt?.describe).toBe('db.example:7/d as me');
    expect(attempt?.config).toMatchObject({ host: '127.0.0.1', ssl: { servername: 'db.example' } });
    const [silent] = attempts('host=db.example hostaddr=127.0.0.1 sslmode=require sslsni=0');
    expect(silent?.config.ssl).not.toHaveProperty('servername');
  });

  it('leaves the driver nothing to look up in the environment', () => {
    const names = [
      'HOST',
      'PORT',
      'USER',
      'DATABASE',
      'PASSWORD',
      'OPTIONS',
      'APPNAME',
      'SSLMODE',
      'SSLNEGOTIATION',
    ];
    for (const name of names) vi.stubEnv(`PG${name}`, name === 'SSLNEGOTIATION' ? 'direct' : '999');
    const { env } = { env: { PGOPTIONS: '999' } };
    const [attempt] = clientConfigs(
      resolveConninfo("host=h sslmode=disable options=''", { ...environment, env }),
    );
    const client = new pg.Client(attempt?.config) as pg.Client & Record<string, unknown>;
    expect(client).toMatchObject({
      host: 'h',
      port: 5432,
      user: 'me',
      database: 'me',
      ssl: false,
      sslNegotiation: 'postgres',
    });
    expect(typeof client['password']).toBe('function');
    expect((client as unknown as { getStartupConf(): unknown }).getStartupConf()).toEqual({
      user: 'me',
      database: 'me',
      application_name: 'pg-bdr',
      options: ' ',
    });
    vi.unstubAllEnvs();
  });
});

describe('connectionAttempts', () => {
  it('goes on to the next host unless a server turned us away', () => {
    const [, second] = connectionAttempts(resolveConninfo('host=a,b sslmode=disable', environment));
    const after = (code?: string) => second?.onlyAfter?.(Object.assign(new Error('x'), { code }));
    expect([after('ECONNREFUSED'), after('EPIPE'), after(), after('57P03')]).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect([after('28P01'), after('28000'), after('3D000')]).toEqual([false, false, false]);
  });

  it('asks the session what it is only where target_session_attrs says so', () => {
    const accepts = (text: string) =>
      connectionAttempts(resolveConninfo(text, environment)).map(
        (attempt) => attempt.accepts !== undefined,
      );
    expect(accepts('host=h sslmode=disable')).toEqual([false]);
    expect(accepts('host=h sslmode=disable target_session_attrs=prefer-standby')).toEqual([
      true,
      false,
    ]);
  });
});

/** A server that says `answer` to a request for TLS, and turns away everyone who then gets as far as to say who they are. */
async function fakeServer(answer: 'S' | 'N', sqlstate = '28000'): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.once('data', (first) => {
      const refuse = (to: NodeJS.WritableStream) => {
        const body = Buffer.from(`SFATAL\0C${sqlstate}\0Mturned away\0\0`);
        const head = Buffer.from([0x45, 0, 0, 0, body.length + 4]);
        to.end(Buffer.concat([head, body]));
      };
      if (first.readUInt32BE(4) !== 80877103) return refuse(socket);
      socket.write(answer);
      if (answer === 'N') return;
      const secure = new TLSSocket(socket, { isServer: true, cert: CERTIFICATE, key: KEY });
      secure.on('error', () => socket.destroy());
      secure.once('data', () => refuse(secure));
    });
  });
  closers.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** What the driver throws for each attempt. */
async function failures(text: string): Promise<unknown[]> {
  return Promise.all(
    attempts(text).map(async ({ config }) => {
      const client = new pg.Client(config);
      client.on('error', () => undefined);
      return client.connect().catch((error: unknown) => error);
    }),
  );
}

describe('the driver with these configurations', () => {
  const refused = expect.objectContaining({ code: '28000' }) as unknown;

  it('meets a server without TLS, and a plain attempt makes sense after that', async () => {
    const port = await fakeServer('N');
    const [first, second] = await failures(`host=127.0.0.1 port=${port}`);
    expect(second).toEqual(refused);
    expect(conditionHolds('tls_refused', first)).toBe(true);
    expect(conditionHolds('host_failed', second)).toBe(false);
  });

  it('meets a server that wants no TLS of this client', async () => {
    const port = await fakeServer('S');
    const [first] = await failures(`host=127.0.0.1 port=${port}`);
    expect(first).toEqual(refused);
    expect(conditionHolds('tls_refused', first)).toBe(true);
    expect(conditionHolds('plain_refused', first)).toBe(true);
  });

  it('does not go on without TLS when the server cannot be reached', async () => {
    const [first] = await failures('host=127.0.0.1 port=1');
    expect(conditionHolds('tls_refused', first)).toBe(false);
    expect(conditionHolds('host_failed', first)).toBe(true);
  });

  // What gets as far as to be turned away has accepted the certificate.
  test.each([
    ['sslmode=require', true],
    ['sslmode=verify-full sslrootcert=ROOT host=db.example', true],
    ['sslmode=verify-full sslrootcert=ROOT host=db.example sslsni=0', true],
    ['sslmode=verify-full sslrootcert=ROOT host=other.example', false],
    ['sslmode=verify-full sslrootcert=ROOT host=127.0.0.1', false],
    ['sslmode=verify-ca sslrootcert=ROOT host=other.example', true],
    ['sslmode=verify-full sslrootcert=system host=db.example', false],
    ['sslmode=require ssl_max_protocol_version=TLSv1.2', true],
  ])('with %s accepts the certificate: %s', async (text, accepted) => {
    const port = await fakeServer('S');
    const dsn = `hostaddr=127.0.0.1 port=${port} ${text.replace('ROOT', rootFile)}`;
    const [failure] = await failures(dsn);
    if (accepted) expect(failure).toEqual(refused);
    else expect(failure).not.toEqual(refused);
  });

  it('takes a certificate that does not verify for a refusal of TLS, where TLS is only preferred', async () => {
    const otherRoot = join(homeDir, 'other.pem');
    writeFileSync(otherRoot, rootCertificates[0] as string);
    const port = await fakeServer('S');
    const [first, second] = await failures(`host=127.0.0.1 port=${port} sslrootcert=${otherRoot}`);
    expect(first).not.toEqual(refused);
    expect(conditionHolds('tls_refused', first)).toBe(true);
    expect(second).toEqual(refused);
  });

  it('says so when the server wants a password and there is none', () => {
    const [attempt] = attempts('host=h sslmode=disable');
    const password = attempt?.config.password as () => string;
    expect(password).toThrow(expect.objectContaining({ code: '28P01' }) as Error);
  });
});

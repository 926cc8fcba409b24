import { chmodSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it, test } from 'vitest';
import { hostAddresses } from './conninfo-hosts.ts';
import { describeConninfo, resolveConninfo } from './conninfo.ts';

const homeDir = mkdtempSync(join(tmpdir(), 'bdr-home-'));
const outside = (env: Record<string, string> = {}) => ({
  env: { PGSYSCONFDIR: homeDir, ...env },
  homeDir,
  userName: 'me',
});
const resolve = (text: string, env?: Record<string, string>) => resolveConninfo(text, outside(env));
const refusal = (message: string | RegExp) =>
  expect.objectContaining({
    code: 'invalid_dsn',
    message: message instanceof RegExp ? (expect.stringMatching(message) as string) : message,
  }) as Error;

describe('resolveConninfo', () => {
  it('fills in the defaults of libpq', () => {
    expect(resolve('host=h')).toMatchObject({
      user: 'me',
      database: 'me',
      hosts: [{ name: 'h', address: 'h', port: 5432 }],
      loadBalance: false,
      targetSessionAttrs: 'any',
      tls: { mode: 'prefer', direct: false },
      channelBinding: true,
      connectTimeoutMs: 0,
      keepAlive: true,
      keepAliveIdleMs: 0,
      options: '',
      applicationName: 'pg-bdr',
      warnings: [],
    });
    expect(resolve('host=h user=u').database).toBe('u');
  });

  it('takes from the environment what the string leaves open', () => {
    const env = {
      PGHOST: 'eh',
      PGPORT: '1',
      PGUSER: 'eu',
      PGDATABASE: 'ed',
      PGPASSWORD: 'epw',
      PGOPTIONS: '-c a=b',
      PGAPPNAME: 'ea',
      PGCONNECT_TIMEOUT: '7',
      PGSSLMODE: 'disable',
      PGTARGETSESSIONATTRS: 'primary',
      PGLOADBALANCEHOSTS: 'random',
    };
    const taken = resolve('', env);
    expect(taken).toMatchObject({
      user: 'eu',
      database: 'ed',
      hosts: [{ name: 'eh', port: 1 }],
      options: '-c a=b',
      applicationName: 'ea',
      connectTimeoutMs: 7000,
      tls: { mode: 'disable' },
      targetSessionAttrs: 'primary',
      loadBalance: true,
    });
    expect(taken.hosts[0]?.password()).toBe('epw');
    const given = resolve(
      'host=h port=2 user=u dbname=d password=pw application_name=a sslmode=require',
      env,
    );
    expect(describeConninfo(given)).toBe('h:2/d as u');
    expect(given).toMatchObject({ applicationName: 'a', tls: { mode: 'require' } });
    expect(given.hosts[0]?.password()).toBe('pw');
  });

  it('prefers a service to the environment, and the string to the service', () => {
    writeFileSync(join(homeDir, '.pg_service.conf'), '[s]\nhost=sh\nuser=su\ndbname=sd\n');
    expect(describeConninfo(resolve('service=s dbname=d', { PGUSER: 'eu', PGPORT: '3' }))).toBe(
      'sh:3/d as su',
    );
    expect(describeConninfo(resolve('', { PGSERVICE: 's' }))).toBe('sh:5432/sd as su');
    writeFileSync(join(homeDir, 'pg_service.conf'), '[system]\nhost=sys\n');
    expect(describeConninfo(resolve('service=system'))).toBe('sys:5432/me as me');
    writeFileSync(join(homeDir, 'mine'), '[s]\nhost=mine\n');
    expect(describeConninfo(resolve('service=s', { PGSERVICEFILE: join(homeDir, 'mine') }))).toBe(
      'mine:5432/me as me',
    );
    expect(() => resolve('service=none')).toThrow(
      refusal('definition of service "none" not found'),
    );
  });

  it('looks up each host in the password file', () => {
    const file = join(homeDir, '.pgpass');
    writeFileSync(
      file,
      'a:1:me:me:pa\nb:*:*:*:pb\n10.0.0.9:*:*:*:paddr\nlocalhost:*:*:*:plocal\n',
      { mode: 0o600 },
    );
    const passwords = (text: string, env?: Record<string, string>) =>
      resolve(text, env).hosts.map((host) => host.password());
    expect(passwords('host=a,b,c port=1')).toEqual(['pa', 'pb', undefined]);
    expect(passwords('hostaddr=10.0.0.9')).toEqual(['paddr']);
    expect(passwords('host=b hostaddr=10.0.0.9')).toEqual(['pb']);
    expect(passwords('host=/tmp')).toEqual(['plocal']);
    expect(passwords('host=/elsewhere')).toEqual([undefined]);
    expect(passwords("host=b password=''")).toEqual(['pb']);
    expect(passwords('host=b passfile=/nonexistent')).toEqual([undefined]);
    expect(passwords('host=b', { PGPASSFILE: '/nonexistent' })).toEqual([undefined]);
    chmodSync(file, 0o644);
    expect(resolve('host=a,b').warnings).toEqual([
      expect.stringContaining('group or world access'),
    ]);
    chmodSync(file, 0o600);
  });

  it('holds no secret that printing it would show', () => {
    const printed = inspect(resolve('host=h password=secret'), { depth: 9, showHidden: true });
    expect(printed + JSON.stringify(resolve('host=h password=secret'))).not.toContain('secret');
  });

  it('reads PGREQUIRESSL, as libpq still does', () => {
    expect(resolve('host=h', { PGREQUIRESSL: '1' }).tls.mode).toBe('require');
    expect(resolve('host=h', { PGREQUIRESSL: '1', PGSSLMODE: 'allow' }).tls.mode).toBe('allow');
  });

  it('keeps the driver from PGOPTIONS when the string overrides it with nothing', () => {
    expect(resolve("host=h options=''", { PGOPTIONS: '-c a=b' }).options).toBe(' ');
  });

  test.each([
    ['sslmode=foo', 'invalid sslmode value: "foo"'],
    ["sslmode=''", 'invalid sslmode value: ""'],
    ['target_session_attrs=x', 'invalid target_session_attrs value: "x"'],
    ['load_balance_hosts=x', 'invalid load_balance_hosts value: "x"'],
    ['port=0', 'invalid port number: "0"'],
    ['port=99999', 'invalid port number: "99999"'],
    ['port=1x', 'invalid integer value "1x" for connection option "port"'],
    ['port=1,2', 'could not match 2 port numbers to 1 hosts'],
    ['host=a,b,c port=1,2', 'could not match 2 port numbers to 3 hosts'],
    ['host=a hostaddr=1.1.1.1,1.1.1.2', 'could not match 1 host names to 2 hostaddr values'],
    ['hostaddr=zz', 'could not parse network address "zz"'],
    ['connect_timeout=x', 'invalid integer value "x" for connection option "connect_timeout"'],
    [
      'connect_timeout=99999999999',
      'invalid integer value "99999999999" for connection option "connect_timeout"',
    ],
    ['keepalives_count=x', 'invalid integer value "x" for connection option "keepalives_count"'],
    [
      'sslnegotiation=direct',
      'weak sslmode "prefer" may not be used with sslnegotiation=direct (use "require", "verify-ca", or "verify-full")',
    ],
    [
      'sslrootcert=system sslmode=require',
      'weak sslmode "require" may not be used with sslrootcert=system (use "verify-full")',
    ],
    ['ssl_min_protocol_version=x', 'invalid "ssl_min_protocol_version" value: "x"'],
    [
      'ssl_min_protocol_version=tlsv1.3 ssl_max_protocol_version=TLSv1.2',
      'invalid SSL protocol version range',
    ],
    ['min_protocol_version=3.1', 'invalid min_protocol_version value: "3.1"'],
    ['channel_binding=x', 'invalid channel_binding value: "x"'],
  ])('refuses %s in the words of libpq', (text, message) => {
    expect(() => resolve(`host=h ${text}`.replace(/host=h (host|hostaddr=z)/, '$1'))).toThrow(
      refusal(message),
    );
  });

  test.each([
    'channel_binding=require',
    'require_auth=scram-sha-256',
    'gssencmode=require',
    'sslcertmode=require',
    'min_protocol_version=3.2',
    'scram_client_key=x',
    'host=@abstract',
    'host=/tmp requirepeer=postgres',
  ])('refuses %s rather than ignore it', (text) => {
    expect(() => resolve(`host=h ${text}`)).toThrow(refusal(/is not supported by bdr$/));
  });

  it('takes what it may ignore', () => {
    const text =
      'host=h gssencmode=prefer krbsrvname=x gsslib=gssapi sslcompression=1 max_protocol_version=latest requirepeer=x replication=database keepalives_count=3';
    expect(describeConninfo(resolve(text))).toBe('h:5432/me as me');
  });

  it('needs a user, where the operating system names none', () => {
    expect(() => resolveConninfo('host=h', { ...outside(), userName: '' })).toThrow(
      refusal(/^no user name/),
    );
  });

  it('needs a root certificate to verify by, but only over TCP', () => {
    expect(() => resolve('host=h sslmode=verify-full')).toThrow(
      refusal(`root certificate file "${join(homeDir, '.postgresql', 'root.crt')}" does not exist`),
    );
    expect(resolve('host=/tmp sslmode=verify-full').tls.mode).toBe('verify-full');
    expect(resolve('host=h sslrootcert=system').tls.mode).toBe('verify-full');
  });

  it('refuses a private key that others may read', () => {
    mkdirSync(join(homeDir, 'tls'));
    const [cert, key] = [join(homeDir, 'tls', 'c.crt'), join(homeDir, 'tls', 'c.key')];
    writeFileSync(cert, 'x');
    expect(() => resolve(`host=h sslcert=${cert} sslkey=${key}`)).toThrow(
      refusal(`certificate present, but not private key file "${key}"`),
    );
    writeFileSync(key, 'x');
    chmodSync(key, 0o644);
    expect(() => resolve(`host=h sslcert=${cert} sslkey=${key}`)).toThrow(
      refusal(/has group or world access/),
    );
    chmodSync(key, 0o600);
    expect(() => resolve(`host=h sslcert=${cert} sslkey=${key}`)).toThrow(
      refusal(/^could not load private key/),
    );
    expect(resolve(`host=h sslcert=${cert} sslcertmode=disable`).user).toBe('me');
  });
});

describe('files for TLS', () => {
  const file = (name: string) => join(homeDir, name);
  const options = (text: string) => resolve(`host=h ${text}`).tls.options('h');

  it('loads an encrypted private key with sslpassword, and keeps no passphrase', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const pem = privateKey.export({
      format: 'pem',
      type: 'pkcs8',
      cipher: 'aes-256-cbc',
      passphrase: 'pp',
    });
    writeFileSync(file('enc.key'), pem, { mode: 0o600 });
    writeFileSync(file('enc.crt'), 'certificate');
    const text = `sslcert=${file('enc.crt')} sslkey=${file('enc.key')}`;
    expect(options(`${text} sslpassword=pp`)).toMatchObject({
      cert: 'certificate',
      key: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    });
    expect(options(`${text} sslpassword=pp`)).not.toHaveProperty('passphrase');
    expect(() => options(text)).toThrow(refusal(/^could not load private key file/));
    writeFileSync(file('enc.key'), privateKey.export({ format: 'der', type: 'sec1' }));
    expect(options(text).key).toBe(privateKey.export({ format: 'pem', type: 'pkcs8' }).toString());
  });

  it('hands over every list of a revocation file, which must be there if it was asked for', () => {
    const list = (name: string) => `-----BEGIN X509 CRL-----\n${name}\n-----END X509 CRL-----`;
    writeFileSync(file('root.crt'), 'root');
    writeFileSync(file('root.crl'), `${list('a')}\n${list('b')}\n`);
    const root = `sslrootcert=${file('root.crt')}`;
    expect(options(`${root} sslcrl=${file('root.crl')}`)).toMatchObject({
      ca: 'root',
      crl: [list('a'), list('b')],
    });
    mkdirSync(file('crls'));
    expect(() => options(`${root} sslcrldir=${file('crls')}`)).toThrow(
      refusal(/^no certificate revocation list/),
    );
    writeFileSync(join(file('crls'), 'x.r0'), list('c'));
    expect(options(`${root} sslcrldir=${file('crls')}`).crl).toEqual([list('c')]);
    expect(() => options(`${root} sslcrl=/nonexistent`)).toThrow(
      refusal(/^could not read certificate revocation list/),
    );
    expect(options(root)).not.toHaveProperty('crl');
  });
});

describe('hostAddresses', () => {
  const none = () => false;

  it('pairs hosts, addresses and ports', () => {
    expect(
      hostAddresses({ host: 'a,,c', hostaddr: '1.1.1.1,2.2.2.2,', port: '1,,3' }, none),
    ).toEqual([
      { name: 'a', address: '1.1.1.1', port: 1 },
      { name: '2.2.2.2', address: '2.2.2.2', port: 5432 },
      { name: 'c', address: 'c', port: 3 },
    ]);
    expect(hostAddresses({ host: 'a,b', port: '7' }, none).map(({ port }) => port)).toEqual([7, 7]);
  });

  it('finds the local server by its socket', () => {
    const at = (...paths: string[]) =>
      hostAddresses({ host: '', port: '7' }, (path) => paths.includes(path))[0]?.address;
    expect(at('/tmp/.s.PGSQL.7')).toBe('/tmp');
    expect(at('/tmp/.s.PGSQL.7', '/var/run/postgresql/.s.PGSQL.7')).toBe('/var/run/postgresql');
    expect(at('/tmp/.s.PGSQL.8')).toBe('localhost');
  });
});

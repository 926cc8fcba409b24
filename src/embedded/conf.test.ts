import { expect, test } from 'vitest';
import { formatConninfo, formatSettings, readNumber, replicationSettings } from './conf.ts';

test('settings are written so that PostgreSQL reads the same value', () => {
  const text = formatSettings({ a: 1, b: true, c: "it's C:\\pg" }, { a: 2 });
  expect(text.split('\n').slice(1)).toEqual(['a = 2', 'b = on', "c = 'it''s C:\\\\pg'", '']);
  expect(readNumber(text, 'a')).toBe(2);
  expect(readNumber(text, 'port')).toBe(undefined);
  expect(() => formatSettings({ a: 'x\nport = 1' })).toThrow(RangeError);
});

test('only 18 and later know the limit of replication origins', () => {
  expect(replicationSettings(18)).toHaveProperty('max_active_replication_origins');
  expect(replicationSettings(17)).not.toHaveProperty('max_active_replication_origins');
});

test('a connection string quotes what libpq would misread', () => {
  expect(formatConninfo({ host: '127.0.0.1', port: 5432, dbname: 'bdr_demo' })).toBe(
    'host=127.0.0.1 port=5432 dbname=bdr_demo',
  );
  expect(formatConninfo({ dbname: "a b'c\\d", password: '' })).toBe(
    "dbname='a b\\'c\\\\d' password=''",
  );
});

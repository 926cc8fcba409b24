import { describe, expect, test } from 'vitest';
import { BdrError } from '../base/errors.ts';
import { parseLsn } from '../base/lsn.ts';
import type { PgTime } from '../base/pg-time.ts';
import { describeError } from './describe-error.ts';
import { isFaultOfTransaction, withSkipHint } from './failed-transaction.ts';

const PROVIDER = { sysid: '7000', timeline: 1, dboid: 16384 };
const failed = { xid: 815, commitLsn: parseLsn('0/1D067E0'), commitTime: 7 as PgTime };
const CALL = `SET bdr.permit_unsafe_ddl_commands = on; SELECT bdr.skip_changes_upto('7000', 1, 16384, '0/1D067E0');`;

describe('isFaultOfTransaction', () => {
  const ofServer = (code: string) => Object.assign(new Error('no'), { code });

  test.each(['23514', '23505', '42P01', 'P0001', '22P02', '0A000', 'XX000'])(
    'says so of %s, which will come again',
    (code) => expect(isFaultOfTransaction(ofServer(code))).toBe(true),
  );

  test.each(['08006', '40P01', '40001', '53100', '53300', '55P03', '57014', '57P01', '58030'])(
    'does not say so of %s',
    (code) => expect(isFaultOfTransaction(ofServer(code))).toBe(false),
  );

  test('says so of our own errors only where a change does not fit', () => {
    expect(isFaultOfTransaction(new BdrError('apply_failed', { message: 'no' }))).toBe(true);
    expect(isFaultOfTransaction(new BdrError('clock_skew', { message: 'no' }))).toBe(false);
    expect(isFaultOfTransaction(new Error('no'))).toBe(false);
  });
});

describe('withSkipHint', () => {
  const report = (hint?: string) =>
    describeError(new BdrError('apply_failed', { message: 'no table', hint }));

  test('ends the hint with the call that skips the transaction', () => {
    const { hint } = withSkipHint(report('Create it.'), failed, PROVIDER);
    expect(hint).toBe(
      `Create it. Or skip transaction 815, which leaves the nodes different: ${CALL}`,
    );
    expect(withSkipHint(report(), failed, PROVIDER).hint).toContain(CALL);
  });

  test('changes nothing where no transaction is at fault', () => {
    expect(withSkipHint(report('Wait.'), null, PROVIDER)).toEqual(report('Wait.'));
  });
});

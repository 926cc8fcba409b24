import { CommanderError } from 'commander';
import { describe, expect, test } from 'vitest';
import { BdrError } from '../../base/errors.ts';
import { describeFailure, maskSecrets } from './errors.ts';

describe('describeFailure', () => {
  test('shows message, detail, hint and code of an error of ours, and exits with 1', () => {
    const error = new BdrError('slot_lost', {
      message: 'the slot is gone',
      detail: 'It was dropped.',
      hint: 'Join again.',
    });
    expect(describeFailure(error)).toEqual({
      text: [
        'bdr: the slot is gone',
        'DETAIL: It was dropped.',
        'HINT: Join again.',
        'CODE: slot_lost, SQLSTATE 55000',
      ].join('\n'),
      exitCode: 1,
    });
  });

  test('leaves out what an error does not have', () => {
    expect(describeFailure(new Error('boom'))).toEqual({ text: 'bdr: boom', exitCode: 1 });
    expect(describeFailure('boom')).toEqual({ text: 'bdr: boom', exitCode: 1 });
  });

  test('exits with 2 when the command line is wrong', () => {
    const { exitCode } = describeFailure(new BdrError('usage', { message: 'no such flag' }));
    expect(exitCode).toBe(2);
  });

  test('adds nothing to what commander has said, and takes help that was asked for as success', () => {
    const failed = new CommanderError(1, 'commander.unknownCommand', 'unknown command');
    expect(describeFailure(failed)).toEqual({ text: '', exitCode: 2 });
    const asked = new CommanderError(0, 'commander.helpDisplayed', '(outputHelp)');
    expect(describeFailure(asked)).toEqual({ text: '', exitCode: 0 });
  });

  test('says who may do it when the server denies permission', () => {
    const error = Object.assign(new Error('permission denied for table bdr_nodes'), {
      code: '42501',
    });
    expect(describeFailure(error).text).toBe(
      'bdr: permission denied for table bdr_nodes\nHINT: Connect as a superuser.\nCODE: SQLSTATE 42501',
    );
  });

  test('shows the stack, of the cause too, only for debugging', () => {
    const error = new Error('outer', { cause: new Error('inner') });
    expect(describeFailure(error).text).not.toContain('errors.test.ts');
    const { text } = describeFailure(error, true);
    expect(text).toContain('errors.test.ts');
    expect(text).toContain('caused by\nError: inner');
  });
});

describe('maskSecrets', () => {
  test.each([
    ['host=a password=geheim user=b', 'host=a password=*** user=b'],
    [`password = 'ge heim\\' x' user=b`, 'password = *** user=b'],
    ['postgresql://u:geheim@host/db', 'postgresql://u:***@host/db'],
    ['postgres://u:ge/h:eim@host', 'postgres://u:***@host'],
    ['postgresql://host/db?password=geheim&user=b', 'postgresql://host/db?password=***&user=b'],
    [
      `error: unknown option '--dns=postgres://u:pw@h'`,
      `error: unknown option '--dns=postgres://u:***@h'`,
    ],
  ])('masks %s', (text, masked) => {
    expect(maskSecrets(text)).toBe(masked);
  });

  test('leaves other text alone', () => {
    const text = 'password authentication failed for user "a" at postgresql://h:5432/db, see a@b.c';
    expect(maskSecrets(text)).toBe(text);
  });
});

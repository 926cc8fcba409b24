import { expect, test } from 'vitest';
import { commentLines } from './sql-comments.ts';

const found = (sql: string, backslashEscapes = false) =>
  commentLines(sql, backslashEscapes).map(({ start, end }) => sql.slice(start, end));

test('comments between statements are found, each line by itself', () => {
  expect(found('--\n-- Name: a\n--\n\nselect 1;\n-- end')).toEqual([
    '--',
    '-- Name: a',
    '--',
    '-- end',
  ]);
});

test('a comment behind a statement is none that begins a line, and hides a quote', () => {
  expect(found("select 1; -- it's\n-- here")).toEqual(['-- here']);
});

test.each([
  ['a string', "select 'a\n-- no\n';"],
  ['a string with doubled quotes', "select 'it''s\n-- no\n''';"],
  ['a string that ends with a backslash', "select 'a\\', '\n-- no\n';"],
  ['an escape string', "select E'a\\'\n-- no\n', e'\\\\', E'''\n-- no\n';"],
  ['a quoted name', 'select "a""\n-- no\n";'],
  ['a dollar quote', "select $$ ' \n-- no\n $$;"],
  ['a tagged dollar quote', 'select $_x1$ $$ $_x$ \n-- no\n $_x1$;'],
  ['a tag that is not ASCII', 'select $ü$ $$ \n-- no\n $ü$;'],
  ['a nested block comment', "/* ' /* \n-- no\n */ \n-- no\n */"],
])('%s hides what it holds, and no more', (_, sql) => {
  expect(found(`${sql}\n-- yes`)).toEqual(['-- yes']);
});

test('a type name that ends in E does not make an escape string', () => {
  expect(found("select date'\\'\n-- yes")).toEqual(['-- yes']);
});

test('a dollar sign in a name or a parameter opens nothing', () => {
  expect(found('select a$b$c, $1 + $2\n-- yes')).toEqual(['-- yes']);
});

test('backslashes escape in every string where the script says so', () => {
  expect(found("select 'a\\'\n-- no\n';\n-- yes", true)).toEqual(['-- yes']);
});

test('a text that ends within quotes ends the search', () => {
  for (const open of ["'", '"', '$$', '$a$', '/*', "E'"])
    expect(found(`-- yes\n${open}\n-- no`)).toEqual(['-- yes']);
});

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { WORKLOAD_NAMES } from '../bench/workloads/all.ts';
import { ERROR_CODES } from '../src/base/errors.ts';
import { program } from '../src/cli/program.ts';

// The test about the code itself: which folder may import which, who alone may touch what, what must be documented.

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Import only from a lower layer; on the same layer only inside one's own folder. */
const LAYERS: Readonly<Record<string, number>> = {
  base: 0,
  pgoutput: 1,
  model: 1,
  postgres: 2,
  config: 2,
  conflict: 2,
  ddl: 2,
  embedded: 2,
  catalog: 3,
  lock: 4,
  receive: 4,
  apply: 4,
  snapshot: 4,
  membership: 5,
  node: 6,
  demo: 7,
  cli: 8,
};

/** What only certain files may do: a pattern in the code, and the paths where it is allowed. */
const ONLY_HERE: readonly { what: string; pattern: RegExp; where: RegExp }[] = [
  { what: 'the driver', pattern: /from 'pg'/, where: /^src\/postgres\// },
  { what: 'process.env', pattern: /process\.env/, where: /^src\/config\// },
  {
    what: 'the console',
    pattern: /console\.|process\.stdout|process\.stderr/,
    where: /^src\/cli\//,
  },
  {
    what: 'the parser of SQL',
    pattern: /import\('libpg-query'\)/,
    where: /^src\/ddl\/parser\.ts$/,
  },
  { what: 'the log library', pattern: /from 'pino/, where: /^src\/cli\/log\.ts$/ },
  {
    what: 'clock, chance and timers in a pure folder',
    pattern: /Date\.now\(|Math\.random\(|setTimeout\(|process\.|performance\./,
    where: /^src\/(?!(pgoutput|model|conflict)\/)/,
  },
  {
    // The demo does what a user does; texts for people say what they may type.
    what: 'SQL on the tables of schema bdr',
    pattern: /\b(FROM|INTO|UPDATE|JOIN|TABLE) bdr\.\w+\b(?!\()/,
    where: /^src\/(catalog|demo|cli)\/|^src\/node\/doctor-/,
  },
];

function files(folder: string, extension: string): string[] {
  return readdirSync(join(ROOT, folder)).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(join(ROOT, path)).isDirectory()) return files(path, extension);
    return name.endsWith(extension) ? [path] : [];
  });
}

const sources = files('src', '.ts').filter((path) => !path.endsWith('.test.ts'));
const tests = [...files('src', '.test.ts'), ...files('test', '.ts')];
const text = new Map(
  [...sources, ...tests].map((path) => [path, readFileSync(join(ROOT, path), 'utf8')]),
);
const code = (path: string) => text.get(path) ?? '';
const page = (path: string) => readFileSync(join(ROOT, path), 'utf8');

function importsOf(path: string): string[] {
  const imports = /(?:from|import)\s*\(?\s*'(\.[^']+)'/g;
  // The program of a thread, beside who starts it, by the name that it has once it is built.
  const programs = /new URL\('(\.\/[^']+)\.js', import\.meta\.url\)/g;
  return [
    ...[...code(path).matchAll(imports)].map((match) => match[1] ?? ''),
    ...[...code(path).matchAll(programs)].map((match) => `${match[1]}.ts`),
  ].map((target) => relative(ROOT, resolve(ROOT, dirname(path), target)));
}

function folderOf(path: string): string {
  return path.split('/')[1] ?? '';
}

// Databases of some encodings (EUC_JP, EUC_KR, EUC_CN) take no other characters in what CREATE EXTENSION reads.
test('the SQL of the extension is ASCII', () => {
  const wrong = files('sql', '.sql').filter((path) =>
    /[^\t\n -~]/.test(readFileSync(join(ROOT, path), 'utf8')),
  );
  expect(wrong).toEqual([]);
});

describe('imports', () => {
  test('point to a lower layer, or stay inside the folder', () => {
    const wrong = sources
      .filter((path) => path !== 'src/index.ts')
      .flatMap((path) =>
        importsOf(path)
          .filter((target) => {
            const from = folderOf(path);
            const to = folderOf(target);
            if (from === to) return false;
            const [layer, other] = [LAYERS[from], LAYERS[to]];
            return layer === undefined || other === undefined || other >= layer;
          })
          .map((target) => `${path} imports ${target}`),
      );
    expect(wrong).toEqual([]);
  });

  test('form no cycle', () => {
    const done = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, trail: readonly string[]) => {
      if (trail.includes(path))
        return cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '));
      if (done.has(path)) return;
      for (const target of importsOf(path)) visit(target, [...trail, path]);
      done.add(path);
    };
    for (const path of sources) visit(path, []);
    expect(cycles).toEqual([]);
  });

  test('never come from the tests, and leave no file that nobody uses', () => {
    const used = new Set(sources.flatMap(importsOf));
    expect([...used].filter((path) => path.startsWith('test'))).toEqual([]);
    const roots = ['src/index.ts', 'src/cli/main.ts'];
    expect(sources.filter((path) => !used.has(path) && !roots.includes(path))).toEqual([]);
  });
});

describe('code', () => {
  test('does certain things in certain places only', () => {
    const wrong = ONLY_HERE.flatMap(({ what, pattern, where }) =>
      sources
        .filter((path) => !where.test(path) && pattern.test(withoutComments(code(path))))
        .map((path) => `${what}: ${path}`),
    );
    expect(wrong).toEqual([]);
  });

  test('has no test that is switched off by hand, or that others are switched off for', () => {
    const switched = /\b(?:test|it|describe)\.(?:only|skip|todo)\(/;
    expect(
      tests.filter((path) => switched.test(code(path)) && path !== 'test/tidy.test.ts'),
    ).toEqual([]);
  });

  test('has no folder for everything', () => {
    const folders = new Set(sources.map(folderOf));
    for (const name of ['utils', 'common', 'helpers', 'types', 'lib'])
      expect(folders).not.toContain(name);
  });
});

describe('documentation', () => {
  test('explains every error code', () => {
    const errors = page('docs/reference/errors.md');
    expect(Object.keys(ERROR_CODES).filter((name) => !errors.includes(`\`${name}\``))).toEqual([]);
  });

  test('names every command of the command line', () => {
    const cli = page('docs/reference/cli.md');
    const names = program().commands.map((command) => command.name());
    expect(names.filter((name) => !cli.includes(`bdr ${name}`))).toEqual([]);
  });

  test('explains every workload of the bench', () => {
    const benchmark = page('docs/benchmark.md');
    expect(WORKLOAD_NAMES.filter((name) => !benchmark.includes(`| \`${name}\` |`))).toEqual([]);
  });

  test('names every function, table and view of schema bdr', () => {
    const reference = page('docs/reference/sql.md');
    const sql = files('sql', '.sql').map(page).join('\n');
    const made = [
      ...sql.matchAll(/CREATE (?:OR REPLACE )?(?:FUNCTION|VIEW|TABLE|TYPE) bdr\.(\w+)/g),
    ].map((match) => match[1] ?? '');
    expect(made.length).toBeGreaterThan(30);
    const missing = made.filter(
      (name) => !name.startsWith('internal_') && !reference.includes(name),
    );
    expect(missing).toEqual([]);
  });

  test('names every setting', () => {
    const reference = page('docs/reference/config.md');
    const all = [...sources.map(code), ...files('sql', '.sql').map(page)].join('\n');
    const settings = new Set(
      [...all.matchAll(/current_setting\('(bdr\.\w+)'/g)].map((match) => match[1] ?? ''),
    );
    expect([...settings].filter((name) => !reference.includes(name))).toEqual([]);
  });
});

test('SQL means the same whatever standard_conforming_strings of a session is', () => {
  // The bodies of functions are read with it, unless they set it.
  const pieces = files('sql', '.sql').flatMap((file) =>
    page(file)
      .split(/(?=CREATE OR REPLACE FUNCTION)/)
      .filter((piece) => !piece.includes('SET standard_conforming_strings = on'))
      .map((piece) =>
        piece
          .replaceAll(/\$re\$[^]*?\$re\$/g, '')
          .replaceAll(/--.*$/gm, '')
          .replaceAll(/\bE'(?:[^'\\]|\\[^]|'')*'/g, ''),
      ),
  );
  expect(pieces.length).toBeGreaterThan(200);
  const literals = pieces.flatMap((piece) => [...piece.matchAll(/'(?:[^']|'')*'/g)]);
  expect(literals.map(([text]) => text).filter((text) => text.includes('\\'))).toEqual([]);
});

function withoutComments(source: string): string {
  return source.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/^\s*\/\/.*$/gm, '');
}

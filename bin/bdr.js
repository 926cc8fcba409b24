#!/usr/bin/env node
// Runs the built command line. In a clone that is not built yet, `npm start` or `npm run build` builds it.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (!existsSync(fileURLToPath(main))) {
  console.error('bdr is not built yet: run "npm run build" (or "npm start") in this folder first.');
  process.exit(1);
}
await import(main.href);

import { fileURLToPath } from 'node:url';

// The bench is compiled to dist-bench/bench, the sources that it uses to dist-bench/src; what it measures is the built dist/.
const ROOT = new URL('../../', import.meta.url);

export const PACKAGE_DIR = fileURLToPath(ROOT);

/** The command line, as it is shipped; the agents run it. */
export const BDR_PROGRAM = fileURLToPath(new URL('bin/bdr.js', ROOT));

/** The two files of extension bdr. */
export const EXTENSION_DIR = fileURLToPath(new URL('dist/extension', ROOT));

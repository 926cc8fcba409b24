import { fileURLToPath } from 'node:url';

// Chaos is compiled to dist-chaos/test/chaos, the sources that it uses beside it; what is tried is the built dist/.
const ROOT = new URL('../../../', import.meta.url);

/** The command line, as it is shipped; the agents run it. */
export const BDR_PROGRAM = fileURLToPath(new URL('bin/bdr.js', ROOT));

/** The two files of extension bdr. */
export const EXTENSION_DIR = fileURLToPath(new URL('dist/extension', ROOT));

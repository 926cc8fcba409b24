import { describeFailure } from './output/errors.ts';
import { program } from './program.ts';

// Whoever reads our output may stop reading: "bdr status | head".
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

const bdr = program();
try {
  await bdr.parseAsync(process.argv);
} catch (error) {
  const { text, exitCode } = describeFailure(error, bdr.opts<{ debug?: true }>().debug);
  if (text !== '') console.error(text);
  process.exitCode = exitCode;
}

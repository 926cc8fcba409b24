import { expect, test } from 'vitest';
import { openSession } from '../../test/support/agents.ts';
import { until } from '../../test/support/cluster.ts';
import { FAKETIME, FakeClock, UNLESS_FAKETIME } from '../../test/support/fake-clock.ts';
import { startServer } from '../../test/support/servers.ts';
import type { Logger } from '../base/logger.ts';
import { install } from '../catalog/install.ts';
import { readSqlFiles } from '../catalog/sql-files.ts';
import { readEnvironment } from '../config/environment.ts';
import { sqlDir } from '../config/paths.ts';
import { resolveConninfo } from '../postgres/conninfo.ts';
import { isOnThisMachine } from '../postgres/server-facts.ts';
import { Heartbeats } from './heartbeats.ts';

test.skipIf(!FAKETIME)(
  `a short step of the clock that cannot be noted is noted once it can${UNLESS_FAKETIME}`,
  async () => {
    using clock = new FakeClock('heartbeats');
    await using server = await startServer({ environment: clock.environment });
    await using user = await openSession(server);
    await install(user, readSqlFiles(sqlDir()));
    expect(await isOnThisMachine(user)).toBe(true);
    await user.script(
      'SELECT bdr.internal_renew_secret(); ALTER TABLE bdr.bdr_clock_steps RENAME TO hidden',
    );

    const warnings: string[] = [];
    const ignore = () => {};
    const log: Logger = {
      debug: ignore,
      info: ignore,
      warn: ({ sqlstate }, text) =>
        warnings.push(sqlstate === undefined ? text : `${text}: ${JSON.stringify(sqlstate)}`),
      error: ignore,
      child: () => log,
    };
    let beats = 0;
    const heartbeats = new Heartbeats(resolveConninfo(server.dsn(), readEnvironment()), log, () => {
      beats += 1;
      return {};
    });
    heartbeats.start();
    try {
      await until('heartbeats', async () => beats > 3, 20_000);
      expect(warnings).toEqual([]);
      clock.shift(-0.6);
      await until('the step to be noticed', async () => warnings.length > 0, 20_000);
      expect(warnings[0]).toBe('heartbeats are interrupted: "42P01"');
      await user.script('ALTER TABLE bdr.hidden RENAME TO bdr_clock_steps');
      const steps = () =>
        user.query<{ was: string }>(
          `SELECT clock_was - clock_is BETWEEN interval '0.5 s' AND interval '0.7 s' AS was FROM bdr.bdr_clock_steps`,
        );
      await until('the step to be noted', async () => (await steps()).length > 0, 20_000);
      expect(await steps()).toEqual([{ was: 't' }]);
    } finally {
      await heartbeats.stop();
    }
  },
);

import { expect, test } from 'vitest';
import { LONG_AGO, type PgTime } from '../base/pg-time.ts';
import { GroupPatience } from './group-patience.ts';

const at = (time: number) => time as PgTime;

/** A node whose heartbeats are written when they are asked for, and what they move on. */
class Model {
  own = LONG_AGO;
  heard = LONG_AGO;
  /** The least of the other links. */
  others = at(Infinity);
  watermark = at(0);
  asked = 0;
  onBeat: () => void = () => undefined;

  readonly patience = new GroupPatience(
    {
      groupLimit: () => at(Math.min(this.own, this.others)),
      ownLimit: () => this.own,
      ownHeard: () => this.heard,
      onOwnBehind: () => {
        this.asked += 1;
        this.onBeat();
      },
    },
    () => this.watermark,
  );

  wait = (time: number) => this.patience.wait(at(time), new AbortController().signal);
}

test('what may be grouped is not waited for', async () => {
  const model = new Model();
  model.own = at(5);
  await model.wait(5);
  expect(model.asked).toBe(0);
});

test('a heartbeat is asked for, and waited for until it has moved the own stream on', async () => {
  const model = new Model();
  model.onBeat = () => {
    model.heard = at(10 * model.asked);
    if (model.asked === 3) model.own = at(29);
  };
  await model.wait(25);
  expect(model.asked).toBe(3);
});

test('heartbeats that move nothing on tell of somebody who writes for long: nobody waits again before it moves', async () => {
  const model = new Model();
  model.onBeat = () => {
    model.heard = at(10 + model.asked);
  };
  await model.wait(5);
  const { asked } = model;
  expect(asked).toBe(4);
  for (const _ of ['at once', 'and later']) await model.wait(6);
  expect(model.asked).toBe(asked);
});

test('heartbeats of before count for nothing', async () => {
  const model = new Model();
  model.heard = at(4);
  model.onBeat = () => {
    if (model.asked === 6) model.own = at(5);
  };
  await model.wait(5);
  expect(model.asked).toBe(6);
});

test('a link that is last waits for no other one, whoever is behind', async () => {
  const model = new Model();
  Object.assign(model, { own: at(9), others: at(3), watermark: at(3) });
  await model.wait(5);
  // Whoever has waited in vain would ask nobody for a while.
  model.own = LONG_AGO;
  model.onBeat = () => {
    model.own = at(5);
    model.others = at(5);
  };
  await model.wait(5);
  expect(model.asked).toBe(1);
});

test('a wait ends when the link does', async () => {
  const ended = new AbortController();
  const model = new Model();
  model.onBeat = () => ended.abort(new Error('ended'));
  await expect(model.patience.wait(at(5), ended.signal)).rejects.toThrow('ended');
});

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { copyBytes, viewOf } from './copy-bytes.ts';

test('copies any range to any place, and touches nothing else', () => {
  const bytes = fc.uint8Array({ maxLength: 1200, size: 'max' });
  fc.assert(
    fc.property(bytes, fc.nat(40), fc.nat(40), fc.nat(9), (data, skipped, left, at) => {
      const from = Math.min(skipped, data.length);
      const to = Math.max(data.length - left, from);
      // Both in the middle of larger memory, as buffers of a pool are.
      const source = Buffer.concat([Buffer.from('before'), data, Buffer.from('behind')]);
      const target = Buffer.alloc(at + to - from + 7, 0xaa).subarray(1);
      const view = viewOf(source.subarray(6, 6 + data.length));

      const end = copyBytes(view, from, to, viewOf(target), at);

      expect(end).toBe(at + to - from);
      expect(target.subarray(at, end).equals(data.subarray(from, to))).toBe(true);
      expect([...target.subarray(0, at), ...target.subarray(end)].every((b) => b === 0xaa)).toBe(
        true,
      );
    }),
  );
});

import { colors } from './colors.ts';
import type { Finding, FindingLevel } from '../../node/finding.ts';
import { oneLine } from './table.ts';

const MARKS: Readonly<Record<FindingLevel, { sign: string; colour: (text: string) => string }>> = {
  ok: { sign: '✓', colour: colors.green },
  note: { sign: '·', colour: colors.dim },
  warning: { sign: '!', colour: colors.yellow },
  error: { sign: '✗', colour: colors.red },
};

const SUBJECTS = ['server', 'database', 'node'] as const;

/** The lines of `bdr doctor`: what is fine, what is not, and under each what mends it. */
export function drawFindings(findings: readonly Finding[]): string[] {
  const lines: string[] = [];
  for (const subject of SUBJECTS) {
    const about = findings.filter((finding) => finding.about === subject);
    if (about.length === 0) continue;
    lines.push(...(lines.length > 0 ? [''] : []), colors.bold(subject));
    for (const { level, message, fix } of about) {
      const { sign, colour } = MARKS[level];
      lines.push(`  ${colour(sign)} ${oneLine(message)}`);
      for (const line of fix?.split('\n') ?? []) lines.push(`      ${colors.cyan(oneLine(line))}`);
    }
  }
  return [...lines, '', summary(findings)];
}

/** `2 errors, 1 warning` */
function summary(findings: readonly Finding[]): string {
  const count = (level: FindingLevel) =>
    findings.filter((finding) => finding.level === level).length;
  const errors = count('error');
  const warnings = count('warning');
  const parts = [
    ...(errors > 0 ? [colors.red(`${errors} must be mended`)] : []),
    ...(warnings > 0 ? [colors.yellow(`${warnings} should be looked at`)] : []),
  ];
  return parts.length > 0 ? parts.join(', ') : colors.green('all is well');
}

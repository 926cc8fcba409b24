/** The text of a PostgreSQL array: `{a,"b c",NULL}`. Every value is quoted, so that none can be read as anything else. */
export function textArray(values: readonly (string | null)[]): string {
  const elements = values.map((value) =>
    value === null ? 'NULL' : `"${value.replaceAll(/[\\"]/g, '\\$&')}"`,
  );
  return `{${elements.join(',')}}`;
}

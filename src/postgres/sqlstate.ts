/** SQLSTATEs that the code asks for, by PostgreSQL's names (manual, appendix A). */
export const SQLSTATE = {
  connectionException: '08000',
  sqlClientUnableToEstablish: '08001',
  connectionDoesNotExist: '08003',
  connectionFailure: '08006',
  featureNotSupported: '0A000',
  invalidParameterValue: '22023',
  foreignKeyViolation: '23503',
  uniqueViolation: '23505',
  serializationFailure: '40001',
  deadlockDetected: '40P01',
  invalidPassword: '28P01',
  invalidAuthorization: '28000',
  insufficientPrivilege: '42501',
  undefinedTable: '42P01',
  undefinedColumn: '42703',
  undefinedFunction: '42883',
  undefinedObject: '42704',
  duplicateObject: '42710',
  invalidCatalogName: '3D000',
  invalidSchemaName: '3F000',
  objectNotInPrerequisiteState: '55000',
  objectInUse: '55006',
  inFailedTransaction: '25P02',
  lockNotAvailable: '55P03',
  queryCanceled: '57014',
  adminShutdown: '57P01',
  crashShutdown: '57P02',
  cannotConnectNow: '57P03',
  tooManyConnections: '53300',
  configurationLimitExceeded: '53400',
  diskFull: '53100',
  /** Ours: raised by bdr.internal_look_again(). */
  lookAgain: 'BDR01',
} as const;

export type Sqlstate = (typeof SQLSTATE)[keyof typeof SQLSTATE];

/** The SQLSTATE of an error that a server sent; undefined for any other error. */
export function sqlstateOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  const { code } = error;
  // Every SQLSTATE has a digit, unlike EPIPE.
  return typeof code === 'string' && /^(?=.*\d)[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

export function hasSqlstate(error: unknown, ...states: readonly Sqlstate[]): boolean {
  const state = sqlstateOf(error);
  return state !== undefined && (states as readonly string[]).includes(state);
}

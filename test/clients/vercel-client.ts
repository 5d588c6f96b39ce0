/** As much of the types of `@vercel/client` as the test uses: the package is not installed with Mayfly's own. */
export declare function createDeployment(
  options: {
    readonly token: string;
    readonly apiUrl: string;
    readonly path: string;
    readonly teamId?: string;
    readonly debug?: boolean;
    readonly skipAutoDetectionConfirmation?: boolean;
  },
  deployment: Readonly<Record<string, unknown>>,
): AsyncIterable<{ readonly type: string; readonly payload: unknown }>;

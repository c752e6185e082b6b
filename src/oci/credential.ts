/** What a registry may be shown. */
export type Credential =
  /** For Basic, and for asking a token service. */
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  /** An OAuth refresh token for the token service. */
  | { readonly kind: 'identity'; readonly username: string; readonly token: string }
  /** Sent to the registry as it is. */
  | { readonly kind: 'registry'; readonly token: string };

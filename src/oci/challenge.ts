/** One demand of a `WWW-Authenticate` header. */
export interface Challenge {
  /** Lower-case. */
  readonly scheme: string;
  /** Names are lower-case; the first of equal names counts. */
  readonly parameters: ReadonlyMap<string, string>;
}

const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const SPACE = /[ \t]*/y;
/** Also `/`, `:` and `=`: real servers forget the quotes around a realm, and token68 values end in `=`. */
const LOOSE = /[^\s,"]+/y;

/**
 * All challenges of all `WWW-Authenticate` headers (RFC 9110 §11.6.1): one header may hold several, told apart by
 * whether a name is followed by `=`. Headers that cannot be read to their end give what was read up to there.
 */
export function parseChallenges(headers: readonly string[]): Challenge[] {
  return headers.flatMap((header) => parseHeader(header.slice(0, 16_384)));
}

function parseHeader(text: string): Challenge[] {
  const found: { scheme: string; parameters: Map<string, string> }[] = [];
  let at = 0;
  const take = (pattern: RegExp): string | undefined => {
    pattern.lastIndex = at;
    const match = pattern.exec(text)?.[0];
    if (match !== undefined) at += match.length;
    return match;
  };
  for (;;) {
    do take(SPACE);
    while (text[at] === ',' && ++at);
    if (at >= text.length) return found;
    const word = take(TOKEN);
    if (word === undefined) return found;
    const afterWord = at;
    take(SPACE);
    if (text[at] !== '=') {
      // Not a parameter, hence the next challenge. What follows its name is a parameter or, for schemes that are none of ours, token68.
      at = afterWord;
      found.push({ scheme: word.toLowerCase(), parameters: new Map() });
      skipToken68();
      continue;
    }
    at += 1;
    take(SPACE);
    const value = text[at] === '"' ? takeQuoted() : take(LOOSE);
    const current = found.at(-1);
    if (value === undefined || !current) return found;
    const name = word.toLowerCase();
    if (!current.parameters.has(name)) current.parameters.set(name, value);
  }

  function skipToken68(): void {
    const rest = /^[ \t]+[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)/.exec(text.slice(at));
    // A bare word before a comma is token68; before anything else it is a parameter's name or the next scheme.
    if (rest) at += rest[0].length;
  }

  function takeQuoted(): string | undefined {
    let value = '';
    for (at += 1; at < text.length; at++) {
      const char = text[at] as string;
      if (char === '"') {
        at += 1;
        return value;
      }
      if (char === '\\' && at + 1 < text.length) at += 1;
      value += text[at];
    }
    return undefined;
  }
}

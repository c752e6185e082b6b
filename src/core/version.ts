/** The version in package.json (a test holds the two together); sent in User-Agent and printed by `--version`. */
export const version = '0.1.0';

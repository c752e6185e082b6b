import * as z from 'zod';
import { isDigest, type Digest } from '../../core/digest.ts';
import type { Platform } from '../../core/types.ts';

/** Changes with everything that makes old plans useless. */
export const PLAN_VERSION = 1;

const count = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const digest = z.custom<Digest>(isDigest, 'not a sha256 or sha512 digest');
const hex = z.string().regex(/^[0-9a-f]{64}$/);
const platform = z.custom<Platform>((value) => z.looseObject({ os: z.string(), architecture: z.string() }).safeParse(value).success, 'not a platform');

const shape = z.object({
  version: z.literal(PLAN_VERSION),
  digest,
  platform: platform.optional(),
  /** base64 */
  config: z.base64(),
  layers: z.array(z.object({ digest, diffId: digest, format: z.string() })),
  devices: z.array(z.object({
    key: hex, size: count, layer: count, blob: count, tiles: z.boolean(), tree: z.boolean(), ahead: z.array(z.tuple([count, count])).optional(),
  })),
  tree: z.object({ size: count, sha256: hex }),
  blockSize: z.number(),
  warnings: z.array(z.string()),
  /** Under which names it was mounted, for people. */
  places: z.array(z.string()),
});

export type StoredPlan = z.output<typeof shape>;

const nameShape = z.object({ version: z.literal(PLAN_VERSION), plan: z.string().regex(/^[0-9a-f]{64}\.json$/) });

/** File of a plan's tree. */
export function treeName(sha256: string): string {
  return `${sha256}.erofs`;
}

/** Undefined for what is no plan, or one of another version. */
export function parsePlan(bytes: Uint8Array): StoredPlan | undefined {
  try {
    const plan = shape.parse(JSON.parse(Buffer.from(bytes).toString()));
    return plan.devices.every(({ layer }) => layer < plan.layers.length) ? plan : undefined;
  } catch {
    return undefined;
  }
}

/** Which plan a name leads to, as the file says that keeps it; undefined for any other file. */
export function parsePlanName(bytes: Uint8Array): string | undefined {
  try {
    return nameShape.parse(JSON.parse(Buffer.from(bytes).toString())).plan;
  } catch {
    return undefined;
  }
}

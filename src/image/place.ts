import type { ImageStore } from '../core/types.ts';

/** An image's place: a store and a tag or digest in it. */
export interface Place {
  readonly store: ImageStore;
  /** Tag or digest; '' is the only image of a layout. */
  readonly reference: string;
}

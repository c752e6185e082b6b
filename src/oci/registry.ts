import type { ByteSource, ByteStream, Descriptor, ImageStore, Sink } from '../core/types.ts';
import { checkRepository, type Repository } from './reference.ts';
import type { RegistryOptions } from './registry-options.ts';

export type { RegistryOptions } from './registry-options.ts';

/** One repository of a registry. No request is made before the store is used. */
export function openRegistry(repository: Repository, options: RegistryOptions = {}): RegistryStore {
  return new RegistryStore(checkRepository(repository), options);
}

export declare class RegistryStore implements ImageStore {
  readonly location: string;
  constructor(repository: Repository, options: RegistryOptions);
  resolve(reference: string, signal?: AbortSignal): Promise<Descriptor>;
  tag(descriptor: Descriptor, tag: string, signal?: AbortSignal): Promise<void>;
  has(descriptor: Descriptor, signal?: AbortSignal): Promise<boolean>;
  open(descriptor: Descriptor): ByteSource;
  fetch(descriptor: Descriptor, signal?: AbortSignal): ByteStream;
  push(descriptor: Descriptor, open: () => ByteStream, signal?: AbortSignal): Promise<void>;
  ingest(mediaType: string, produce: (sink: Sink) => Promise<void>, signal?: AbortSignal): Promise<Descriptor>;
  referrers(subject: Descriptor, signal?: AbortSignal): Promise<readonly Descriptor[]>;
  mount(descriptor: Descriptor, from: ImageStore, signal?: AbortSignal): Promise<boolean>;
  tags(signal?: AbortSignal): Promise<readonly string[]>;
  close(): Promise<void>;
}

import { corrupt, LazypullError } from '../core/errors.ts';
import { parseObject } from './documents.ts';
import { explain, isStatus } from './http-error.ts';
import { nextLink } from './http-headers.ts';
import type { HttpAnswer } from './http.ts';
import { isTag } from './reference.ts';
import type { RepositoryClient } from './repository.ts';

const PAGE = 1000;
const PAGE_BYTES = 8 * 1024 * 1024;
const MAX_TAGS = 1_000_000;

/** All tags, in the registry's order, page by page (distribution-spec "Listing Tags"). */
export async function listTags(repository: RepositoryClient, signal?: AbortSignal): Promise<string[]> {
  const tags: string[] = [];
  let url: URL | undefined = repository.url(`tags/list?n=${PAGE}`);
  const visited = new Set<string>();
  while (url) {
    if (visited.has(url.href) || tags.length > MAX_TAGS) throw new LazypullError('LIMIT', `the list of tags of ${repository.location} does not end`);
    visited.add(url.href);
    let answer: HttpAnswer;
    try {
      answer = await repository.http.ask({ method: 'GET', url, scopes: repository.pull, signal, expect: [200] }, PAGE_BYTES);
    } catch (error) {
      throw isStatus(error, 404) ? explain(error, `${repository.location} is not there, or there is no access to it`) : error;
    }
    for (const tag of parsePage(answer, repository.location)) tags.push(tag);
    url = nextLink(answer.headers, answer.url);
  }
  return tags;
}

/** `{"name":…,"tags":[…]}`; Go writes an empty list as null. Names that are no tags cannot be asked for, so they are left out. */
function parsePage({ body }: HttpAnswer, location: string): string[] {
  const { tags } = parseObject(body, `the list of tags of ${location}`);
  if (tags === null) return [];
  if (!Array.isArray(tags)) throw corrupt(`the list of tags of ${location} has no tags`);
  return tags.filter((tag): tag is string => typeof tag === 'string' && isTag(tag));
}

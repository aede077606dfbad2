import { json, type ListPage } from "./api";

/** All elements of a list that comes in pages; `cursor` is what the server goes on behind. At most `most`. */
export async function allPages<T>(path: string, cursor: (last: T) => string, most = 10_000): Promise<T[]> {
  const found: T[] = [];
  while (found.length < most) {
    const last = found.at(-1);
    const words = new URLSearchParams({ limit: "1000", ...(last === undefined ? {} : { after: cursor(last) }) });
    const page = await json<ListPage<T>>("GET", `${path}?${words}`);
    found.push(...page.data);
    if (!page.has_more || page.data.length === 0) break;
  }
  return found;
}

/** What a person has typed as a list: pieces between commas, semicolons, spaces and lines, each once. */
export function piecesOf(typed: string): string[] {
  return [...new Set(typed.split(/[\s,;，；、]+/).filter((piece) => piece !== ""))];
}

// The page is named in the address's fragment, so that any server path but the first stays the API's:
// "#/chat/ID?model=NAME" is page "chat" with the argument ID.

export interface Place {
  page: string; // "" is the first that the person may see
  argument: string;
  query: URLSearchParams;
}

export function placeOf(hash: string): Place {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const slash = path.indexOf("/");
  let argument = slash < 0 ? "" : path.slice(slash + 1);
  try {
    argument = decodeURIComponent(argument);
  } catch {
    argument = ""; // A stray percent sign: no page of ours has made this.
  }
  return { page: slash < 0 ? path : path.slice(0, slash), argument, query: new URLSearchParams(query) };
}

export function addressOf(page: string, argument = "", query: Record<string, string> = {}): string {
  const words = new URLSearchParams(query).toString();
  return `#/${page}${argument && `/${encodeURIComponent(argument)}`}${words && `?${words}`}`;
}

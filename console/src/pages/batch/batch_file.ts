// What a browser can tell of a file of requests before it is sent. The server checks all of it again.

export type LineFault = "not_json" | "no_custom_id" | "same_custom_id" | "no_url" | "other_url" | "no_body";

export interface CheckedFile {
  requests: number;
  endpoint: string; // Of all its requests; empty where the file has none.
  fault?: { line: number; kind: LineFault };
}

function faultOf(request: unknown, endpoint: string, ids: Set<string>): LineFault | undefined {
  if (typeof request !== "object" || request === null) return "not_json";
  const { custom_id, url, body } = request as Record<string, unknown>;
  if (typeof custom_id !== "string" || custom_id === "") return "no_custom_id";
  if (ids.has(custom_id)) return "same_custom_id";
  if (typeof url !== "string" || !url.startsWith("/v1/")) return "no_url";
  if (endpoint !== "" && url !== endpoint) return "other_url";
  if (typeof body !== "object" || body === null) return "no_body";
  ids.add(custom_id);
  return undefined;
}

/** Looks at each line until one has a fault. */
export function checkBatchFile(text: string): CheckedFile {
  const checked: CheckedFile = { requests: 0, endpoint: "" };
  const ids = new Set<string>();
  for (const [at, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    let request: unknown;
    try {
      request = JSON.parse(line);
    } catch {
      request = undefined;
    }
    const kind = faultOf(request, checked.endpoint, ids);
    if (kind) return { ...checked, fault: { line: at + 1, kind } };
    checked.endpoint = (request as { url: string }).url;
    ++checked.requests;
  }
  return checked;
}

/** A file of one request, to begin with. */
export function exampleLine(model: string): string {
  const body = { model, messages: [{ role: "user", content: "Say hello." }], max_tokens: 50 };
  return JSON.stringify({ custom_id: "first", method: "POST", url: "/v1/chat/completions", body });
}

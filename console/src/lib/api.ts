// How the console asks the server. A page's own routes and their types stand in a file of that page, made of
// these functions; nothing else calls fetch.

/** What the server refused, or that it could not be reached (status 0). */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null = null,
    readonly param: string | null = null,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

let csrfToken: string | null = null;
let project: string | null = null;
let onSignedOut: () => void = () => {};
let onProjectLost: () => void = () => {};

export function useCsrfToken(token: string | null): void {
  csrfToken = token;
}

/** For which all requests act from now on, but those about the session itself; null: the server's own choice. */
export function useProject(name: string | null): void {
  project = name;
}

export function actsForProject(): boolean {
  return project !== null;
}

/** Called when the person may not act for the project any more. */
export function whenProjectLost(act: () => void): void {
  onProjectLost = act;
}

/** Called when a session has ended, wherever that is noticed. */
export function whenSignedOut(act: () => void): void {
  onSignedOut = act;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text();
  let error: unknown;
  try {
    const body: unknown = JSON.parse(text);
    error = isRecord(body) ? body["error"] : undefined;
  } catch {
    error = undefined;
  }
  const fields = isRecord(error) ? error : {};
  const message = textOrNull(fields["message"]) ?? (text.slice(0, 300) || response.statusText);
  const retryAfter = Number(response.headers.get("retry-after") ?? NaN);
  return new ApiError(
    message,
    response.status,
    textOrNull(fields["code"]),
    textOrNull(fields["param"]),
    Number.isFinite(retryAfter) ? retryAfter : null,
  );
}

/** The UTF-8 of a text, which a header carries as it is. */
function bytesOf(text: string): string {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/**
 * One request; `body` is sent as JSON, but for a FormData or a Blob. Throws ApiError where the answer is no success,
 * AbortError where `signal` ends it.
 */
export async function send(method: Method, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  const headers = new Headers({ Accept: "application/json" });
  const isRaw = body instanceof FormData || body instanceof Blob;
  if (body !== undefined && !isRaw) headers.set("Content-Type", "application/json");
  const isOfSession = path.startsWith("/api/v1/session");
  if (project !== null && !isOfSession) headers.set("x-ridge-project", bytesOf(project));
  if (method !== "GET" && csrfToken !== null) headers.set("x-ridge-csrf", csrfToken);
  const init: RequestInit = { method, headers, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) init.body = isRaw ? body : JSON.stringify(body);
  if (signal) init.signal = signal;
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (failure) {
    if (failure instanceof DOMException && failure.name === "AbortError") throw failure;
    throw new ApiError(failure instanceof Error ? failure.message : String(failure), 0);
  }
  if (response.ok) return response;
  const error = await errorOf(response);
  if (error.status === 401 && !isOfSession) onSignedOut();
  if (error.param === "x-ridge-project") onProjectLost();
  throw error;
}

/** The JSON that the server answers. */
export async function json<T>(method: Method, path: string, body?: unknown): Promise<T> {
  const response = await send(method, path, body);
  // The server is of the same build; a difference is a bug that the pages' error state shows.
  return (await response.json()) as T;
}

/** For routes whose answer has nothing that the page would show. */
export async function nothing(method: Method, path: string, body?: unknown): Promise<void> {
  await (await send(method, path, body)).arrayBuffer();
}

/** The elements of `{"data": […]}`. */
export async function list<T>(path: string): Promise<T[]> {
  return (await json<{ data: T[] }>("GET", path)).data;
}

export interface ListPage<T> {
  data: T[];
  has_more?: boolean;
}

/** All elements of a list that comes in pages (`limit`, `after`, `has_more`), at most `most`. */
export async function listAll<T extends { id: string }>(path: string, most = 1000): Promise<T[]> {
  const found: T[] = [];
  const joint = path.includes("?") ? "&" : "?";
  while (found.length < most) {
    const last = found.at(-1);
    const after = last ? `&after=${encodeURIComponent(last.id)}` : "";
    const page = await json<ListPage<T>>("GET", `${path}${joint}limit=100${after}`);
    found.push(...page.data);
    if (!page.has_more || page.data.length === 0) break;
  }
  return found;
}

/** A name as a part of a path. */
export const segment = encodeURIComponent;

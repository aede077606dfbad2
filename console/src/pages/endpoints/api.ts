// Names that clients put in `model`, as /api/v1/endpoints has them.
import { json, list, nothing, segment } from "../../lib/api";

export interface NewVersion {
  model: string;
  system_prompt?: string;
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  max_tokens?: number;
}

export interface Version {
  number: number;
  model: string;
  system_prompt?: string; // For admins.
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  min_p: number | null;
  max_tokens: number | null;
  created_at_ms: number;
}

export interface Share {
  version: number;
  percent: number;
}

export interface Endpoint {
  name: string;
  is_enabled: boolean;
  versions: Version[];
  shares: Share[]; // One or two, 100 together.
  is_moderated: boolean;
  moderation_url?: string | null; // For admins.
  created_at_ms: number;
  updated_at_ms: number;
}

const path = (name: string, rest = ""): string => `/api/v1/endpoints/${segment(name)}${rest}`;

export const endpoints = (): Promise<Endpoint[]> => list("/api/v1/endpoints");
export const createEndpoint = (name: string, first: NewVersion, moderationUrl: string): Promise<Endpoint> =>
  json("POST", "/api/v1/endpoints", { name, ...first, ...(moderationUrl && { moderation_url: moderationUrl }) });
export const addVersion = (name: string, version: NewVersion): Promise<Endpoint> =>
  json("POST", path(name, "/versions"), version);
export const changeEndpoint = (
  name: string,
  change: { is_enabled?: boolean; moderation_url?: string | null },
): Promise<Endpoint> => json("PATCH", path(name), change);
export const setShares = (name: string, shares: Share[]): Promise<Endpoint> =>
  json("PUT", path(name, "/shares"), { shares });
export const rollBack = (name: string): Promise<Endpoint> => json("POST", path(name, "/rollback"), {});
export const deleteEndpoint = (name: string): Promise<void> => nothing("DELETE", path(name));

/** Two versions and how many of a hundred requests go to the second. */
export interface Split {
  first: number;
  second: number;
  percent: number;
}

/** How an endpoint's requests are split now. Whoever has one version only gets no second one: null. */
export function splitOf(endpoint: Endpoint): Split | null {
  const numbers = endpoint.versions.map((version) => version.number);
  if (numbers.length < 2) return null;
  const [one, other] = endpoint.shares.filter((share) => share.percent > 0);
  if (one && other) {
    const [first, second] = one.version < other.version ? [one, other] : [other, one];
    return { first: first.version, second: second.version, percent: second.percent };
  }
  const first = one?.version ?? numbers[0]!;
  const latest = Math.max(...numbers.filter((number) => number !== first));
  return { first, second: latest, percent: 0 };
}

/** As the server takes it: without versions that get nothing. */
export function sharesOf(split: Split): Share[] {
  const both = [
    { version: split.first, percent: 100 - split.percent },
    { version: split.second, percent: split.percent },
  ];
  return both.filter((share) => share.percent > 0);
}

// API keys, as /api/v1/keys has them.
import { json, nothing, segment } from "../../lib/api";
import { allPages } from "../../lib/paged";

export type Scope = "inference" | "metrics" | "admin";
export type KeyState = "active" | "ending" | "expired" | "revoked";

export interface ApiKey {
  id: string;
  name: string;
  hint: string; // How it begins and ends.
  project: string;
  user: string | null;
  scopes: Scope[];
  models: string[]; // Empty: all.
  addresses: string[]; // Empty: all.
  state: KeyState;
  created_at_ms: number;
  expires_at_ms: number | null;
  revoked_at_ms: number | null;
  rotated_to: string | null;
}

export interface NewKey {
  name: string;
  project?: string;
  user?: string;
  scopes: Scope[];
  models?: string[];
  addresses?: string[];
  lifetime_ms?: number;
}

/** With the key itself, which is never to be had again. */
export interface CreatedKey extends ApiKey {
  key: string;
}

export const keys = (): Promise<ApiKey[]> => allPages<ApiKey>("/api/v1/keys", (key) => key.id);
export const createKey = (key: NewKey): Promise<CreatedKey> => json("POST", "/api/v1/keys", key);
export const rotateKey = (id: string, graceMs: number): Promise<CreatedKey> =>
  json("POST", `/api/v1/keys/${segment(id)}/rotate`, { grace_ms: graceMs });
export const revokeKey = (id: string): Promise<void> => nothing("DELETE", `/api/v1/keys/${segment(id)}`);

export const dayMs = 24 * 3600 * 1000;

/** Works now, or did until it was replaced and does for a while yet. */
export function works(key: ApiKey): boolean {
  return key.state === "active" || key.state === "ending";
}

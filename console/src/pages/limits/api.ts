// What may be used, and what it costs, as /api/v1/limits and /api/v1/prices have it.
import { list, nothing } from "../../lib/api";

export const kinds = [
  "requests_per_minute",
  "tokens_per_minute",
  "input_tokens_per_minute",
  "output_tokens_per_minute",
  "concurrent_requests",
  "tokens_per_day",
  "tokens_per_month",
  "micros_per_month",
] as const;
export type LimitKind = (typeof kinds)[number];

export interface Limit {
  project: string | null; // Null: everybody together, or a user.
  key: string | null; // Null: the whole project.
  user: string | null; // Over all keys and sessions.
  model: string | null; // Null: all models together.
  kind: LimitKind;
  most: number;
}

export interface Price {
  model: string; // "*": all without a price of their own.
  prompt: number; // In the operator's currency, for a million tokens; here and below.
  cached: number;
  completion: number;
  free_tokens_per_month: number; // Of each model, that cost nothing, for each project.
}

export const limits = (): Promise<Limit[]> => list<Limit>("/api/v1/limits");
export const prices = (): Promise<Price[]> => list<Price>("/api/v1/prices");

/** `most` null takes the limit away. */
export function setLimit(limit: Omit<Limit, "most"> & { most: number | null }): Promise<void> {
  const { project, key, user, model, kind, most } = limit;
  const subject = {
    ...(project && { project }),
    ...(key && { key }),
    ...(user && { user }),
    ...(model && { model }),
  };
  return nothing("PUT", "/api/v1/limits", { ...subject, kind, most });
}

export const setPrice = (price: Price): Promise<void> => nothing("PUT", "/api/v1/prices", price);
export const removePrice = (model: string): Promise<void> => nothing("PUT", "/api/v1/prices", { model, price: null });

const microsInOne = 1e6;

/** Money is millionths on the wire, and whole units on the page. */
export function shownMost(limit: Pick<Limit, "kind" | "most">): number {
  return limit.kind === "micros_per_month" ? limit.most / microsInOne : limit.most;
}

export function wireMost(kind: LimitKind, shown: number): number {
  return Math.round(kind === "micros_per_month" ? shown * microsInOne : shown);
}

export function idOf(limit: Limit): string {
  return JSON.stringify([limit.project, limit.key, limit.user, limit.model, limit.kind]);
}

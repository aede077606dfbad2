// What the engines have now (/api/v1/requests), and the caller's own requests with what happened to them (/v1/requests).
import { json, list, segment } from "../../lib/api";

export type Reason = "model" | "place" | "blocks" | "turn";

export interface WorkingRequest {
  id: string;
  project: string | null;
  key: string | null; // Its name, or the user's who has signed in.
  model: string;
  state: "waiting" | "running";
  reason: Reason | null;
  waited_ms: number;
  prompt_tokens: number;
  completion_tokens: number;
}

export interface OwnRequest {
  id: string;
  endpoint: string;
  model: string | null;
  created_at: number; // Seconds.
  state: "preparing" | "waiting" | "running" | "finished";
  waits_for: Reason | null;
  status: number | null;
  error: string | null;
  finish_reasons: string[];
  usage: { prompt_tokens: number; cached_tokens: number; completion_tokens: number; reasoning_tokens: number };
  admitted_ms: number | null; // From its arrival; here and below.
  first_token_ms: number | null;
  duration_ms: number;
}

export interface RequestEvent {
  at_ms: number;
  event: string;
  waits_for?: Reason;
  cached_tokens?: number;
  restored_blocks?: number;
  tokens?: number;
  steps?: number;
  duration_ms?: number;
  generated_tokens?: number;
  finish_reason?: string;
}

export const workingRequests = (): Promise<WorkingRequest[]> => list("/api/v1/requests");
export const ownRequests = (): Promise<OwnRequest[]> => list("/v1/requests?limit=100");
export const ownRequest = (id: string): Promise<OwnRequest & { events: RequestEvent[] }> =>
  json("GET", `/v1/requests/${segment(id)}`);

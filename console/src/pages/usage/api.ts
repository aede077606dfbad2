// The statistics of the ledger, as GET /api/v1/usage gives them.
import { json } from "../../lib/api";

export type UsageBy = "day" | "project" | "key" | "model" | "endpoint";

export interface UsageRow extends Partial<Record<UsageBy, string>> {
  requests: number;
  failures: number; // Of the requests, that failed or were left.
  prompt_tokens: number;
  cached_tokens: number; // Of the prompts.
  completion_tokens: number;
  reasoning_tokens: number; // Of the answers.
  total_tokens: number;
  cost: number; // In the operator's currency.
  mean_ttft_ms: number; // 0 where no request had a first token.
}

export function usagePath(by: readonly UsageBy[], from: string, to: string, format?: "csv"): string {
  const words = new URLSearchParams({ by: by.join(","), from, to });
  if (format) words.set("format", format);
  return `/api/v1/usage?${words}`;
}

/** Each request of those days by itself, for a spreadsheet. */
export function recordsPath(from: string, to: string): string {
  return `/api/v1/usage/records?${new URLSearchParams({ from, to, format: "csv" })}`;
}

export async function usageRows(by: readonly UsageBy[], from: string, to: string): Promise<UsageRow[]> {
  return (await json<{ rows: UsageRow[] }>("GET", usagePath(by, from, to))).rows;
}

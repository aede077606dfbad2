// Many requests in a file, answered in idle time: /v1/files and /v1/batches, as OpenAI's API has them.
import { json, list, nothing, segment, send } from "../../lib/api";

export type BatchState =
  | "validating"
  | "failed"
  | "in_progress"
  | "finalizing"
  | "completed"
  | "expired"
  | "cancelling"
  | "cancelled";

export interface Batch {
  id: string;
  endpoint: string; // "/v1/chat/completions"
  status: BatchState;
  input_file_id: string;
  output_file_id: string | null;
  error_file_id: string | null;
  created_at: number; // Seconds.
  completed_at?: number | null;
  expires_at?: number | null;
  request_counts: { total: number; completed: number; failed: number };
  waiting?: { code: string; message: string } | null; // Why it does not go on now.
  errors?: { data: { code?: string; message: string; line?: number | null }[] } | null;
}

export const batches = (): Promise<Batch[]> => list("/v1/batches?limit=100");
export const cancelBatch = (id: string): Promise<void> => nothing("POST", `/v1/batches/${segment(id)}/cancel`, {});
export const contentPath = (file: string): string => `/v1/files/${segment(file)}/content`;

/** Sends the file, and has its requests answered. */
export async function createBatch(file: File, endpoint: string): Promise<Batch> {
  const form = new FormData();
  form.set("purpose", "batch");
  form.set("file", file);
  const { id } = (await (await send("POST", "/v1/files", form)).json()) as { id: string };
  return json("POST", "/v1/batches", { input_file_id: id, endpoint, completion_window: "24h" });
}

export function hasEnded(batch: Batch): boolean {
  return ["failed", "completed", "expired", "cancelled"].includes(batch.status);
}

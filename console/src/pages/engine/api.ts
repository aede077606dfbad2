// What the engines do now, as /api/v1/engine says it.
import { json } from "../../lib/api";

export interface EngineOfModel {
  name: string;
  loaded: boolean;
  loading?: boolean;
  running: number;
  waiting: number;
  kv_usage: number; // 0 to 1, of the blocks of the KV cache.
  prompt_tokens_total: number;
  generation_tokens_total: number;
  prefix_hit_rate: number | null; // 0 to 1, since the start.
  tokens_per_second?: number | null; // Of one answer, the mean since the start.
}

export interface EngineView {
  data: EngineOfModel[];
  memory: { total_bytes: number; available_bytes: number; process_bytes: number | null };
  threads: { cpus: number; process: number | null };
}

export const engineView = (): Promise<EngineView> => json("GET", "/api/v1/engine");

// Models that are here or could be, and how they come here: /api/v1/models and /api/v1/downloads.
import { json, list, nothing, segment } from "../../lib/api";

export interface CatalogModel {
  name: string;
  title: string | null;
  quantization: string | null;
  license: string | null;
  parent: string | null; // Of an adapter: the model that it changes.
  is_default: boolean; // The quantization that the bare name stands for.
  parameters: number | null;
  bytes: number;
  bytes_are_exact: boolean;
  context_length: number | null; // In tokens.
  capabilities: string[] | null;
  state: "available" | "downloading" | "stored" | "served";
  is_loaded: boolean;
  is_removable: boolean; // Unless an endpoint or a request needs it just then.
  download: string | null;
  fits: "yes" | "tight" | "no";
  needs_bytes: number;
  why: string | null;
  tokens_per_second: number | null;
}

export interface Download {
  id: string;
  model: string;
  name: string | null; // Under which it is served, once that is known.
  state: "waiting" | "running" | "finished" | "failed" | "cancelled";
  bytes_done: number;
  bytes_total: number | null;
  note: string | null;
  error: string | null;
  started_at_ms: number;
  ended_at_ms: number | null;
}

export const models = (): Promise<CatalogModel[]> => list<CatalogModel>("/api/v1/models");
export const downloads = (): Promise<Download[]> => list<Download>("/api/v1/downloads");
export const pull = (model: string): Promise<Download> => json("POST", "/api/v1/downloads", { model });
export const removeModel = (name: string): Promise<{ freed_bytes: number }> =>
  json("DELETE", `/api/v1/models/${segment(name)}`);
export const cancelDownload = (id: string): Promise<void> => nothing("DELETE", `/api/v1/downloads/${segment(id)}`);

export function isUnderWay(download: Download): boolean {
  return download.state === "waiting" || download.state === "running";
}

/** 0 to 1; null where it is not known how much comes. */
export function shareOf(download: Download): number | null {
  return download.bytes_total ? Math.min(1, download.bytes_done / download.bytes_total) : null;
}

export type View = "here" | "usual" | "all";

/**
 * What the page shows of the list: what is on this machine; that and the usual quantization of each other model;
 * or everything. `wanted` is what a person looks for in names and titles.
 */
export function shownModels(all: CatalogModel[], view: View, wanted: string): CatalogModel[] {
  const looked = wanted.trim().toLowerCase();
  return all.filter((model) => {
    if (looked !== "" && !`${model.name} ${model.title ?? ""}`.toLowerCase().includes(looked)) return false;
    const isHere = model.state !== "available";
    return view === "all" || isHere || (view === "usual" && model.is_default);
  });
}

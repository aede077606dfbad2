import { list } from "./api";

/** As GET /v1/models lists them: what may be named in `model`. */
export interface ServedModel {
  id: string;
  context_length?: number;
  parent?: string | null;
}

export const servedModels = (): Promise<ServedModel[]> => list<ServedModel>("/v1/models");

import { json, list, nothing, segment } from "../../lib/api";

export interface PromptTemplate {
  id: string;
  name: string;
  text: string;
}

/** The prompt templates of the person's project. */
class Templates {
  /** Undefined where the server has none to offer, or has not answered yet. */
  all = $state.raw<PromptTemplate[] | undefined>(undefined);

  async load(): Promise<void> {
    try {
      this.all = await list<PromptTemplate>("/api/v1/templates");
    } catch {
      this.all = undefined; // A chat works without; there is nothing to tell.
    }
  }

  async save(id: string | null, fields: { name: string; text: string }): Promise<void> {
    if (id === null) await json("POST", "/api/v1/templates", fields);
    else await json("PUT", `/api/v1/templates/${segment(id)}`, fields);
    await this.load();
  }

  async remove(id: string): Promise<void> {
    await nothing("DELETE", `/api/v1/templates/${segment(id)}`);
    await this.load();
  }
}

export const templates = new Templates();

// Projects, as /api/v1/projects has them.
import { json, nothing, segment } from "../../lib/api";
import { allPages } from "../../lib/paged";

export interface Project {
  id: string;
  name: string;
  weight: number; // Of its turns beside other projects'.
  created_at_ms: number;
  keep_days: number; // Prompts and answers are kept for; 0: they are not.
  kept_bytes: number;
}

export const projects = (): Promise<Project[]> => allPages<Project>("/api/v1/projects", (project) => project.name);
export const createProject = (name: string, weight: number): Promise<Project> =>
  json("POST", "/api/v1/projects", { name, weight });
export const setWeight = (name: string, weight: number): Promise<void> =>
  nothing("PATCH", `/api/v1/projects/${segment(name)}`, { weight });
/** What the project keeps no more is gone when this returns. */
export const setKeepDays = (name: string, days: number): Promise<void> =>
  nothing("PATCH", `/api/v1/projects/${segment(name)}`, { keep_days: days });

/** All there are, for a person to choose from; the first one is there as soon as it is needed. */
export async function projectNames(): Promise<string[]> {
  return [...new Set(["default", ...(await projects()).map((project) => project.name)])];
}

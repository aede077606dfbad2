// Projects, as /api/v1/projects has them.
import { json, list, nothing, segment } from "../../lib/api";
import { allPages } from "../../lib/paged";
import type { UserRole } from "../../lib/session.svelte";

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

export const removeProject = (name: string): Promise<void> =>
  nothing("DELETE", `/api/v1/projects/${segment(name)}`);

export type ProjectRole = "viewer" | "developer" | "admin";
export const projectRoles: readonly ProjectRole[] = ["viewer", "developer", "admin"];

/** Somebody in a project. Owners and admins act in all, and need not be members. */
export interface Member {
  user: string;
  role: ProjectRole;
  user_role: UserRole; // The user's own, which bounds the other.
  added_at_ms: number;
  disabled_at_ms: number | null;
}

const membersPath = (project: string): string => `/api/v1/projects/${segment(project)}/members`;
export const members = (project: string): Promise<Member[]> => list<Member>(membersPath(project));
/** Adds, changes, or with null removes. */
export const setMember = (project: string, user: string, role: ProjectRole | null): Promise<void> =>
  nothing("PUT", membersPath(project), { user, role });

/** All there are, for a person to choose from; the first one is there as soon as it is needed. */
export async function projectNames(): Promise<string[]> {
  return [...new Set(["default", ...(await projects()).map((project) => project.name)])];
}

// People and services, as /api/v1/users has them.
import { json, nothing, segment } from "../../lib/api";
import { allPages } from "../../lib/paged";
import type { UserRole } from "../../lib/session.svelte";
import type { ProjectRole } from "../projects/api";

export interface User {
  id: string;
  name: string;
  kind: "person" | "service";
  role: UserRole;
  project: string | null; // Of a service.
  projects: { project: string; role: ProjectRole }[]; // That a person is a member of.
  created_at_ms: number;
  disabled_at_ms: number | null;
}

export interface NewUser {
  name: string;
  kind: User["kind"];
  role: UserRole;
  project?: string; // Of a service, or the first one of a person.
}

export const users = (): Promise<User[]> => allPages<User>("/api/v1/users", (user) => user.name);
export const createUser = (user: NewUser): Promise<User> => json("POST", "/api/v1/users", user);
export const changeUser = (name: string, change: { role?: UserRole; disabled?: boolean }): Promise<void> =>
  nothing("PATCH", `/api/v1/users/${segment(name)}`, change);
export const removeUser = (name: string): Promise<void> => nothing("DELETE", `/api/v1/users/${segment(name)}`);
export const setPassword = (name: string, password: string): Promise<void> =>
  nothing("PUT", `/api/v1/users/${segment(name)}/password`, { password });

export const roles: readonly UserRole[] = ["viewer", "developer", "admin", "owner"];

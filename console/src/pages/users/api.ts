// People and services, as /api/v1/users has them.
import { json, nothing, segment } from "../../lib/api";
import { allPages } from "../../lib/paged";
import type { Role } from "../../lib/session.svelte";

export interface User {
  id: string;
  name: string;
  kind: "person" | "service";
  role: Role;
  project: string | null; // Of a service.
  created_at_ms: number;
  disabled_at_ms: number | null;
}

export interface NewUser {
  name: string;
  kind: User["kind"];
  role: Role;
  project?: string;
}

export const users = (): Promise<User[]> => allPages<User>("/api/v1/users", (user) => user.name);
export const createUser = (user: NewUser): Promise<User> => json("POST", "/api/v1/users", user);
export const changeUser = (name: string, change: { role?: Role; disabled?: boolean }): Promise<void> =>
  nothing("PATCH", `/api/v1/users/${segment(name)}`, change);
export const setPassword = (name: string, password: string): Promise<void> =>
  nothing("PUT", `/api/v1/users/${segment(name)}/password`, { password });

export const roles: readonly Role[] = ["viewer", "developer", "admin", "owner"];

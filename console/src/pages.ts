// Every page is one line here: its name in the address, the least role that sees it, its group in the navigation, its
// icon, its title and its code, which is loaded when it is first shown.
import type { Component } from "svelte";
import type { IconName } from "./components/Icon.svelte";
import type { Role } from "./lib/session.svelte";
import { t as audit } from "./pages/audit/text";
import { t as batch } from "./pages/batch/text";
import { t as catalog } from "./pages/catalog/text";
import { t as chat } from "./pages/chat/text";
import { t as endpoints } from "./pages/endpoints/text";
import { t as engine } from "./pages/engine/text";
import { t as kept } from "./pages/kept/text";
import { t as keys } from "./pages/keys/text";
import { t as limits } from "./pages/limits/text";
import { t as playground } from "./pages/playground/text";
import { t as projects } from "./pages/projects/text";
import { t as requests } from "./pages/requests/text";
import { t as settings } from "./pages/settings/text";
import { t as usage } from "./pages/usage/text";
import { t as users } from "./pages/users/text";

export const groups = ["use", "models", "watch", "administer", "own"] as const;

export interface PageProperties {
  argument: string; // what stands behind the page's name: "ID" of "#/chat/ID"
  query: URLSearchParams;
}

export interface Page {
  name: string;
  least: Role;
  group: (typeof groups)[number];
  icon: IconName;
  title: () => string;
  // Takes PageProperties; one that needs neither may leave them out.
  load: () => Promise<{ default: Component<any> }>;
}

// prettier-ignore
export const pages: readonly Page[] = [
  { name: "chat", least: "developer", group: "use", icon: "chat", title: () => chat("title"), load: () => import("./pages/chat/Page.svelte") },
  { name: "playground", least: "developer", group: "use", icon: "compare", title: () => playground("title"), load: () => import("./pages/playground/Page.svelte") },
  { name: "batch", least: "developer", group: "use", icon: "batch", title: () => batch("title"), load: () => import("./pages/batch/Page.svelte") },
  { name: "catalog", least: "viewer", group: "models", icon: "catalog", title: () => catalog("title"), load: () => import("./pages/catalog/Page.svelte") },
  { name: "endpoints", least: "viewer", group: "models", icon: "endpoints", title: () => endpoints("title"), load: () => import("./pages/endpoints/Page.svelte") },
  { name: "engine", least: "viewer", group: "watch", icon: "engine", title: () => engine("title"), load: () => import("./pages/engine/Page.svelte") },
  { name: "requests", least: "viewer", group: "watch", icon: "requests", title: () => requests("title"), load: () => import("./pages/requests/Page.svelte") },
  { name: "kept", least: "developer", group: "watch", icon: "audit", title: () => kept("title"), load: () => import("./pages/kept/Page.svelte") },
  { name: "usage", least: "viewer", group: "watch", icon: "usage", title: () => usage("title"), load: () => import("./pages/usage/Page.svelte") },
  { name: "keys", least: "developer", group: "administer", icon: "key", title: () => keys("title"), load: () => import("./pages/keys/Page.svelte") },
  { name: "users", least: "admin", group: "administer", icon: "users", title: () => users("title"), load: () => import("./pages/users/Page.svelte") },
  { name: "projects", least: "project_admin", group: "administer", icon: "project", title: () => projects("title"), load: () => import("./pages/projects/Page.svelte") },
  { name: "limits", least: "admin", group: "administer", icon: "limit", title: () => limits("title"), load: () => import("./pages/limits/Page.svelte") },
  { name: "audit", least: "admin", group: "administer", icon: "audit", title: () => audit("title"), load: () => import("./pages/audit/Page.svelte") },
  { name: "settings", least: "viewer", group: "own", icon: "settings", title: () => settings("title"), load: () => import("./pages/settings/Page.svelte") },
];

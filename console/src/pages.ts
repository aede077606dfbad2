// Every page is one line here: its name in the address, the least role that sees it, its group in the navigation, its
// icon, its title and its code, which is loaded when it is first shown.
import type { Component } from "svelte";
import type { IconName } from "./components/Icon.svelte";
import type { Role } from "./lib/session.svelte";
import { t as chat } from "./pages/chat/text";
import { t as playground } from "./pages/playground/text";
import { t as settings } from "./pages/settings/text";

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
  { name: "settings", least: "viewer", group: "own", icon: "settings", title: () => settings("title"), load: () => import("./pages/settings/Page.svelte") },
];

// What was changed and by whom, as /api/v1/audit has it.
import { json, type ListPage } from "../../lib/api";

export interface AuditEvent {
  number: number;
  at_ms: number;
  actor: string; // "user:ann", "key:ci", "local"
  action: string; // "key.create"
  subject: string;
  details: Record<string, unknown>;
}

/** Which events; what is empty bounds nothing. */
export interface Wanted {
  text: string;
  action: string;
  from: string; // "2026-11-28"
  to: string;
}

const eventsOfPage = 100;

/** A page of events, the latest first, before the one with the number `before`. */
export async function auditEvents(wanted: Wanted, before?: number): Promise<ListPage<AuditEvent>> {
  const words = new URLSearchParams({ limit: String(eventsOfPage) });
  const given = { q: wanted.text.trim(), action: wanted.action, from: wanted.from, to: wanted.to };
  for (const [name, value] of Object.entries(given)) if (value !== "") words.set(name, value);
  if (before !== undefined) words.set("before", String(before));
  const { data } = await json<ListPage<AuditEvent>>("GET", `/api/v1/audit?${words}`);
  return { data, has_more: data.length === eventsOfPage };
}

/** "weight 2, model *": the details in a line. */
export function detailsText(details: Record<string, unknown>): string {
  return Object.entries(details)
    .filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && value.length === 0))
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}

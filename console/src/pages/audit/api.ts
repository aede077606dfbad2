// What was changed and by whom, as /api/v1/audit has it.
import { list } from "../../lib/api";

export interface AuditEvent {
  number: number;
  at_ms: number;
  actor: string; // "user:ann", "key:ci", "local"
  action: string; // "key.create"
  subject: string;
  details: Record<string, unknown>;
}

export const eventsOfPage = 100;

/** The latest events before `before`, the latest first. */
export function auditEvents(before?: number): Promise<AuditEvent[]> {
  return list<AuditEvent>(`/api/v1/audit?limit=${eventsOfPage}${before === undefined ? "" : `&before=${before}`}`);
}

/** Whether any word of an event holds what a person looks for. */
export function matches(event: AuditEvent, wanted: string): boolean {
  const looked = wanted.trim().toLowerCase();
  const words = [event.actor, event.action, event.subject, JSON.stringify(event.details)];
  return words.some((word) => word.toLowerCase().includes(looked));
}

/** "weight 2, model *": the details in a line. */
export function detailsText(details: Record<string, unknown>): string {
  return Object.entries(details)
    .filter(([, value]) => value !== null && value !== "" && !(Array.isArray(value) && value.length === 0))
    .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
}

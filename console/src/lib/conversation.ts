// A conversation is a tree: to edit a question or to ask again begins a branch beside what was there. What is shown
// is the path from the root that follows the chosen branch at each turn.
import type { AnswerStatistics, ChatMessage, Sampling } from "./chat_stream";

export interface Attachment {
  name: string;
  text: string;
}

export interface Turn {
  id: string;
  parent: string | null;
  role: "user" | "assistant";
  content: string;
  attachments?: Attachment[];
  reasoning?: string;
  model?: string;
  statistics?: AnswerStatistics;
  stopped?: boolean;
  error?: string;
}

export interface Conversation {
  version: 1;
  id: string;
  title: string;
  updated_at_ms: number;
  model: string | null;
  system: string;
  sampling: Sampling;
  turns: Turn[]; // a parent stands before its children
  chosen: Record<string, string>; // for a turn, or "" for the root: the child that is shown
}

export function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function newConversation(): Conversation {
  return {
    version: 1,
    id: randomId(),
    title: "",
    updated_at_ms: Date.now(),
    model: null,
    system: "",
    sampling: {},
    turns: [],
    chosen: {},
  };
}

export function childrenOf(conversation: Conversation, parent: string | null): Turn[] {
  return conversation.turns.filter((turn) => turn.parent === parent);
}

/** The turns that are shown. */
export function shownPath(conversation: Conversation): Turn[] {
  const path: Turn[] = [];
  let parent: string | null = null;
  while (true) {
    const children = childrenOf(conversation, parent);
    const chosen: string | undefined = conversation.chosen[parent ?? ""];
    const turn: Turn | undefined = children.find((child) => child.id === chosen) ?? children.at(-1);
    if (!turn) return path;
    path.push(turn);
    parent = turn.id;
  }
}

/** Adds a turn behind `parent`, as the branch that is shown; returns the conversation's own copy. */
export function addTurn(conversation: Conversation, parent: string | null, turn: Omit<Turn, "id" | "parent">): Turn {
  const id = randomId();
  conversation.turns.push({ ...turn, id, parent });
  conversation.chosen[parent ?? ""] = id;
  return conversation.turns[conversation.turns.length - 1]!;
}

/** Shows the branch `step` places beside the turn's. */
export function chooseSibling(conversation: Conversation, turn: Turn, step: number): void {
  const siblings = childrenOf(conversation, turn.parent);
  const at = siblings.findIndex((sibling) => sibling.id === turn.id) + step;
  const sibling = siblings[at];
  if (sibling) conversation.chosen[turn.parent ?? ""] = sibling.id;
}

/** What the model is told: files stand before the question that they belong to; reasoning is not told again. */
export function messagesOf(system: string, path: readonly Turn[]): ChatMessage[] {
  const messages: ChatMessage[] = system.trim() === "" ? [] : [{ role: "system", content: system }];
  for (const turn of path) {
    const files = (turn.attachments ?? []).map((file) => `File ${file.name}:\n\n${fenced(file.text)}\n\n`);
    messages.push({ role: turn.role, content: files.join("") + turn.content });
  }
  return messages;
}

/** A code block whose fence is longer than any in the text. */
function fenced(text: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
}

export function titleOf(text: string): string {
  const line = text.trim().split("\n", 1)[0] ?? "";
  const letters = Array.from(line);
  return letters.length > 48 ? `${letters.slice(0, 47).join("").trimEnd()}…` : line;
}

/** As the server keeps it: a list of records, of which the first is all but the turns. */
export function recordsOf(conversation: Conversation): object[] {
  const { turns, ...rest } = conversation;
  return [rest, ...turns];
}

export function conversationOf(records: unknown): Conversation | null {
  if (!Array.isArray(records)) return null;
  const [rest, ...turns] = records as unknown[];
  return readConversation({ ...(rest as object), turns });
}

/** A conversation as it was saved; null for what is none. */
export function readConversation(value: unknown): Conversation | null {
  if (typeof value !== "object" || value === null) return null;
  const { version, turns } = value as Partial<Conversation>;
  if (version !== 1 || !Array.isArray(turns)) return null;
  return { ...newConversation(), ...(value as Conversation) };
}

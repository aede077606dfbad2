// Where conversations are kept: on the server, for that person alone, or in this browser.
import { json, list, nothing, segment } from "./api";
import { conversationOf, readConversation, recordsOf, type Conversation } from "./conversation";
import type { ChatPlace } from "./preferences.svelte";

/** As GET /api/v1/chats lists them. */
export interface ChatSummary {
  id: string;
  title: string;
  updated_at_ms: number;
}

export interface ChatStore {
  list(): Promise<ChatSummary[]>;
  read(id: string): Promise<Conversation | null>;
  save(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
}

const pathOf = (id: string): string => `/api/v1/chats/${segment(id)}`;

const onServer: ChatStore = {
  list: () => list<ChatSummary>("/api/v1/chats"),
  read: async (id) => conversationOf((await json<{ messages: unknown }>("GET", pathOf(id))).messages),
  save: (conversation) =>
    nothing("PUT", pathOf(conversation.id), { title: conversation.title, messages: recordsOf(conversation) }),
  remove: (id) => nothing("DELETE", pathOf(id)),
};

function readFromBrowser(key: string): Conversation | null {
  try {
    return readConversation(JSON.parse(localStorage.getItem(key) ?? "null"));
  } catch {
    return null; // Not ours, or cut short.
  }
}

/** A browser may be shared: who signs in sees the chats of that name alone. */
function inBrowser(user: string): ChatStore {
  const prefix = `ridge.chat.${encodeURIComponent(user)}.`;
  return {
    async list() {
      const found: ChatSummary[] = [];
      for (const key of Object.keys(localStorage).filter((each) => each.startsWith(prefix))) {
        const conversation = readFromBrowser(key);
        if (conversation) {
          const { id, title, updated_at_ms } = conversation;
          found.push({ id, title, updated_at_ms });
        }
      }
      return found;
    },
    read: async (id) => readFromBrowser(prefix + id),
    async save(conversation) {
      localStorage.setItem(prefix + conversation.id, JSON.stringify(conversation));
    },
    async remove(id) {
      localStorage.removeItem(prefix + id);
    },
  };
}

export function chatStore(place: ChatPlace, user: string): ChatStore {
  return place === "server" ? onServer : inBrowser(user);
}

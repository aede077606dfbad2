import { ApiError } from "../../lib/api";
import { chatStore, type ChatSummary } from "../../lib/chat_storage";
import type { Conversation } from "../../lib/conversation";
import { preferences, type ChatPlace } from "../../lib/preferences.svelte";
import { session } from "../../lib/session.svelte";
import { toasts, tried } from "../../lib/toasts.svelte";

export interface KeptChat extends ChatSummary {
  place: ChatPlace;
}

/** The chats that are kept, wherever that is: each stays where it was begun. */
class Library {
  chats = $state.raw<KeptChat[]>([]);
  /** Undefined until the server has said whether it keeps chats. */
  isServerThere = $state.raw<boolean | undefined>(undefined);

  private store(place: ChatPlace) {
    return chatStore(place, session.current?.user?.name ?? "");
  }

  async load(): Promise<void> {
    const found: KeptChat[] = (await this.store("browser").list()).map((chat) => ({ ...chat, place: "browser" }));
    if (session.isOpen) this.isServerThere = false; // It keeps chats for people, and knows none.
    if (this.isServerThere !== false) {
      try {
        found.push(...(await this.store("server").list()).map((chat) => ({ ...chat, place: "server" as const })));
        this.isServerThere = true;
      } catch (failure) {
        const isAbsent = failure instanceof ApiError && [404, 405, 501].includes(failure.status);
        if (isAbsent) this.isServerThere = false;
        else toasts.bad(failure);
      }
    }
    this.chats = found.sort((left, right) => right.updated_at_ms - left.updated_at_ms);
  }

  placeOf(id: string): ChatPlace {
    const known = this.chats.find((chat) => chat.id === id);
    return known?.place ?? (this.isServerThere ? preferences.keepsChats : "browser");
  }

  /** Null where there is no such chat. */
  async read(id: string): Promise<Conversation | null> {
    try {
      return await this.store(this.placeOf(id)).read(id);
    } catch (failure) {
      if (!(failure instanceof ApiError && failure.status === 404)) toasts.bad(failure);
      return null;
    }
  }

  async save(conversation: Conversation): Promise<void> {
    const { id, title, updated_at_ms } = conversation;
    const place = this.placeOf(id);
    this.chats = [{ id, title, updated_at_ms, place }, ...this.chats.filter((chat) => chat.id !== id)];
    await tried(() => this.store(place).save(conversation));
  }

  async remove(id: string): Promise<void> {
    await this.store(this.placeOf(id)).remove(id);
    this.chats = this.chats.filter((chat) => chat.id !== id);
  }

  /** Deletes those that this browser keeps; returns how many. */
  async clearBrowser(): Promise<number> {
    const store = this.store("browser");
    const kept = await store.list();
    for (const chat of kept) await store.remove(chat.id);
    this.chats = this.chats.filter((chat) => chat.place !== "browser");
    return kept.length;
  }
}

export const library = new Library();

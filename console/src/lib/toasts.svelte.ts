import { failureText } from "./failure";

export interface Toast {
  id: number;
  kind: "good" | "bad";
  text: string;
}

/** Short words on what has happened, which go away by themselves. */
class Toasts {
  shown = $state.raw<Toast[]>([]);
  private last = 0;

  private add(kind: Toast["kind"], text: string, forMs: number): void {
    const id = ++this.last;
    this.shown = [...this.shown.slice(-2), { id, kind, text }];
    setTimeout(() => this.remove(id), forMs);
  }

  good(text: string): void {
    this.add("good", text, 4000);
  }

  bad(failure: unknown): void {
    this.add("bad", failureText(failure), 10_000);
  }

  remove(id: number): void {
    this.shown = this.shown.filter((toast) => toast.id !== id);
  }
}

export const toasts = new Toasts();

/** Does something that a person asked for, and tells them where it fails. */
export async function tried(act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch (failure) {
    toasts.bad(failure);
  }
}

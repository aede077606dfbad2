import { onDestroy } from "svelte";

/**
 * Something that a page shows and the server has: loading, ready or failed. Once there, it stays on the screen while
 * it is asked for again, and when that fails.
 */
export class Resource<Value> {
  value = $state.raw<Value | undefined>(undefined);
  failure = $state.raw<Error | undefined>(undefined);
  isLoading = $state(false);
  private latest = 0;

  constructor(private readonly read: () => Promise<Value>) {}

  async load(): Promise<void> {
    const mine = ++this.latest;
    this.isLoading = true;
    try {
      const value = await this.read();
      if (mine !== this.latest) return; // A later one has been asked for.
      this.value = value;
      this.failure = undefined;
    } catch (failure) {
      if (mine === this.latest) this.failure = failure instanceof Error ? failure : new Error(String(failure));
    }
    if (mine === this.latest) this.isLoading = false;
  }
}

/** A resource that is asked for at once, and, where an interval is given, again and again while it can be seen. */
export function resource<Value>(read: () => Promise<Value>, everyMs?: number): Resource<Value> {
  const made = new Resource(read);
  void made.load();
  if (everyMs !== undefined) {
    const timer = setInterval(() => {
      if (!document.hidden && !made.isLoading) void made.load();
    }, everyMs);
    onDestroy(() => clearInterval(timer));
  }
  return made;
}

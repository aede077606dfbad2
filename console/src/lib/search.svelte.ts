import { onDestroy } from "svelte";
import type { ListPage } from "./api";
import { Resource } from "./resource.svelte";
import { tried } from "./toasts.svelte";

const typingPauseMs = 300;

interface Found<Row, Wanted> {
  wanted: Wanted;
  rows: Row[];
  hasMore: boolean;
}

/** A list that is looked through, the latest row first, a page at a time. */
export class Search<Row extends { number: number }, Wanted extends object> {
  /** As fields bind it; what is empty bounds nothing. */
  wanted: Wanted;
  readonly found: Resource<Found<Row, Wanted>>;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `read` gives a page of rows, those behind the one with the number `before`. */
  constructor(
    private readonly read: (wanted: Wanted, before?: number) => Promise<ListPage<Row>>,
    wanted: Wanted,
  ) {
    this.wanted = $state(wanted);
    this.found = new Resource(async () => {
      const asked = $state.snapshot(this.wanted) as Wanted;
      const page = await this.read(asked);
      return { wanted: asked, rows: page.data, hasMore: page.has_more ?? false };
    });
    void this.found.load();
    onDestroy(() => clearTimeout(this.timer));
  }

  get rows(): Row[] {
    return this.found.value?.rows ?? [];
  }

  get hasMore(): boolean {
    return this.found.value?.hasMore ?? false;
  }

  /** There is nothing at all, and so nothing to look for: of the rows shown, whatever is typed meanwhile. */
  get isEmpty(): boolean {
    const found = this.found.value;
    return found?.rows.length === 0 && Object.values(found.wanted).every((value: string) => value.trim() === "");
  }

  /** Looks for what is wanted now, as soon as the person pauses. */
  readonly find = (): void => {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.found.load(), typingPauseMs);
  };

  /** Adds the page behind the rows that are shown. */
  readonly more = (): Promise<void> =>
    tried(async () => {
      const shown = this.found.value;
      const last = shown?.rows.at(-1);
      if (!shown || !last) return;
      const page = await this.read(shown.wanted, last.number);
      if (this.found.value !== shown) return; // Something else is looked for meanwhile.
      this.found.value = { ...shown, rows: [...shown.rows, ...page.data], hasMore: page.has_more ?? false };
    });
}

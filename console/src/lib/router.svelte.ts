import { addressOf, placeOf } from "./place";

/** Where the person is. */
class Router {
  place = $state.raw(placeOf(location.hash));

  constructor() {
    addEventListener("hashchange", () => (this.place = placeOf(location.hash)));
  }

  go(page: string, argument = "", query: Record<string, string> = {}): void {
    location.hash = addressOf(page, argument, query);
  }

  /** Names another place without a new entry in the browser's history. */
  replace(page: string, argument = "", query: Record<string, string> = {}): void {
    history.replaceState(null, "", addressOf(page, argument, query));
    this.place = placeOf(location.hash);
  }
}

export const router = new Router();

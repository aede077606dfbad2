import { ApiError } from "./api";
import { common } from "./words";

/** What a person is told of a failure: the server's own words, which say what would be right, with what they need. */
export function failureText(failure: unknown): string {
  if (!(failure instanceof ApiError)) return failure instanceof Error ? failure.message : String(failure);
  if (failure.status === 0) return common("unreachable");
  if (failure.status === 403 && failure.message === "") return common("notAllowed");
  const wait = failure.retryAfterS;
  if (wait === null) return failure.message;
  const what = failure.message.replace(/;? *try again in [\d.]+ s$/, ""); // Said once, in the person's language.
  return `${what}${/[.!?]$/.test(what) ? "" : "."} ${common("waitSeconds", { count: wait })}`;
}

// The texts of the console. Each page has a file text.ts of its own, which pairs English and Chinese line by line.
import { preferences } from "./preferences.svelte";

export type Values = Record<string, string | number>;
/** English, Chinese. Where a number decides the word, English has "one | many" of the value `count`. */
export type Pair = readonly [en: string, zh: string];

/** Replaces {name} by the value of that name, and "one | many" by the word for `count`. */
export function filledIn(text: string, values: Values): string {
  const forms = text.split(" | ");
  const chosen = forms.length > 1 && values["count"] !== 1 ? forms[1]! : forms[0]!;
  return chosen.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** A function that gives the text under a key, in the language of the person; what shows it follows the language. */
export function dictionary<Key extends string>(pairs: Record<Key, Pair>) {
  return (key: Key, values: Values = {}): string => filledIn(pairs[key][preferences.language === "zh" ? 1 : 0], values);
}

/** The text for a word of the server's, such as a state or a role; for a word that is new to us, the word itself. */
export function wordsOf(pairs: Record<string, Pair>) {
  return (word: string): string => pairs[word]?.[preferences.language === "zh" ? 1 : 0] ?? word;
}

// The places of a prompt template, as the server finds them: "{{name}}", a letter or "_" and up to 63 more of those
// and digits; what else is in braces is text.

const place = /\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}/g;

export function variablesOf(text: string): string[] {
  return [...new Set(Array.from(text.matchAll(place), (match) => match[1]!))];
}

export function filledTemplate(text: string, values: Record<string, string>): string {
  return text.replace(place, (whole, name: string) => values[name] ?? whole);
}

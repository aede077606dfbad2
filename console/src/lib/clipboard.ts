/** Puts a text on the clipboard. Works on plain HTTP too, where browsers withhold `navigator.clipboard`. */
export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "unseen";
  // Inside of an open dialog, or it could not take the focus.
  const place = document.activeElement?.closest("dialog") ?? document.body;
  place.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("the browser did not let the text be copied");
}

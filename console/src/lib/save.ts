import { actsForProject, send } from "./api";
import { tried } from "./toasts.svelte";

/**
 * For a link with `download`: a link cannot say for which project it asks, so that where this matters the file is
 * fetched and then saved.
 */
export async function saveLink(event: MouseEvent & { currentTarget: HTMLAnchorElement }): Promise<void> {
  if (!actsForProject()) return;
  event.preventDefault();
  const link = event.currentTarget;
  await tried(async () => {
    const address = URL.createObjectURL(await (await send("GET", link.getAttribute("href") ?? "")).blob());
    const saving = document.createElement("a");
    saving.href = address;
    saving.download = link.download;
    saving.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  });
}

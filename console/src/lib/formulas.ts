import katex from "katex";
import "katex/dist/katex.min.css";

/** Draws the formulas that `markdownBlocks` has marked. */
export function drawFormulas(within: HTMLElement): void {
  for (const element of within.querySelectorAll<HTMLElement>("[data-tex]")) {
    try {
      katex.render(element.dataset["tex"] ?? "", element, {
        displayMode: element.classList.contains("display"),
        throwOnError: true,
        trust: false,
        strict: "ignore",
        maxSize: 20,
        maxExpand: 300,
      });
    } catch {
      element.classList.add("unfinished"); // Half of it has come, or it is none: its text stays.
    }
  }
}

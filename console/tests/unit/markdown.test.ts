import { expect, test } from "@playwright/test";
import { markdownBlocks } from "../../src/lib/markdown";

const html = (text: string) => markdownBlocks(text).join("\n");

test("each block is a piece of its own, which does not change while the next is written", () => {
  const text = "# One\n\ntwo *three*\n\n- four\n- five\n\n```js\nsix()\n```\n\n| a |\n|---|\n| 7 |";
  const whole = markdownBlocks(text);
  expect(whole).toHaveLength(5);
  for (let end = 1; end < text.length; ++end) {
    const part = markdownBlocks(text.slice(0, end));
    // All but the last two: a table's head is text until its line comes.
    expect(whole.slice(0, Math.max(0, part.length - 2))).toEqual(part.slice(0, Math.max(0, part.length - 2)));
  }
});

test("HTML of a model is text", () => {
  for (const hostile of [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "text <svg/onload=alert(1)> text",
    "<!--[if]><script>alert(1)</script>-->",
    '<a href="/x" onclick="alert(1)">x</a>',
    "<style>*{display:none}</style>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "```html\n</code></pre><script>alert(1)</script>\n```",
    '```"><img/src=x/onerror=alert(1)>\ncode\n```',
    "$\\href{javascript:alert(1)}{x}<img src=x onerror=alert(1)>$",
    '$$"><script>alert(1)</script>$$',
    "| <script>alert(1)</script> |\n|---|\n| <img src=x onerror=alert(1)> |",
  ]) {
    const drawn = html(hostile);
    const tags = Array.from(drawn.matchAll(/<([a-z0-9]+)([^>]*)>/gi));
    const allowed = /^(p|div|span|pre|code|table|thead|tbody|tr|th|td)$/i;
    expect(tags.map((tag) => tag[1]).filter((name) => !allowed.test(name!)), hostile).toEqual([]);
    expect(tags.filter((tag) => /\son\w+\s*=/i.test(tag[2]!.replace(/"[^"]*"/g, ""))), hostile).toEqual([]);
  }
});

test("links lead to http, https and mail alone, and pictures are not asked for", () => {
  for (const address of [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "&#106;avascript:alert(1)",
    "%6Aavascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "//evil.example",
    "/api/v1/oidc/start",
  ]) {
    for (const text of [`[x](${address})`, `[x](<${address}>)`, `<${address}>`, `[x][1]\n\n[1]: ${address}`]) {
      expect(html(text), text).not.toMatch(/href="(?!https?:|mailto:)/i);
    }
  }
  expect(html("[x](https://example.org)")).toContain('rel="noopener noreferrer nofollow"');
  expect(html("https://example.org")).toContain('href="https://example.org"');
  expect(html("![x](https://evil.example/leak)")).not.toContain("<img");
});

test("formulas are marked for drawing in each of the usual forms", () => {
  for (const text of ["$x^2$", "\\(x^2\\)"]) expect(html(text)).toContain('<span class="formula" data-tex="x^2">');
  for (const text of ["$$\nx^2\n$$", "\\[x^2\\]"]) expect(html(text)).toMatch(/class="formula display" data-tex="\s*x\^2/);
  expect(html("It costs $5 and $6.")).not.toContain("data-tex");
});

// What a model writes, as HTML. It is hostile until shown otherwise: no HTML of its own passes, links lead only to
// http, https and mail, and pictures, whose addresses could carry a conversation away, stay links.
import { tex } from "@mdit/plugin-tex";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import MarkdownIt from "markdown-it";

const programming = { bash, cpp, css, diff, go, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(programming)) hljs.registerLanguage(name, language);

/** Longer code is shown plain: it would be coloured again with each word that comes. */
const mostCodeLetters = 20_000;

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: false });
const escape = markdown.utils.escapeHtml;

// The formula itself is drawn by `drawFormulas`, because the policy of the page takes no style from HTML.
markdown.use(tex, {
  delimiters: "all",
  render: (formula, isDisplay) =>
    `<span class="formula${isDisplay ? " display" : ""}" data-tex="${escape(formula)}">${escape(formula)}</span>`,
});
markdown.disable("image");
markdown.validateLink = (address) => /^(https?:|mailto:|#)/i.test(address.trim());

markdown.renderer.rules.link_open = (tokens, at, options, _environment, self) => {
  const token = tokens[at]!;
  token.attrSet("target", "_blank");
  token.attrSet("rel", "noopener noreferrer nofollow");
  return self.renderToken(tokens, at, options);
};

function highlighted(code: string, language: string): string {
  if (code.length > mostCodeLetters || !hljs.getLanguage(language)) return escape(code);
  return hljs.highlight(code, { language, ignoreIllegals: true }).value;
}

function codeBlock(code: string, info: string): string {
  const language = info.trim().split(/\s+/, 1)[0] ?? "";
  return (
    `<div class="code"><div class="code-head"><span>${escape(language)}</span></div>` +
    `<pre tabindex="0"><code>${highlighted(code, language.toLowerCase())}</code></pre></div>`
  );
}

markdown.renderer.rules.fence = (tokens, at) => codeBlock(tokens[at]!.content, tokens[at]!.info);
markdown.renderer.rules.code_block = (tokens, at) => codeBlock(tokens[at]!.content, "");
markdown.renderer.rules.table_open = () => '<div class="table-frame" tabindex="0"><table>';
markdown.renderer.rules.table_close = () => "</table></div>";

/** One piece of HTML for each block of the text, so that a page draws only the last one again while a text grows. */
export function markdownBlocks(text: string): string[] {
  const environment = {};
  const tokens = markdown.parse(text, environment);
  const blocks: string[] = [];
  let begin = 0;
  tokens.forEach((token, at) => {
    if (token.level !== 0 || token.nesting === 1) return;
    blocks.push(markdown.renderer.render(tokens.slice(begin, at + 1), markdown.options, environment));
    begin = at + 1;
  });
  return blocks;
}

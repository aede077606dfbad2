import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";

/** KaTeX's fonts come in three formats; every browser that runs this console reads woff2. */
function onlyWoff2(): Plugin {
  return {
    name: "only-woff2",
    enforce: "pre",
    transform(code, id) {
      if (!id.includes("katex") || !id.endsWith(".css")) return null;
      return { code: code.replace(/,\s*url\([^)]*\)\s*format\("?(woff|truetype)"?\)/g, ""), map: null };
    },
  };
}

// `npm run dev` serves the sources and hands the API on to a server that runs: RIDGE_URL, else the default one.
const server = process.env["RIDGE_URL"] ?? "http://127.0.0.1:8080";
const api = { target: server, changeOrigin: true, headers: { Origin: server } };

export default defineConfig({
  plugins: [onlyWoff2(), svelte()],
  server: { proxy: { "/v1": api, "/api": api, "/health": api, "/openapi.json": api } },
  build: {
    outDir: "../build/console", // tools/console names another
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0, // The content security policy allows what the server sends, and nothing else.
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 700,
  },
});

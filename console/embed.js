// node embed.js SITE FOLDER: writes FOLDER/console.bytes, which holds every file of SITE, plain and compressed, and
// FOLDER/console_files.cc, the table that says where each begins (src/server/console_files.h).
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { extname, join, resolve } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

const contentTypes = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
  ".woff2": "font/woff2",
};
const isCompressed = new Set([".woff2"]);

const [site, folder] = process.argv.slice(2).map((path) => resolve(path));
const pieces = [];
let size = 0;

/** Adds bytes to the whole; where they are, as an argument of `piece` in the table. */
function add(bytes) {
  const place = `piece(${size}, ${bytes.length})`;
  pieces.push(bytes);
  size += bytes.length;
  return place;
}

function addIfSmaller(bytes, plain) {
  return bytes.length < plain.length * 0.95 ? add(bytes) : "{}";
}

function row(name) {
  const plain = readFileSync(join(site, name));
  const extension = extname(name);
  const contentType = contentTypes[extension];
  if (!contentType) throw new Error(`${name}: no content type is known for ${extension || "no extension"}`);
  const etag = createHash("sha256").update(plain).digest("hex").slice(0, 20);
  const places = [add(plain), "{}", "{}"];
  if (!isCompressed.has(extension)) {
    places[1] = addIfSmaller(gzipSync(plain, { level: 9 }), plain);
    const parameters = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: plain.length };
    places[2] = addIfSmaller(brotliCompressSync(plain, { params: parameters }), plain);
  }
  const path = name === "index.html" ? "/" : `/${name}`;
  const texts = [path, contentType, `"${etag}"`].map((text) => JSON.stringify(text));
  return `    {${[...texts, ...places].join(", ")}},`;
}

const names = readdirSync(site, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name).slice(site.length + 1))
  .sort();
const strangers = names.filter((name) => name !== "index.html" && !/^assets\/[\w.-]+$/.test(name));
if (strangers.length > 0) throw new Error(`only index.html and assets/ are served, not ${strangers.join(", ")}`);
const rows = names.map(row);
const bytesPath = join(folder, "console.bytes");
if (/["\\\n]/.test(bytesPath)) throw new Error(`an assembler cannot name the path ${bytesPath}`);

writeFileSync(bytesPath, Buffer.concat(pieces));
writeFileSync(
  join(folder, "console_files.cc"),
  `// Written by console/embed.js.
#include "server/console_files.h"

#include <cstddef>

asm(".pushsection .rodata\\n"
    "ridge_console_bytes:\\n"
    ".incbin \\"${bytesPath}\\"\\n"
    ".popsection\\n");
extern "C" __attribute__((visibility("hidden"))) const char ridge_console_bytes[];

namespace ridge::server {
namespace {

constexpr std::string_view piece(std::size_t begin, std::size_t size) {
  return {ridge_console_bytes + begin, size};
}

constinit const ConsoleFile files[] = {
${rows.join("\n")}
};

}  // namespace

std::span<const ConsoleFile> console_files() { return files; }

}  // namespace ridge::server
`,
);

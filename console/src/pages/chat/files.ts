import type { Attachment } from "../../lib/conversation";
import { bytes } from "../../lib/format";
import { t } from "./text";

const mostFiles = 10;
const mostFileBytes = 256 << 10;

/** The files as text. Throws an Error that names the one which is none, or is too large. */
export async function readFiles(files: Iterable<File>, attached: number): Promise<Attachment[]> {
  const read: Attachment[] = [];
  for (const file of files) {
    if (attached + read.length >= mostFiles) throw new Error(t("filesMany", { count: mostFiles }));
    if (file.size > mostFileBytes) throw new Error(t("fileLarge", { name: file.name, most: bytes(mostFileBytes) }));
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    } catch {
      throw new Error(t("fileBinary", { name: file.name }));
    }
    if (text.includes("\0")) throw new Error(t("fileBinary", { name: file.name }));
    read.push({ name: file.name, text });
  }
  return read;
}

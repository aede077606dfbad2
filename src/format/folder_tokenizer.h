#pragma once

#include <filesystem>

#include "format/folder_json.h"
#include "format/gguf_writer.h"

namespace ridge::format {

// Writes what a model folder says of its tokenizer as GGUF's keys `tokenizer.*`: the vocabulary,
// merges or scores, control tokens and whether they are added, and the chat template. From
// tokenizer.json (Hugging Face `tokenizers`), tokenizer_config.json, generation_config.json,
// chat_template.jinja, the first of which must be there, and of `config`, the folder's config.json.
//   vocab_size: rows of the embedding; ids that no token has are filled up.
// Throws not_found where tokenizer.json is missing, invalid_file where a file breaks its form,
// unsupported for a kind of tokenizer whose ids GGUF's keys would not give.
void write_folder_tokenizer(const std::filesystem::path& folder, const FolderJson& config,
                            int vocab_size, GgufWriter& out);

}  // namespace ridge::format

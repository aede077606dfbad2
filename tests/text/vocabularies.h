#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "text/tokenizer.h"

// The vocabularies and goldens that the tests of this folder share.
namespace ridge::text {

inline const format::GgufFile& vocabulary_file(const std::string& name) {
  static std::map<std::string, format::GgufFile> files;
  const auto found = files.find(name);
  if (found != files.end()) return found->second;
  const auto path = std::filesystem::path(RIDGE_FIXTURE_DIR) / (name + ".vocab.gguf");
  return files.emplace(name, format::GgufFile::open(path)).first->second;
}

// Built once: the large ones take a moment.
inline std::shared_ptr<const Tokenizer> vocabulary(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const Tokenizer>> tokenizers;
  auto& tokenizer = tokenizers[name];
  if (!tokenizer) tokenizer = Tokenizer::from_gguf(vocabulary_file(name));
  return tokenizer;
}

inline nlohmann::ordered_json golden(const std::string& name) {
  const std::string path = RIDGE_SOURCE_DIR "/tests/goldens/tokenizer/" + name + ".json";
  std::ifstream in(path);
  return nlohmann::ordered_json::parse(in);
}

// A small byte-level or SentencePiece vocabulary, made in memory.
struct MadeVocabulary {
  std::string model = "gpt2";
  std::string pre = "gpt-2";
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  std::vector<float> scores;
  std::vector<std::string> merges;
  std::map<std::string, uint32_t> ids;  // key, without tokenizer.ggml., → id
  std::map<std::string, bool> flags;

  std::vector<std::byte> bytes() const {
    format::GgufWriter writer;
    writer.set_string("general.architecture", "llama");
    writer.set_string("tokenizer.ggml.model", model);
    if (!pre.empty()) writer.set_string("tokenizer.ggml.pre", pre);
    writer.set_string_array("tokenizer.ggml.tokens", tokens);
    if (!types.empty()) writer.set_int_array("tokenizer.ggml.token_type", types);
    if (!scores.empty()) writer.set_float_array("tokenizer.ggml.scores", scores);
    if (!merges.empty()) writer.set_string_array("tokenizer.ggml.merges", merges);
    for (const auto& [key, id] : ids) writer.set_uint32("tokenizer.ggml." + key, id);
    for (const auto& [key, value] : flags) writer.set_boolean("tokenizer.ggml." + key, value);
    return writer.to_bytes();
  }

  std::shared_ptr<const Tokenizer> build() const {
    const std::vector<std::byte> file = bytes();
    return Tokenizer::from_gguf(format::GgufFile::parse(file));
  }
};

// `source` with another tokenizer.ggml.pre.
inline std::shared_ptr<const Tokenizer> with_pre(const format::GgufFile& source, std::string pre) {
  const format::GgufMetadata& metadata = source.metadata();
  MadeVocabulary made;
  made.pre = std::move(pre);
  for (const auto text : metadata.string_array("tokenizer.ggml.tokens")) {
    made.tokens.emplace_back(text);
  }
  for (const auto text : metadata.string_array("tokenizer.ggml.merges")) {
    made.merges.emplace_back(text);
  }
  for (const int64_t type : metadata.int_array("tokenizer.ggml.token_type")) {
    made.types.push_back(static_cast<int32_t>(type));
  }
  return made.build();
}

}  // namespace ridge::text

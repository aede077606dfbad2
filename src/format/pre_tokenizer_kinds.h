#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace ridge::format {

// The value of `tokenizer.ggml.pre` that stands for the steps by which a tokenizer.json of
// byte-level BPE cuts a text before the merges run; nullopt where GGUF has no name for them that
// this build knows.
//   normalizer, pre_tokenizer: as in the file, null where it has none
//   ignores_merges: whether a word that is itself a token is taken whole
std::optional<std::string_view> pre_tokenizer_kind(const nlohmann::json& normalizer,
                                                   const nlohmann::json& pre_tokenizer,
                                                   bool ignores_merges);

}  // namespace ridge::format

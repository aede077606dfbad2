#include "text/tokenizer.h"

#include <algorithm>
#include <bitset>
#include <limits>

#include "format/gguf.h"
#include "text/textkit_call.h"

namespace ridge::text {
namespace {

// Control tokens that end a turn or a text, of the families in use. A file's own keys come first;
// many files name only one of the two that their model emits.
constexpr std::string_view known_ends[] = {
    "<|im_end|>",    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>",       "<|endoftext|>",
    "<|end|>",       "<|return|>", "<|call|>",   "<｜end▁of▁sentence｜>", "<|EOT|>",
    "<end_of_turn>", "<|EOT_ID|>", "[EOT]",      "<end_of_utterance>",
};

std::optional<int32_t> token_id(const format::GgufMetadata& metadata, std::string_view key) {
  const auto value = metadata.optional_uint32(key);
  if (!value) return std::nullopt;
  if (*value > static_cast<uint32_t>(std::numeric_limits<int32_t>::max())) {
    throw Error(ErrorCode::invalid_file, std::string(key) + " is " + std::to_string(*value) +
                                             ", which is no token of any vocabulary");
  }
  return static_cast<int32_t>(*value);
}

int32_t flag(const format::GgufMetadata& metadata, std::string_view key) {
  const auto value = metadata.optional_boolean(key);
  return value ? (*value ? 1 : 0) : -1;
}

std::vector<tk_slice> slices(std::span<const std::string_view> strings) {
  std::vector<tk_slice> result;
  result.reserve(strings.size());
  for (const std::string_view text : strings) result.push_back(to_slice(text));
  return result;
}

std::vector<int32_t> token_types(const format::GgufMetadata& metadata) {
  std::vector<int32_t> result;
  if (const auto values = metadata.optional_int_array("tokenizer.ggml.token_type")) {
    result.reserve(values->size());
    // A number that is no type at all is refused below, under its own name.
    for (const int64_t value : *values) {
      result.push_back(static_cast<int32_t>(std::clamp<int64_t>(value, -1, 1000)));
    }
  }
  return result;
}

tk_tokenizer* build(const format::GgufMetadata& metadata) {
  const std::vector<tk_slice> tokens = slices(metadata.string_array("tokenizer.ggml.tokens"));
  const std::vector<int32_t> types = token_types(metadata);
  const std::vector<float> scores =
      metadata.optional_float_array("tokenizer.ggml.scores").value_or(std::vector<float>{});
  std::vector<tk_slice> merges;
  if (const auto strings = metadata.optional_string_array("tokenizer.ggml.merges")) {
    merges = slices(*strings);
  }
  const tk_vocabulary vocabulary = {
      .model = to_slice(metadata.string("tokenizer.ggml.model")),
      .pre = to_slice(metadata.optional_string("tokenizer.ggml.pre").value_or("")),
      .tokens = tokens.data(),
      .token_types = types.data(),
      .scores = scores.data(),
      .merges = merges.data(),
      .token_count = tokens.size(),
      .token_type_count = types.size(),
      .score_count = scores.size(),
      .merge_count = merges.size(),
      .bos = token_id(metadata, "tokenizer.ggml.bos_token_id").value_or(-1),
      .eos = token_id(metadata, "tokenizer.ggml.eos_token_id").value_or(-1),
      .unknown = token_id(metadata, "tokenizer.ggml.unknown_token_id").value_or(-1),
      .add_bos = flag(metadata, "tokenizer.ggml.add_bos_token"),
      .add_eos = flag(metadata, "tokenizer.ggml.add_eos_token"),
      .add_space_prefix = flag(metadata, "tokenizer.ggml.add_space_prefix"),
  };
  tk_tokenizer* handle = nullptr;
  TextkitBuffer error;
  check_textkit(tk_tokenizer_new(&vocabulary, &handle, error.out()), error);
  return handle;
}

// Composing characters (NFC) leaves no fewer bytes than one of these: U+1FBE U+0308 U+0301, seven
// bytes, become U+0390, two; nothing shrinks more.
constexpr std::size_t most_bytes_composed = 4;

// How much of a text one token stands for at most, in bytes; 0 where that is not known, as some byte
// has no token, so that any number of them may become the same unknown one.
std::size_t max_bytes_of_token(const Tokenizer& tokenizer) {
  std::size_t longest = 0;
  std::bitset<256> single;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string_view bytes = tokenizer.token_bytes(id);
    longest = std::max(longest, bytes.size());
    if (bytes.size() == 1) single.set(static_cast<unsigned char>(bytes[0]));
  }
  for (const int never_in_utf8 : {0xC0, 0xC1, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA, 0xFB, 0xFC, 0xFD,
                                  0xFE, 0xFF}) {
    single.set(static_cast<std::size_t>(never_in_utf8));
  }
  if (!single.all()) return 0;
  const bool composes = tokenizer.encode("\u212A") == tokenizer.encode("K");  // the sign of Kelvin
  return composes ? longest * most_bytes_composed : longest;
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::from_gguf(const format::GgufFile& file) {
  const format::GgufMetadata& metadata = file.metadata();
  std::shared_ptr<Tokenizer> result(new Tokenizer());
  result->handle_ = build(metadata);
  result->vocab_size_ = static_cast<int>(tk_tokenizer_size(result->handle_));
  result->adds_bos_ = tk_tokenizer_adds_bos(result->handle_);
  result->bos_ = token_id(metadata, "tokenizer.ggml.bos_token_id");
  result->eos_ = token_id(metadata, "tokenizer.ggml.eos_token_id");

  std::vector<int32_t>& ends = result->end_of_generation_;
  for (const std::string_view key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                     "tokenizer.ggml.eom_token_id"}) {
    const auto id = token_id(metadata, key);
    if (!id) continue;
    if (*id >= result->vocab_size_) {
      throw Error(ErrorCode::invalid_file, std::string(key) + " is " + std::to_string(*id) +
                                               ", outside the vocabulary of " +
                                               std::to_string(result->vocab_size_) + " tokens");
    }
    ends.push_back(*id);
  }
  // In harmony a turn is several messages, each of which ends so.
  const bool has_messages = result->find("<|return|>") && result->find("<|call|>");
  for (const std::string_view spelling : known_ends) {
    if (has_messages && spelling == "<|end|>") continue;
    if (const auto id = result->find(spelling)) ends.push_back(*id);
  }
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  result->max_bytes_of_token_ = max_bytes_of_token(*result);
  return result;
}

Tokenizer::~Tokenizer() { tk_tokenizer_free(handle_); }

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  tk_ids ids{};
  TextkitBuffer error;
  check_textkit(tk_tokenizer_encode(handle_, to_slice(text), options.add_special,
                                    options.parse_special, &ids, error.out()),
                error);
  const std::unique_ptr<tk_ids, decltype(&tk_ids_free)> owner(&ids, tk_ids_free);
  return std::vector<int32_t>(ids.data, ids.data + ids.size);
}

std::size_t Tokenizer::fewest_tokens(std::size_t text_bytes) const {
  if (max_bytes_of_token_ == 0) return 0;
  return text_bytes / max_bytes_of_token_;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  TextkitBuffer text;
  TextkitBuffer error;
  check_textkit(
      tk_tokenizer_decode(handle_, ids.data(), ids.size(), skip_special, text.out(), error.out()),
      error);
  return std::string(text.view());
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  tk_slice bytes{};
  TextkitBuffer error;
  check_textkit(tk_tokenizer_token_bytes(handle_, id, &bytes, error.out()), error);
  return {bytes.data, bytes.size};
}

bool Tokenizer::is_end_of_generation(int32_t id) const {
  return std::binary_search(end_of_generation_.begin(), end_of_generation_.end(), id);
}

std::optional<int32_t> Tokenizer::find(std::string_view token) const {
  const int32_t id = tk_tokenizer_find(handle_, to_slice(token));
  return id < 0 ? std::nullopt : std::optional(id);
}

bool Tokenizer::is_special(int32_t id) const { return tk_tokenizer_is_special(handle_, id); }

}  // namespace ridge::text

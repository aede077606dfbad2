#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct tk_tokenizer;  // rust/textkit/include/textkit.h

namespace ridge::format {
class GgufFile;
}

namespace ridge::text {

struct EncodeOptions {
  // Prepends BOS and appends EOS where the vocabulary says so (tokenizer.ggml.add_bos_token, …), as
  // Hugging Face's add_special_tokens does. A chat template writes its own BOS: pass false there.
  bool add_special = false;
  // Recognises control tokens written out in the text, such as `<|im_end|>`. A rendered template is
  // encoded with true, as Hugging Face does: so a user's message that spells a control token
  // becomes that token. False encodes the spelling as plain text; user-defined tokens (`<think>` in
  // most files) are recognised either way.
  bool parse_special = true;
};

// Text ↔ token ids, exact to Hugging Face `tokenizers` built from the same vocabulary. Immutable:
// all members may be called from any number of threads.
class Tokenizer : public std::enable_shared_from_this<Tokenizer> {
 public:
  // The longest text that `encode` accepts, in bytes; longer is Error(payload_too_large).
  static constexpr std::size_t max_text_bytes = std::size_t{4} << 20;

  // From the keys tokenizer.ggml.*. Error(invalid_file) names a key that is missing or breaks its
  // format; Error(unsupported) names a model kind (t5, bert, …) or `pre` kind that is not known.
  static std::shared_ptr<const Tokenizer> from_gguf(const format::GgufFile& file);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Ids in [0, vocab_size). Invalid UTF-8 is Error(invalid_argument).
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // No text of so many bytes has fewer tokens, whatever it says: a bound that costs nothing, for texts
  // that are much too long. 0 where the vocabulary promises nothing.
  std::size_t fewest_tokens(std::size_t text_bytes) const;

  // Valid UTF-8, as Hugging Face's `decode` without clean-up; bytes that form no character become
  // U+FFFD. An id outside [0, vocab_size) is Error(invalid_argument).
  std::string decode(std::span<const int32_t> ids, bool skip_special = true) const;

  // The raw bytes that a token stands for: possibly a part of a character. Control tokens give
  // their own spelling. The view lives as long as the tokenizer.
  std::string_view token_bytes(int32_t id) const;

  // The number of ids, which is the number of rows of the embedding or less.
  int vocab_size() const { return vocab_size_; }

  std::optional<int32_t> bos() const { return bos_; }
  std::optional<int32_t> eos() const { return eos_; }
  // Whether `encode` with add_special prepends BOS.
  bool adds_bos() const { return adds_bos_; }

  // Any token after which an answer is over: EOS, EOT,
  // EOM and the known turn-ending control tokens.
  bool is_end_of_generation(int32_t id) const;
  std::span<const int32_t> end_of_generation_ids() const { return end_of_generation_; }

  // The id whose text is exactly `token`: its spelling for control and user-defined tokens, its
  // bytes for others.
  std::optional<int32_t> find(std::string_view token) const;

  // Control and unknown tokens, which `skip_special` leaves out. Reasoning tags are never special:
  // some files mark `<think>` as control, yet the splitter must see it.
  bool is_special(int32_t id) const;

  // For the grammar engine, which reads the vocabulary through the C ABI.
  const tk_tokenizer* handle() const { return handle_; }

 private:
  Tokenizer() = default;

  tk_tokenizer* handle_ = nullptr;  // owned
  int vocab_size_ = 0;
  std::optional<int32_t> bos_;
  std::optional<int32_t> eos_;
  bool adds_bos_ = false;
  std::size_t max_bytes_of_token_ = 0;  // of a text, at most; 0: not known
  std::vector<int32_t> end_of_generation_;  // sorted
};

}  // namespace ridge::text

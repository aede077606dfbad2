#include "text/detokenizer.h"

#include <algorithm>
#include <utility>

namespace ridge::text {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

struct Sequence {
  std::size_t length;               // bytes of the whole character; 0 where no character begins so
  unsigned char second_min = 0x80;  // the range of its second byte
  unsigned char second_max = 0xBF;
};

// Unicode 15, table 3-7: well-formed UTF-8 byte sequences.
Sequence sequence_of(unsigned char lead) {
  if (lead <= 0x7F) return {1};
  if (lead >= 0xC2 && lead <= 0xDF) return {2};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {3};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead >= 0xF1 && lead <= 0xF3) return {4};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0};
}

// How many bytes of `text` are the beginning of one character.
std::size_t well_formed(std::string_view text, const Sequence& sequence) {
  std::size_t count = 1;
  while (count < sequence.length && count < text.size()) {
    const auto byte = static_cast<unsigned char>(text[count]);
    const bool fits = count == 1 ? byte >= sequence.second_min && byte <= sequence.second_max
                                 : byte >= 0x80 && byte <= 0xBF;
    if (!fits) break;
    ++count;
  }
  return count;
}

}  // namespace

std::string Utf8Assembler::push(std::string_view bytes) {
  const std::string joined = std::exchange(pending_, {}).append(bytes);
  std::string_view rest = joined;
  std::string text;
  text.reserve(rest.size());
  while (!rest.empty()) {
    const Sequence sequence = sequence_of(static_cast<unsigned char>(rest.front()));
    const std::size_t count = sequence.length == 0 ? 1 : well_formed(rest, sequence);
    if (count == sequence.length) {
      text.append(rest.substr(0, count));
    } else if (sequence.length != 0 && count == rest.size()) {
      pending_ = rest;
      break;
    } else {
      text.append(replacement);
    }
    rest.remove_prefix(count);
  }
  return text;
}

std::string Utf8Assembler::flush() {
  return std::exchange(pending_, {}).empty() ? std::string() : std::string(replacement);
}

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special,
                         std::vector<int32_t> shown)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special), shown_(std::move(shown)) {}

std::string Detokenizer::push(int32_t id) {
  const bool is_skipped = skip_special_ && tokenizer_->is_special(id) &&
                          std::find(shown_.begin(), shown_.end(), id) == shown_.end();
  if (is_skipped) return {};
  return assembler_.push(tokenizer_->token_bytes(id));
}

std::string Detokenizer::flush() { return assembler_.flush(); }

}  // namespace ridge::text

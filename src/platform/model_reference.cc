#include "platform/model_reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/model_path.h"
#include "platform/quantization.h"

namespace ridge::platform {
namespace {

constexpr size_t max_word_bytes = 96;
constexpr size_t max_name_bytes = 128;
constexpr std::string_view hugging_face_prefix = "hf:";

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// One part of a name: it may become part of a URL and of a file name.
bool is_word(std::string_view text) {
  if (text.empty() || text.size() > max_word_bytes || !is_letter_or_digit(text[0])) return false;
  if (text.find("..") != text.npos) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-';
  });
}

bool looks_like_path(std::string_view text) {
  if (text.starts_with('/') || text.starts_with("./") || text.starts_with("../") ||
      text.starts_with("~/") || text.ends_with(".gguf")) {
    return true;
  }
  std::error_code failure;
  return std::filesystem::is_regular_file(std::filesystem::path(text), failure) ||
         is_model_folder(std::filesystem::path(text));
}

ModelReference parse_hugging_face(std::string_view text) {
  const std::string_view body = text.substr(hugging_face_prefix.size());
  const size_t colon = body.find(':');
  ModelReference reference{.kind = ReferenceKind::hugging_face};
  reference.repository = body.substr(0, colon);
  if (!is_repository_name(reference.repository)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no Hugging Face model: it is written "
                            "hf:organisation/repository[:quantisation]",
                            text.substr(0, 200)));
  }
  if (colon != body.npos) reference.quantization = canonical_quantization(body.substr(colon + 1));
  return reference;
}

}  // namespace

bool is_repository_name(std::string_view text) {
  const size_t slash = text.find('/');
  return slash != text.npos && is_word(text.substr(0, slash)) && is_word(text.substr(slash + 1));
}

ModelReference ModelReference::parse(std::string_view text) {
  if (text.find('\0') == text.npos && text.size() < 4096 && looks_like_path(text)) {
    return {.kind = ReferenceKind::path, .path = std::filesystem::path(text)};
  }
  if (text.starts_with(hugging_face_prefix)) return parse_hugging_face(text);
  std::string name(text);
  std::transform(name.begin(), name.end(), name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  const size_t colon = name.find(':');
  const bool valid = name.size() <= max_name_bytes &&
                     is_word(std::string_view(name).substr(0, colon)) &&
                     (colon == name.npos || is_word(std::string_view(name).substr(colon + 1)));
  if (!valid) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is no model: write a catalog name (deepseek-r1:1.5b), "
                            "hf:organisation/repository[:quantisation] or a path to a GGUF file or "
                            "a model folder",
                            text.substr(0, 200)));
  }
  return {.kind = ReferenceKind::catalog, .name = std::move(name)};
}

std::string ModelReference::to_string() const {
  switch (kind) {
    case ReferenceKind::catalog:
      return name;
    case ReferenceKind::path:
      return path.string();
    case ReferenceKind::hugging_face:
      break;
  }
  return fmt::format("{}{}{}{}", hugging_face_prefix, repository, quantization.empty() ? "" : ":",
                     quantization);
}

}  // namespace ridge::platform

#include "api/multipart.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/trimmed.h"

namespace ridge::api {
namespace {

constexpr std::size_t most_parts = 32;
constexpr std::size_t most_head_bytes = 8u << 10;  // of a part
constexpr std::size_t most_boundary_bytes = 70;    // RFC 2046, 5.1.1

[[noreturn]] void refuse_form(const std::string& what) {
  throw Error(ErrorCode::invalid_argument, "the form cannot be read: " + what);
}

char lower(char letter) {
  return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter - 'A' + 'a') : letter;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

// What stands behind the first value of a header: `; name="a"; filename=b`.
class Parameters {
 public:
  explicit Parameters(std::string_view header)
      : first_(trimmed(header.substr(0, header.find(';')))),
        rest_(header.find(';') == std::string_view::npos ? std::string_view()
                                                         : header.substr(header.find(';') + 1)) {}

  std::string_view first() const { return first_; }

  std::optional<std::string> find(std::string_view wanted) const {
    std::string_view rest = rest_;
    while (!rest.empty()) {
      const std::size_t equals = rest.find('=');
      if (equals == std::string_view::npos) return std::nullopt;
      const std::string_view name = trimmed(rest.substr(0, equals));
      rest = trimmed(rest.substr(equals + 1));
      std::string value = take_value(rest);
      if (same_word(name, wanted)) return value;
    }
    return std::nullopt;
  }

 private:
  // Leaves what stands behind the next ';'.
  static std::string take_value(std::string_view& rest) {
    std::string value;
    if (!rest.starts_with('"')) {
      const std::size_t end = rest.find(';');
      value = trimmed(rest.substr(0, end));
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
      return value;
    }
    std::size_t at = 1;
    for (; at < rest.size() && rest[at] != '"'; ++at) {
      if (rest[at] == '\\' && at + 1 < rest.size()) ++at;
      value += rest[at];
    }
    const std::size_t end = rest.find(';', at);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    return value;
  }

  std::string_view first_, rest_;
};

std::string boundary_of(std::string_view content_type) {
  const Parameters parameters(content_type);
  if (!same_word(parameters.first(), "multipart/form-data")) {
    refuse_form(fmt::format("Content-Type is '{}'; it must be multipart/form-data",
                            parameters.first().substr(0, 100)));
  }
  auto boundary = parameters.find("boundary");
  if (!boundary || boundary->empty() || boundary->size() > most_boundary_bytes) {
    refuse_form(
        fmt::format("Content-Type must name a boundary of 1 to {} bytes", most_boundary_bytes));
  }
  return std::move(*boundary);
}

FormPart read_head(std::string_view head) {
  FormPart part;
  while (!head.empty()) {
    const std::size_t end = head.find("\r\n");
    const std::string_view line = head.substr(0, end);
    head = end == std::string_view::npos ? std::string_view() : head.substr(end + 2);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || !same_word(line.substr(0, colon), "Content-Disposition"))
      continue;
    const Parameters parameters(line.substr(colon + 1));
    if (!same_word(parameters.first(), "form-data")) continue;
    part.name = parameters.find("name").value_or("");
    part.file_name = parameters.find("filename");
  }
  if (part.name.empty()) refuse_form("a part has no Content-Disposition with a name");
  return part;
}

}  // namespace

std::vector<FormPart> parse_multipart(std::string_view content_type, std::string_view body) {
  const std::string mark = "\r\n--" + boundary_of(content_type);
  std::vector<FormPart> parts;
  // The first boundary needs no line before it.
  const std::string_view first = std::string_view(mark).substr(2);
  std::size_t at = body.starts_with(first) ? first.size() : body.find(mark);
  if (at == std::string_view::npos) refuse_form("its boundary does not appear in it");
  if (!body.starts_with(first)) at += mark.size();
  while (!body.substr(at).starts_with("--")) {
    const std::size_t line = body.find("\r\n", at);
    if (line == std::string_view::npos || line - at > most_head_bytes) {
      refuse_form("a boundary is not followed by the end of its line");
    }
    const std::size_t head_end = body.substr(line, most_head_bytes).find("\r\n\r\n");
    if (head_end == std::string_view::npos) {
      refuse_form(fmt::format("the head of a part has no end within {} bytes", most_head_bytes));
    }
    const std::size_t head = std::min(line + 2, line + head_end);
    FormPart part = read_head(body.substr(head, line + head_end - head));
    const std::size_t content = line + head_end + 4;
    // A content that is empty shares the line end before the boundary with the head.
    const std::size_t end = body.find(mark, content - 2);
    if (end == std::string_view::npos) refuse_form(fmt::format("'{}' has no end", part.name));
    part.content = end < content ? std::string_view() : body.substr(content, end - content);
    parts.push_back(std::move(part));
    if (parts.size() > most_parts) refuse_form(fmt::format("it has more than {} parts", most_parts));
    at = end + mark.size();
  }
  return parts;
}

std::optional<std::string> form_value(const std::vector<FormPart>& parts, std::string_view name,
                                      std::size_t most_bytes) {
  std::optional<std::string> value;
  for (const FormPart& part : parts) {
    if (part.name != name || part.file_name) continue;
    if (value || part.content.size() > most_bytes) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("'{}' must stand in the form once, with at most {} bytes", name,
                              most_bytes),
                  std::string(name));
    }
    value = part.content;
  }
  return value;
}

}  // namespace ridge::api

#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace ridge::api {

// The order of keys is kept: a template prints a tool's schema as the client wrote it.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  int depth = 64;            // arrays and objects inside each other
  int64_t values = 1 << 21;  // numbers, strings, objects … in all
};

// The document, read within the limits. Error(invalid_argument) says at which byte it is no JSON,
// or which limit it breaks. A key that stands twice in one object is an error: two readers could
// take different ones.
Json parse_json(std::string_view text, const JsonLimits& limits = {});

// The same of what must not be an error: nullopt where the text is no JSON object within the
// limits.
std::optional<Json> parse_json_object(std::string_view text);

// U+FFFD, which stands for bytes that form no UTF-8 character.
inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

// Appends `text` as a JSON string with its quotes.
// Bytes that form no UTF-8 character become U+FFFD.
void append_json_string(std::string& out, std::string_view text);
// Appends the shortest form that reads back as the same double; JSON has no infinity and no NaN, so
// that these become -9999, as OpenAI writes the logprob of an impossible token.
void append_json_number(std::string& out, double value);
// Null for what is not there: an empty text, or no number.
Json or_null(std::string_view text);
Json or_null(const std::optional<int64_t>& number);
Json or_null(const std::optional<double>& number);
// The one-line text of a document; invalid UTF-8 becomes U+FFFD.
std::string to_text(const Json& document);

}  // namespace ridge::api

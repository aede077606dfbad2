#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ridge::platform {

inline constexpr std::size_t most_endpoint_name_bytes = 64;
inline constexpr std::size_t most_system_prompt_bytes = 64u << 10;
inline constexpr int64_t most_endpoint_top_k = INT32_MAX;
inline constexpr int64_t most_endpoint_tokens = 1 << 24;

// A model and what it is asked with. Never changes once it is made. What is not set is the model's
// own.
struct EndpointVersion {
  int64_t number = 0;  // from 1
  std::string model;   // as the server serves it
  std::string system_prompt;
  std::optional<double> temperature;  // 0 to 2
  std::optional<double> top_p;        // above 0, to 1
  std::optional<int64_t> top_k;       // 0: all
  std::optional<double> min_p;        // 0 to 1
  std::optional<int64_t> max_tokens;  // of an answer, where the client names no number
  int64_t created_at_ms = 0;
};

struct EndpointShare {
  int64_t version = 0;
  int percent = 0;  // 1 to 100
  bool operator==(const EndpointShare&) const = default;
};

// A name of the operator's own that clients put in `model`.
struct Endpoint {
  std::string id;  // "end_..."
  std::string name;
  bool is_enabled = true;
  std::string moderation_url;  // empty: nobody is asked
  std::vector<EndpointVersion> versions;
  // One or two, the older version first; they add up to 100.
  std::vector<EndpointShare> shares;
  int64_t created_at_ms = 0, updated_at_ms = 0;

  // Null where it has no such version.
  const EndpointVersion* find(int64_t number) const;
};

// Which version answers: of all callers' conversations, each version gets its share. The same
// caller and beginning of a conversation always get the same version while the shares stay, so that
// a conversation keeps its version and what was computed of it. Where the newer version's share
// grows, what has it keeps it; each newer version draws anew who gets it first.
const EndpointVersion& choose_version(const Endpoint& endpoint, std::string_view caller,
                                      std::string_view beginning);

}  // namespace ridge::platform

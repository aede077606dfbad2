#include "api/usage_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace ridge::api {

void append_usage(std::string& out, const engine::Usage& usage) {
  fmt::format_to(std::back_inserter(out),
                 "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},"
                 "\"prompt_tokens_details\":{{\"cached_tokens\":{}}},"
                 "\"completion_tokens_details\":{{\"reasoning_tokens\":{}}}}}",
                 usage.prompt_tokens, usage.completion_tokens,
                 usage.prompt_tokens + usage.completion_tokens, usage.cached_tokens,
                 usage.reasoning_tokens);
}

void append_prompt_usage(std::string& out, const engine::Usage& usage) {
  fmt::format_to(std::back_inserter(out), "{{\"prompt_tokens\":{},\"total_tokens\":{}}}",
                 usage.prompt_tokens, usage.prompt_tokens);
}

void add_usage(engine::Usage& usage, const engine::Usage& more) {
  usage.prompt_tokens += more.prompt_tokens;
  usage.cached_tokens += more.cached_tokens;
  usage.completion_tokens += more.completion_tokens;
  usage.reasoning_tokens += more.reasoning_tokens;
  usage.queue_ms = std::max(usage.queue_ms, more.queue_ms);
  usage.ttft_ms = usage.ttft_ms == 0 ? more.ttft_ms : std::min(usage.ttft_ms, more.ttft_ms);
  usage.duration_ms = std::max(usage.duration_ms, more.duration_ms);
}

}  // namespace ridge::api

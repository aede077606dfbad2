#include "server/moderation.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "api/json_text.h"
#include "base/error.h"
#include "platform/endpoints/moderation_url.h"

namespace ridge::server {
namespace {

constexpr int64_t most_answer_bytes = 8 << 20;  // scores of each text may be many
constexpr platform::HttpLimits moderation_limits{.connect = std::chrono::seconds(5),
                                                 .stall = std::chrono::seconds(5)};

bool read_verdict(const std::string& text) {
  const auto answer = api::parse_json(text);
  const auto results = answer.is_object() ? answer.find("results") : answer.end();
  if (results == answer.end() || !results->is_array() || results->empty()) {
    throw Error(ErrorCode::io, "its answer has no 'results'");
  }
  bool is_flagged = false;
  for (const api::Json& result : *results) {
    const auto flagged = result.is_object() ? result.find("flagged") : result.end();
    if (flagged == result.end() || !flagged->is_boolean()) {
      throw Error(ErrorCode::io, "a result of its answer has no 'flagged'");
    }
    is_flagged = is_flagged || flagged->get<bool>();
  }
  return is_flagged;
}

}  // namespace

Moderation::Client Moderation::take() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      Client client = std::move(idle_.back());
      idle_.pop_back();
      return client;
    }
  }
  return std::make_unique<platform::HttpClient>(moderation_limits);
}

void Moderation::give_back(Client client) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(client));
}

bool Moderation::is_flagged(const std::string& url, const std::vector<std::string>& texts,
                            TimePoint until) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      until - std::chrono::steady_clock::now());
  if (left.count() <= 0) throw Error(ErrorCode::timed_out, "too many wait for it");
  platform::HttpRequest request{.url = url};
  request.content_type = "application/json";
  request.body = api::to_text({{"input", texts}});
  request.most = left;
  Client client = take();
  const std::string answer = client->send_for_text(request, most_answer_bytes);
  give_back(std::move(client));  // one that failed is not kept
  return read_verdict(answer);
}

}  // namespace ridge::server

#include "platform/endpoints/moderation_url.h"

#include <fmt/format.h>

#include "base/error.h"
#include "platform/link_local.h"
#include "platform/url.h"

namespace ridge::platform {
namespace {

constexpr std::size_t most_url_bytes = 2048;

}  // namespace

void check_moderation_url(const std::string& url) {
  const auto refuse = [](const std::string& why) {
    throw Error(ErrorCode::invalid_argument, "the moderation URL " + why, "moderation_url");
  };
  if (url.size() > most_url_bytes) refuse(fmt::format("is longer than {} bytes", most_url_bytes));
  try {
    const Url parsed = Url::parse(url);
    if (!parsed.is_https() && !parsed.is_this_machine()) {
      refuse("must be https, or http on this machine (127.0.0.1): prompts are sent there");
    }
    if (is_link_local(parsed.host())) refuse("must not be a link-local address");
  } catch (const Error& error) {
    if (error.param().empty()) refuse(fmt::format("is wrong: {}", error.message()));
    throw;
  }
}

std::string without_query(const std::string& url) { return Url::parse(url).to_string(); }

}  // namespace ridge::platform

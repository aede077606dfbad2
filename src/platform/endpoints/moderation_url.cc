#include "platform/endpoints/moderation_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "platform/identity/address_range.h"
#include "platform/url.h"

namespace ridge::platform {
namespace {

constexpr std::size_t most_url_bytes = 2048;

// The host without port and brackets.
std::string_view host_of(const Url& url) {
  std::string_view host = url.origin();
  host.remove_prefix(host.find("://") + 3);
  host = host.substr(0, host.rfind(':'));
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return host;
}

}  // namespace

bool is_link_local(std::string_view address) {
  static const std::array ranges = {
      AddressRange::parse_or_throw("169.254.0.0/16"), AddressRange::parse_or_throw("fe80::/10"),
      AddressRange::parse_or_throw("fd00:ec2::254"),
      AddressRange::parse_or_throw("100.100.100.200")};
  const std::string_view without_zone = address.substr(0, address.find('%'));
  return std::ranges::any_of(
      ranges, [&](const AddressRange& range) { return range.contains(without_zone); });
}

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
    if (is_link_local(host_of(parsed))) refuse("must not be a link-local address");
  } catch (const Error& error) {
    if (error.param().empty()) refuse(fmt::format("is wrong: {}", error.message()));
    throw;
  }
}

std::string without_query(const std::string& url) { return Url::parse(url).to_string(); }

}  // namespace ridge::platform

#include "server/page_request.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>

#include "base/trimmed.h"

namespace ridge::server {
namespace {

// Calls `visit` with each element of a list, and the parameters behind its semicolon.
template <typename Visit>
void for_each_element(std::string_view list, Visit visit) {
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view element = list.substr(begin, end - begin);
    const std::size_t semicolon = std::min(element.find(';'), element.size());
    visit(trimmed(element.substr(0, semicolon)), trimmed(element.substr(semicolon)));
    begin = end + 1;
  }
}

// "; q=0", "; q=0.000"
bool is_refused(std::string_view parameters) {
  const std::size_t at = parameters.find("q=0");
  return at != std::string_view::npos &&
         parameters.find_first_not_of("0.", at + 3) == std::string_view::npos;
}

bool accepts(std::string_view list, std::string_view wanted) {
  bool found = false;
  for_each_element(list, [&](std::string_view element, std::string_view parameters) {
    found |= boost::beast::iequals(element, wanted) && !is_refused(parameters);
  });
  return found;
}

}  // namespace

bool is_for_console(Route route, std::string_view method, std::string_view accept) {
  if (method != "GET" && method != "HEAD") return false;
  return route == Route::console_asset || (route == Route::hello && accepts(accept, "text/html"));
}

ContentCoding best_coding(std::string_view accept_encoding) {
  if (accepts(accept_encoding, "br")) return ContentCoding::brotli;
  return accepts(accept_encoding, "gzip") ? ContentCoding::gzip : ContentCoding::identity;
}

std::string_view name(ContentCoding coding) {
  switch (coding) {
    case ContentCoding::gzip:
      return "gzip";
    case ContentCoding::brotli:
      return "br";
    default:
      return "identity";
  }
}

bool names_etag(std::string_view if_none_match, std::string_view etag) {
  bool found = false;
  for_each_element(if_none_match, [&](std::string_view element, std::string_view) {
    if (element.starts_with("W/")) element.remove_prefix(2);  // a proxy has recoded it
    found |= element == etag || element == "*";
  });
  return found;
}

}  // namespace ridge::server

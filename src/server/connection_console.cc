// The console's files, which hold nothing of anybody's: what it shows comes over routes that ask who
// wants to know.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/connection.h"
#include "server/console_files.h"

namespace ridge::server {
namespace {

// Nothing but this server's own files runs or is drawn, and nothing is asked of any other.
constexpr std::string_view policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

constexpr std::string_view absent_page =
    "<!doctype html><html lang=\"en\"><title>Ridgeline</title>"
    "<h1>Ridgeline</h1><p>This program was built without its console (RIDGE_CONSOLE=OFF). "
    "Its API is there: ask this address for anything but HTML, as curl does.</p></html>\n";

// The names hold a hash of what is in them, so that a new build has new ones.
constexpr std::string_view for_ever = "public, max-age=31536000, immutable";

std::pair<std::string_view, ContentCoding> bytes_of(const ConsoleFile& file, ContentCoding coding) {
  if (coding == ContentCoding::brotli && !file.brotli.empty()) return {file.brotli, coding};
  if (coding != ContentCoding::identity && !file.gzip.empty()) {
    return {file.gzip, ContentCoding::gzip};
  }
  return {file.plain, ContentCoding::identity};
}

}  // namespace

asio::awaitable<void> Connection::send_console() {
  const bool is_page = exchange_.route.route == Route::hello;
  const std::string_view target = exchange_.target;
  const std::string_view path = target.substr(0, target.find('?'));
  const auto files = console_files();
  if (is_page && files.empty()) {
    co_await send(200, absent_page, "text/html; charset=utf-8");
    co_return;
  }
  const auto file = std::ranges::find(files, path, &ConsoleFile::path);
  if (file == files.end()) {
    throw Error(ErrorCode::not_found,
                "The console of this server has no such file; a page of an older version may be "
                "open: load it again.");
  }
  const bool is_known = names_etag(exchange_.page.if_none_match, file->etag);
  const auto [bytes, coding] = bytes_of(*file, exchange_.page.coding);
  exchange_.status = is_known ? 304 : 200;
  ResponseHead head = head_of(exchange_.status);
  head.content_type = file->content_type;
  head.content_bytes = bytes.size();
  head.cache_control = is_page ? "no-cache" : for_ever;
  head.headers.emplace_back("ETag", file->etag);
  head.headers.emplace_back("Vary", "Accept, Accept-Encoding");
  head.headers.emplace_back("Content-Security-Policy", policy);
  head.headers.emplace_back("Referrer-Policy", "no-referrer");
  head.headers.emplace_back("Cross-Origin-Opener-Policy", "same-origin");
  if (coding != ContentCoding::identity) head.headers.emplace_back("Content-Encoding", name(coding));
  co_await write(to_bytes(head));
  if (!is_known && exchange_.method != "HEAD") co_await write(bytes);
}

}  // namespace ridge::server

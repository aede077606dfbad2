#include "cli/admin_client.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "administration/administration.h"
#include "base/error.h"
#include "cli/config.h"
#include "platform/url.h"

namespace ridge::cli {
namespace {

using api::Json;

constexpr int64_t most_answer_bytes = 64 << 20;
constexpr int64_t most_key_file_bytes = 4096;
constexpr const char* page_items = "1000";

std::string key_of_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw Error(ErrorCode::not_found, fmt::format("cannot read '{}'", path));
  std::string text(most_key_file_bytes, '\0');
  file.read(text.data(), most_key_file_bytes);
  text.resize(static_cast<std::size_t>(file.gcount()));
  text.resize(std::min(text.size(), text.find_first_of("\r\n")));
  return text;
}

std::string key_of(const AdminChoice& choice) {
  std::string key = choice.api_key_file.empty() ? choice.api_key : key_of_file(choice.api_key_file);
  if (!key.empty() && key.find_first_not_of("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
                                            "abcdefghijklmnopqrstuvwxyz") == std::string::npos) {
    return key;
  }
  throw Error(ErrorCode::invalid_argument,
              key.empty() ? "the server asks for a key with the scope admin: name a file that "
                            "holds one by --api-key-file, or set RIDGE_API_KEY"
                          : "what --api-key-file or RIDGE_API_KEY holds is no API key");
}

void check_is_safe(const platform::Url& url, bool takes_insecure_http) {
  if (url.is_https() || url.is_this_machine() || takes_insecure_http) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("--url {} would send the key in the clear; use https, or say "
                          "--insecure-http where the network is trusted",
                          url.to_string()));
}

std::string query_text(const AdminRequest& request) {
  std::string text;
  for (const auto& [name, value] : request.query) {
    if (value.empty()) continue;
    text += fmt::format("{}{}={}", text.empty() ? "" : "&", name, platform::encode_query(value));
  }
  return text;
}

std::string with_argument(std::string_view path, const std::string& argument) {
  constexpr std::string_view varying = "{id}";
  std::string text(path);
  const std::size_t at = text.find(varying);
  if (at != std::string::npos) {
    text.replace(at, varying.size(), platform::encode_query(argument));
  }
  return text;
}

ErrorCode code_of(int status) {
  for (const ErrorCode code :
       {ErrorCode::invalid_argument, ErrorCode::unauthenticated, ErrorCode::permission_denied,
        ErrorCode::not_found, ErrorCode::already_exists, ErrorCode::unavailable}) {
    if (http_status(code) == status) return code;
  }
  return ErrorCode::io;
}

Error refusal(const std::string& url, int status, const std::string& body) {
  const Json document = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  const Json error = document.is_object() ? document.value("error", Json()) : Json();
  if (error.is_object() && error.contains("message") && error["message"].is_string()) {
    return Error(code_of(status), error["message"].get<std::string>());
  }
  return Error(ErrorCode::io,
               fmt::format("{} answered {}, and not as a ridge server does", url, status));
}

}  // namespace

void add_admin_options(CLI::App& command, AdminChoice& choice) {
  add_database_options(command, choice.database);
  command.add_option("--url", choice.url, "A server to ask instead, as https://ridge.example.org")
      ->type_name("URL");
  command
      .add_option("--api-key-file", choice.api_key_file,
                  "Holds a key for it with the scope admin; else RIDGE_API_KEY does")
      ->envname(environment_name("api-key-file"))
      ->type_name("FILE");
  command.add_flag("--insecure-http", choice.takes_insecure_http,
                   "Send the key to another machine without TLS");
  const char* key = std::getenv("RIDGE_API_KEY");
  choice.api_key = key == nullptr ? "" : key;
}

AdminClient::AdminClient(Context& context, const AdminChoice& choice) {
  if (choice.url.empty()) {
    local_.emplace(context, choice.database);
    caller_ = {.role = platform::Role::owner,
               .project_name = std::string(platform::default_project),
               .actor = acting_user()};
    return;
  }
  check_is_safe(platform::Url::parse(choice.url), choice.takes_insecure_http);
  url_ = choice.url;
  while (url_.ends_with('/')) url_.pop_back();
  key_ = key_of(choice);
  http_.emplace();
}

std::string AdminClient::ask_server(std::string_view method, std::string_view path,
                                    const AdminRequest& request) {
  const std::string query = query_text(request);
  platform::HttpRequest wanted{
      .url = url_ + with_argument(path, request.argument) + (query.empty() ? "" : "?" + query),
      .bearer_token = key_};
  wanted.method = method;
  wanted.refuses_address = nullptr;  // a person says where the server is
  if (!request.body.is_null()) {
    wanted.content_type = "application/json";
    wanted.body = api::to_text(request.body);
  }
  const platform::HttpAnswer answer = http_->ask(wanted, most_answer_bytes);
  if (answer.status >= 200 && answer.status < 300) return answer.body;
  throw refusal(url_, answer.status, answer.body);
}

std::string AdminClient::ask_text(std::string_view method, std::string_view path,
                                  const AdminRequest& request) {
  if (!local_) return ask_server(method, path, request);
  const administration::Route* route = administration::find_route(method, path);
  RIDGE_ASSERT(route != nullptr);
  const Json body = request.body.is_null() ? Json::object() : request.body;
  return route
      ->operation({local_->database, local_->identity, caller_, request.argument,
                   query_text(request), body})
      .body;
}

Json AdminClient::ask(std::string_view method, std::string_view path, const AdminRequest& request) {
  const std::string text = ask_text(method, path, request);
  if (text.empty()) return {};
  Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_object()) return document;
  throw Error(ErrorCode::io, fmt::format("{} answers no JSON; is it a ridge server?", url_));
}

std::vector<Json> AdminClient::list(std::string_view path, AdminRequest request, const char* key) {
  std::vector<Json> items;
  request.query.emplace_back("limit", page_items);
  request.query.emplace_back("after", "");
  for (bool has_more = true; has_more;) {
    Json page = ask("GET", path, request);
    Json& data = page["data"];
    if (!data.is_array()) {
      throw Error(ErrorCode::io, fmt::format("{} answers no list; is it a ridge server?", url_));
    }
    has_more = page.value("has_more", false) && !data.empty();
    for (Json& item : data) items.push_back(std::move(item));
    if (has_more) request.query.back().second = items.back().value(key, "");
  }
  return items;
}

std::string text_of(const Json& record, const char* member) {
  const auto found = record.find(member);
  if (found == record.end() || found->is_null()) return {};
  if (found->is_number_float()) return fmt::format("{:g}", found->get<double>());
  return found->is_string() ? found->get<std::string>() : found->dump();
}

int64_t number_of(const Json& record, const char* member) {
  const auto found = record.find(member);
  return found != record.end() && found->is_number_integer() ? found->get<int64_t>() : 0;
}

std::string time_of(const Json& record, const char* member) {
  return format_time_ms(number_of(record, member));
}

}  // namespace ridge::cli

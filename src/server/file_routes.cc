// Files that clients keep here, as OpenAI's API has them.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "api/fields.h"
#include "api/multipart.h"
#include "api/url_query.h"
#include "base/error.h"
#include "platform/batch/files.h"
#include "server/handler_route.h"

namespace ridge::server {
namespace {

using api::Json;

constexpr std::string_view purposes[] = {"batch", "fine-tune", "evals", "user_data"};
constexpr int64_t most_listed = 10'000;
constexpr std::size_t most_value_bytes = 200;

// What was received, as bytes of memory that the disk backs.
class ReceivedBytes {
 public:
  explicit ReceivedBytes(int descriptor)
      : size_(static_cast<std::size_t>(platform::status_of(descriptor).size_bytes)) {
    if (size_ == 0) return;
    start_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (start_ == MAP_FAILED) {
      throw Error(ErrorCode::out_of_memory, "the server found no memory to read this file");
    }
  }
  ~ReceivedBytes() {
    if (size_ > 0) ::munmap(start_, size_);
  }
  ReceivedBytes(const ReceivedBytes&) = delete;
  ReceivedBytes& operator=(const ReceivedBytes&) = delete;

  std::string_view bytes() const { return {static_cast<const char*>(start_), size_}; }

 private:
  std::size_t size_;
  void* start_ = nullptr;
};

std::string purpose_in(const std::vector<api::FormPart>& form) {
  const auto purpose = api::form_value(form, "purpose", most_value_bytes);
  if (purpose && std::ranges::find(purposes, *purpose) != std::end(purposes)) return *purpose;
  const std::string found = purpose ? fmt::format("'{}'", *purpose) : "missing";
  api::refuse("purpose", fmt::format("'purpose' is {}; it must be one of {}", found,
                                     fmt::join(purposes, ", ")));
}

std::optional<int64_t> lifetime_in(const std::vector<api::FormPart>& form,
                                   std::string_view purpose) {
  const auto anchor = api::form_value(form, "expires_after[anchor]", most_value_bytes);
  const auto seconds = api::form_value(form, "expires_after[seconds]", most_value_bytes);
  if (!anchor && !seconds) {
    // What batches leave behind must not fill the disk, as in OpenAI's API.
    return purpose == "batch" ? std::optional(platform::most_file_lifetime_s * 1000)
                              : std::nullopt;
  }
  if (anchor != "created_at") {
    api::refuse("expires_after[anchor]", "'expires_after[anchor]' must be 'created_at'");
  }
  const auto number = api::query_number("seconds=" + seconds.value_or(""), "seconds",
                                        platform::least_file_lifetime_s,
                                        platform::most_file_lifetime_s);
  return *number * 1000;
}

Json json_of(const platform::ClientFile& file) {
  Json json = {{"id", file.id},
               {"object", "file"},
               {"bytes", file.bytes},
               {"created_at", file.created_at_ms / 1000},
               {"expires_at", nullptr},
               {"filename", file.name},
               {"purpose", file.purpose},
               {"status", "processed"},
               {"status_details", nullptr}};
  if (file.expires_at_ms) json["expires_at"] = *file.expires_at_ms / 1000;
  return json;
}

HandlerAnswer upload_file(HandlerRequest& request) {
  platform::Files& files = request.files();
  if (!request.upload) {
    throw Error(ErrorCode::invalid_argument,
                "the body must be a form (multipart/form-data) with 'purpose' and 'file'");
  }
  const ReceivedBytes received(request.upload.get());
  const auto form = api::parse_multipart(request.content_type, received.bytes());
  const std::string purpose = purpose_in(form);
  const std::optional<int64_t> lifetime_ms = lifetime_in(form, purpose);
  const auto is_file = [](const api::FormPart& part) {
    return part.name == "file" && part.file_name.has_value();
  };
  if (std::ranges::count_if(form, is_file) != 1) {
    api::refuse("file", "the form must have one 'file', with a file name");
  }
  const api::FormPart& file = *std::ranges::find_if(form, is_file);
  const platform::NewFile wanted{.project_id = request.project(),
                                 .name = *file.file_name,
                                 .purpose = purpose,
                                 .lifetime_ms = lifetime_ms,
                                 .actor = request.caller.actor};
  return json_answer(json_of(files.add(wanted, file.content)));
}

HandlerAnswer list_files(HandlerRequest& request) {
  const auto order = api::query_value(request.query, "order").value_or("desc");
  if (order != "asc" && order != "desc") api::refuse("order", "'order' must be 'asc' or 'desc'");
  const platform::FilePage page = request.files().list(
      {.project_id = request.project(),
       .purpose = api::query_value(request.query, "purpose").value_or(""),
       .after = api::query_value(request.query, "after").value_or(""),
       .limit = static_cast<std::size_t>(
           api::query_number(request.query, "limit", 1, most_listed).value_or(most_listed)),
       .oldest_first = order == "asc"});
  Json data = Json::array();
  for (const platform::ClientFile& file : page.files) data.push_back(json_of(file));
  Json list = {{"object", "list"}, {"data", std::move(data)}, {"has_more", page.has_more}};
  list["first_id"] = page.files.empty() ? Json() : Json(page.files.front().id);
  list["last_id"] = page.files.empty() ? Json() : Json(page.files.back().id);
  return json_answer(list);
}

HandlerAnswer show_file(HandlerRequest& request) {
  return json_answer(json_of(request.files().find(request.project(), request.argument)));
}

HandlerAnswer delete_file(HandlerRequest& request) {
  request.files().remove(request.project(), request.argument, request.caller.actor);
  return json_answer({{"id", request.argument}, {"object", "file"}, {"deleted", true}});
}

HandlerAnswer send_content(HandlerRequest& request) {
  const platform::ClientFile file = request.files().find(request.project(), request.argument);
  HandlerAnswer answer{.content_type = "application/octet-stream"};
  // A browser must not take it for a page of this server.
  answer.headers.emplace_back("Content-Disposition", "attachment");
  answer.headers.emplace_back("X-Content-Type-Options", "nosniff");
  answer.file = request.files().open(file);
  answer.file_bytes = static_cast<std::size_t>(file.bytes);
  return answer;
}

constexpr HandlerRoute routes[] = {
    {.method = "GET", .path = "/v1/files", .access = inference_access, .handle = list_files},
    {.method = "POST",
     .path = "/v1/files",
     .access = inference_access,
     .handle = upload_file,
     .takes_file = true},
    {.method = "GET", .path = "/v1/files/{id}", .access = inference_access, .handle = show_file},
    {.method = "DELETE", .path = "/v1/files/{id}", .access = inference_access, .handle = delete_file},
    {.method = "GET",
     .path = "/v1/files/{id}/content",
     .access = inference_access,
     .handle = send_content},
};

}  // namespace

std::span<const HandlerRoute> file_routes() { return routes; }

}  // namespace ridge::server

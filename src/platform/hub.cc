#include "platform/hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "platform/http_client.h"
#include "platform/hub_listing.h"
#include "platform/retries.h"

namespace ridge::platform {
namespace {

// A repository of 10,000 files.
constexpr int64_t max_listing_bytes = 32 << 20;

std::string environment_or(const char* name, std::string_view otherwise) {
  const char* value = std::getenv(name);
  std::string result(value == nullptr || *value == '\0' ? otherwise : std::string_view(value));
  while (result.ends_with('/')) result.pop_back();
  return result;
}

std::string_view file_name_of(std::string_view path) { return path.substr(path.rfind('/') + 1); }

[[noreturn]] void refuse_unchecked(std::string_view what) {
  throw Error(
      ErrorCode::invalid_file,
      fmt::format("the hub states no SHA-256 digest of {}, so it could not be checked", what));
}

// For files whose digest the listing leaves out: the head of the file states it.
void ask_for_digest(HttpClient& client, HubFile& file, const RemoteFile& where,
                    const DownloadOptions& options) {
  const HttpHead head = with_retries(retries_of(options), [&] {
    return client.send({.url = where.url, .bearer_token = where.bearer_token, .head_only = true},
                       {}, {});
  });
  std::string_view etag = head.linked_etag;
  if (etag.size() > 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  file.digest = Digest::parse(etag);
  if (!file.digest) refuse_unchecked(file.path);
  if (file.size_bytes <= 0) file.size_bytes = std::max<int64_t>(head.linked_bytes, 0);
}

// Asks for a listing, chooses, and gives each chosen file its URL.
template <typename UrlOf>
RemoteModel choose(HttpClient& client, const std::vector<HubFile>& listing,
                   const CatalogSource& source, std::string_view quantization,
                   const std::string& token, const DownloadOptions& options, UrlOf url_of) {
  HubChoice choice = choose_files(listing, quantization, source.to_string());
  RemoteModel model{.quantization = std::move(choice.quantization)};
  for (HubFile& file : choice.files) {
    RemoteFile remote{.file_name = std::string(file_name_of(file.path)),
                      .url = url_of(file.path),
                      .bearer_token = token,
                      .digest = Digest({}),
                      .size_bytes = file.size_bytes};
    if (!file.digest) ask_for_digest(client, file, remote, options);
    remote.digest = *file.digest;
    remote.size_bytes = file.size_bytes;
    model.files.push_back(std::move(remote));
  }
  return model;
}

RemoteModel find_on_hugging_face(const CatalogSource& source, std::string_view quantization,
                                 const DownloadOptions& options) {
  HttpClient client({.stall = options.stall}, options.is_cancelled);
  const std::string endpoint = environment_or("HF_ENDPOINT", "https://huggingface.co");
  const std::string token = environment_or("HF_TOKEN", "");
  const std::string revision =
      source.revision.empty() ? "" : "/revision/" + encode_query(source.revision);
  const std::string body = with_retries(retries_of(options), [&] {
    return client.send_for_text({.url = fmt::format("{}/api/models/{}{}?blobs=true", endpoint,
                                                    encode_path(source.repository), revision),
                                 .bearer_token = token},
                                max_listing_bytes);
  });
  std::string commit;
  const std::vector<HubFile> listing = read_hugging_face_listing(body, commit);
  // The commit that was listed, so that a push between two requests changes nothing.
  if (commit.empty()) commit = source.revision.empty() ? "main" : source.revision;
  return choose(client, listing, source, quantization, token, options, [&](std::string_view path) {
    return fmt::format("{}/{}/resolve/{}/{}", endpoint, encode_path(source.repository),
                       encode_query(commit), encode_path(path));
  });
}

RemoteModel find_on_modelscope(const CatalogSource& source, std::string_view quantization,
                               const DownloadOptions& options) {
  HttpClient client({.stall = options.stall}, options.is_cancelled);
  const std::string endpoint = environment_or("MODELSCOPE_ENDPOINT", "https://www.modelscope.cn");
  const std::string revision = encode_query(source.revision.empty() ? "master" : source.revision);
  const std::string base =
      fmt::format("{}/api/v1/models/{}/repo", endpoint, encode_path(source.repository));
  const std::string body = with_retries(retries_of(options), [&] {
    return client.send_for_text(
        {.url = fmt::format("{}/files?Revision={}&Recursive=true", base, revision)},
        max_listing_bytes);
  });
  return choose(client, read_modelscope_listing(body), source, quantization, "", options,
                [&](std::string_view path) {
                  return fmt::format("{}?Revision={}&FilePath={}", base, revision,
                                     encode_query(path));
                });
}

}  // namespace

RemoteModel find_on_hub(const CatalogSource& source, std::string_view quantization,
                        const DownloadOptions& options) {
  RIDGE_ASSERT(source.kind != SourceKind::wheel);
  return source.kind == SourceKind::hugging_face
             ? find_on_hugging_face(source, quantization, options)
             : find_on_modelscope(source, quantization, options);
}

}  // namespace ridge::platform

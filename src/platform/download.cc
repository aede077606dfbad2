#include "platform/download.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "platform/http_client.h"

namespace ridge::platform {
namespace {

using std::chrono::milliseconds;

constexpr int64_t margin_bytes = int64_t{16} << 20;
constexpr int max_attempts = 1000;  // even if each makes a little progress

// Where the part came from: its ETag holds for that URL alone.
struct Origin {
  std::string url;
  std::string etag;
};

// The file partial/sha256-DIGEST while it grows.
class Part {
 public:
  Part(const Folder& folder, const Digest& digest)
      : folder_(folder), name_("sha256-" + digest.to_string()), origin_name_(name_ + ".json") {
    file_ = folder_.open(name_, O_RDWR | O_CREAT);
  }

  // Digests what an earlier try left.
  void load(const RemoteFile& file, const DownloadOptions& options) {
    size_bytes_ = status_of(file_.get()).size_bytes;
    if (file.size_bytes > 0 && size_bytes_ > file.size_bytes) return restart();
    hash_file(file_.get(), size_bytes_, hasher_,
              [&](int64_t) { return !options.is_cancelled || !options.is_cancelled(); });
    if (lseek(file_.get(), size_bytes_, SEEK_SET) < 0) throw DiskError("cannot seek in " + name_);
    if (const FileDescriptor origin = folder_.open(origin_name_, O_RDONLY)) {
      const auto json =
          nlohmann::json::parse(read_all(origin.get(), 1 << 20, origin_name_), nullptr, false);
      if (json.is_object()) origin_ = {json.value("url", ""), json.value("etag", "")};
    }
  }

  void restart() {
    if (ftruncate(file_.get(), 0) != 0 || lseek(file_.get(), 0, SEEK_SET) < 0) {
      throw DiskError("cannot shorten " + name_);
    }
    size_bytes_ = 0;
    hasher_.reset();
  }

  void append(std::span<const std::byte> bytes) {
    write_all(file_.get(), bytes, (folder_.path() / name_).string());
    hasher_.update(bytes);
    size_bytes_ += static_cast<int64_t>(bytes.size());
  }

  void remember_origin(const std::string& url, const std::string& etag) {
    if (origin_.url == url && origin_.etag == etag) return;
    origin_ = {url, etag};
    const std::string text = nlohmann::json({{"url", url}, {"etag", etag}}).dump();
    const FileDescriptor file = folder_.open(origin_name_, O_WRONLY | O_CREAT | O_TRUNC);
    write_all(file.get(), std::as_bytes(std::span(text)), origin_name_);
  }

  void remove() {
    folder_.remove(name_);
    folder_.remove(origin_name_);
  }

  // Makes the bytes durable and moves them to their place.
  void finish(Store& store, const Digest& digest) {
    sync(file_.get(), name_);
    store.adopt(folder_, name_, digest);
    folder_.remove(origin_name_);
  }

  Digest finish_digest() { return hasher_.finish(); }
  int64_t size_bytes() const { return size_bytes_; }
  const Origin& origin() const { return origin_; }

 private:
  const Folder& folder_;
  std::string name_;
  std::string origin_name_;
  FileDescriptor file_;
  Hasher hasher_;
  int64_t size_bytes_ = 0;
  Origin origin_;
};

bool is_strong(const std::string& etag) { return etag.size() > 2 && etag.starts_with('"'); }

class Download {
 public:
  Download(Store& store, const RemoteFile& file, const DownloadOptions& options)
      : store_(store),
        file_(file),
        options_(options),
        total_bytes_(file.size_bytes),
        client_({.stall = options.stall}, options.is_cancelled),
        part_(store.partial(), file.digest) {}

  void run() {
    part_.load(file_, options_);
    const bool continued = part_.size_bytes() > 0;
    check_space(store_, total_bytes_ - part_.size_bytes(), file_.file_name);
    fetch();
    Digest found = part_.finish_digest();
    if (found != file_.digest && continued) {
      // The part may have been another file's: once more, from nothing.
      note(fmt::format("{}: what was there before did not fit; starting again", file_.file_name));
      part_.restart();
      fetch();
      found = part_.finish_digest();
    }
    if (found != file_.digest) {
      part_.remove();
      throw Error(
          ErrorCode::invalid_file,
          fmt::format("{}: the digest of what {} sent is {}, but {} was stated; the file was "
                      "removed",
                      file_.file_name, Url::parse(file_.url).to_string(), found.to_string(),
                      file_.digest.to_string()));
    }
    part_.finish(store_, file_.digest);
  }

 private:
  // Attempts until all bytes are there.
  void fetch() {
    Retries retries = retries_of(options_);
    for (int attempt = 0; attempt < max_attempts; ++attempt) {
      const int64_t before_bytes = part_.size_bytes();
      try {
        if (attempt_once()) return;
        throw HttpError(ErrorCode::io,
                        fmt::format("{}: the connection ended after {} of {} bytes",
                                    file_.file_name, part_.size_bytes(), total_bytes_),
                        0, /*may_pass=*/true);
      } catch (const HttpError& error) {
        if (part_.size_bytes() > before_bytes) retries.reset();
        retries.wait_after(error);
      }
    }
    throw Error(ErrorCode::io,
                fmt::format("{}: the connection was cut {} times", file_.file_name, max_attempts));
  }

  // True where the file is whole.
  bool attempt_once() {
    HttpRequest request{
        .url = file_.url, .bearer_token = file_.bearer_token, .range_start = part_.size_bytes()};
    if (total_bytes_ > 0 && part_.size_bytes() == total_bytes_) return true;
    if (part_.size_bytes() > 0 && part_.origin().url == file_.url &&
        is_strong(part_.origin().etag)) {
      request.if_range = part_.origin().etag;
    }
    const HttpHead head = client_.send(
        request, [&](const HttpHead& answer) { begin(answer); },
        [&](std::span<const std::byte> bytes) { take(bytes); });
    if (head.status == 416) {
      part_.restart();
      return false;
    }
    return total_bytes_ <= 0 || part_.size_bytes() == total_bytes_;
  }

  // Decides whether the body continues the part or replaces it.
  void begin(const HttpHead& head) {
    if (head.status == 416) {
      // Nothing after the part: it is whole, or too long.
      if (head.range_total == part_.size_bytes()) total_bytes_ = head.range_total;
      return;
    }
    const bool continues = head.status == 206 && head.range_start == part_.size_bytes();
    const bool is_other_file = is_strong(head.etag) && part_.origin().url == file_.url &&
                               is_strong(part_.origin().etag) && part_.origin().etag != head.etag;
    if (head.status == 206 && (!continues || is_other_file)) {
      part_.restart();
      part_.remember_origin(file_.url, head.etag);
      throw HttpError(ErrorCode::io,
                      fmt::format("{}: the file changed on the server", file_.file_name), 206,
                      /*may_pass=*/true);
    }
    if (!continues && part_.size_bytes() > 0) part_.restart();
    const int64_t stated_bytes = continues ? head.range_total : head.content_bytes;
    if (stated_bytes > 0) expect(stated_bytes);
    part_.remember_origin(file_.url, head.etag);
  }

  void expect(int64_t stated_bytes) {
    if (file_.size_bytes > 0 && stated_bytes != file_.size_bytes) {
      throw HttpError(ErrorCode::invalid_file,
                      fmt::format("{}: the server has {} bytes, the hub states {}", file_.file_name,
                                  stated_bytes, file_.size_bytes),
                      0, /*may_pass=*/false);
    }
    if (total_bytes_ <= 0) check_space(store_, stated_bytes - part_.size_bytes(), file_.file_name);
    total_bytes_ = stated_bytes;
  }

  void take(std::span<const std::byte> bytes) {
    if (total_bytes_ > 0 &&
        part_.size_bytes() + static_cast<int64_t>(bytes.size()) > total_bytes_) {
      throw HttpError(
          ErrorCode::invalid_file,
          fmt::format("{}: the server sends more than {} bytes", file_.file_name, total_bytes_), 0,
          /*may_pass=*/false);
    }
    part_.append(bytes);
    if (options_.on_progress)
      options_.on_progress({file_.file_name, part_.size_bytes(), total_bytes_});
  }

  void note(std::string_view line) const {
    if (options_.on_note) options_.on_note(line);
  }

  Store& store_;
  const RemoteFile& file_;
  const DownloadOptions& options_;
  int64_t total_bytes_;
  HttpClient client_;
  Part part_;
};

}  // namespace

Retries retries_of(const DownloadOptions& options) {
  return Retries(options.retry, options.is_cancelled, options.on_note);
}

void check_space(const Store& store, int64_t needed_bytes, std::string_view what) {
  const int64_t free_bytes = store.free_bytes();
  if (needed_bytes <= 0 || needed_bytes + margin_bytes <= free_bytes) return;
  throw DiskError(
      fmt::format("not enough space for {}: it needs {:.1f} MB more, and {} has {:.1f} MB free (16 "
                  "MB of it are left "
                  "for others); remove models with 'ridge rm' or choose another place with --home "
                  "or RIDGE_HOME",
                  what, needed_bytes / 1e6, store.root().string(), free_bytes / 1e6));
}

FileLock lock_digest(const Store& store, const Digest& digest, const DownloadOptions& options) {
  const std::string name = "sha256-" + digest.to_string() + ".lock";
  bool told = false;
  while (true) {
    if (auto held = FileLock::try_acquire(store.partial(), name)) return *std::move(held);
    if (!told && options.on_note)
      options.on_note("another ridge fetches this file; waiting for it");
    told = true;
    wait(milliseconds(200), options.is_cancelled);
  }
}

std::optional<StoredFile> checked_file(Store& store, const Digest& digest,
                                       std::string_view file_name, const DownloadOptions& options) {
  const auto status = store.check_blob(
      digest, [&](int64_t) { return !options.is_cancelled || !options.is_cancelled(); });
  if (!status) return std::nullopt;
  return StoredFile{std::string(file_name), digest, status->size_bytes, status->mtime_ns,
                    status->inode};
}

StoredFile download(Store& store, const RemoteFile& file, const DownloadOptions& options) {
  const FileLock held = lock_digest(store, file.digest, options);
  if (auto here = checked_file(store, file.digest, file.file_name, options)) return *here;
  Download(store, file, options).run();
  const auto status = store.blob(file.digest);
  if (!status)
    throw Error(ErrorCode::unavailable, file.file_name + " was removed meanwhile; try again");
  return {file.file_name, file.digest, status->size_bytes, status->mtime_ns, status->inode};
}

}  // namespace ridge::platform

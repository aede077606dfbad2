#include "platform/prepared_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

namespace ridge::platform {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view weights_suffix = ".weights";
constexpr std::string_view draft_suffix = ".weights.draft";
constexpr int64_t reserve_bytes = int64_t{256} << 20;  // that other programs may need meanwhile
constexpr int64_t max_record_bytes = 1 << 16;
// A file changed again within the clock's step would look the same.
constexpr int64_t settled_ns = 2'000'000'000;

std::string file_name_of(const PreparedIdentity& identity) {
  return fmt::format("sha256-{}-{}{}", identity.model.to_string(),
                     Digest::of(identity.layout).to_string().substr(0, 16), weights_suffix);
}

FileWatch::Look look_at(const std::filesystem::path& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) {
    throw DiskError(fmt::format("cannot look at {}: {}", file.string(), std::strerror(errno)));
  }
  const auto ns = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {status.st_size, ns(status.st_mtim), ns(status.st_ctim), status.st_ino, status.st_dev};
}

std::vector<FileWatch::Look> look_at(const std::vector<std::filesystem::path>& files) {
  std::vector<FileWatch::Look> looks;
  for (const std::filesystem::path& file : files) looks.push_back(look_at(file));
  return looks;
}

Json to_json(const FileWatch& files) {
  Json json = Json::array();
  for (size_t i = 0; i < files.files().size(); ++i) {
    const FileWatch::Look& look = files.looks()[i];
    json.push_back({{"path", std::filesystem::absolute(files.files()[i]).string()},
                    {"size_bytes", look.size_bytes},
                    {"mtime_ns", look.mtime_ns},
                    {"ctime_ns", look.ctime_ns},
                    {"inode", look.inode},
                    {"device", look.device}});
  }
  return json;
}

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool is_settled(const FileWatch& files) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t now_ns = int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  for (const FileWatch::Look& look : files.looks()) {
    if (now_ns - std::max(look.mtime_ns, look.ctime_ns) < settled_ns) return false;
  }
  return true;
}

std::optional<Digest> read_record(const Folder& folder, const std::string& name,
                                  const std::string& files) {
  const FileDescriptor file = folder.open(name, O_RDONLY);
  if (!file) return std::nullopt;
  const Json record =
      Json::parse(read_all(file.get(), max_record_bytes, name), nullptr, /*exceptions=*/false);
  if (!record.is_object() || !record.contains("files") || !record.contains("sha256") ||
      !record["sha256"].is_string() || text_of(record["files"]) != files) {
    return std::nullopt;
  }
  return Digest::parse(record["sha256"].get<std::string>());
}

void write_record(const Folder& folder, const std::string& name, const Json& record) {
  const std::string draft = name + ".new";
  const std::string text = text_of(record);
  {
    const FileDescriptor file = folder.open(draft, O_WRONLY | O_CREAT | O_TRUNC);
    write_all(file.get(), std::as_bytes(std::span(text)), draft);
    sync(file.get(), draft);
  }
  folder.rename(draft, folder, name);
}

}  // namespace

Digest model_digest(std::span<const Digest> parts) {
  RIDGE_ASSERT(!parts.empty());
  if (parts.size() == 1) return parts.front();
  std::string joined;
  for (const Digest& part : parts) joined += part.to_string();
  return Digest::of(joined);
}

Digest model_digest(const Manifest& manifest) {
  std::vector<Digest> parts;
  for (const StoredFile& file : manifest.files) parts.push_back(file.digest);
  return model_digest(parts);
}

FileWatch::FileWatch(std::vector<std::filesystem::path> files)
    : files_(std::move(files)), looks_(look_at(files_)) {}

bool FileWatch::unchanged() const {
  try {
    return look_at(files_) == looks_;
  } catch (const DiskError&) {
    return false;
  }
}

PreparedCache::PreparedCache(Folder folder, std::function<int64_t()> free_bytes)
    : folder_(std::move(folder)), free_bytes_(std::move(free_bytes)) {
  if (free_bytes_) return;
  free_bytes_ = [this] {
    struct statvfs status {};
    if (fstatvfs(folder_.descriptor(), &status) != 0) {
      throw DiskError(fmt::format("cannot ask for the free space of {}", path().string()));
    }
    return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
  };
}

std::optional<PreparedFile> PreparedCache::open(const PreparedIdentity& identity,
                                                int threads) const {
  return PreparedFile::open(folder_, file_name_of(identity), identity, threads);
}

std::unique_ptr<PreparedCache::Writing> PreparedCache::create(const PreparedTitle& title,
                                                              int64_t bytes) const {
  // What a killed process left behind, before the room is measured.
  remove_files([](const std::string& name) { return name.ends_with(draft_suffix); });
  const int64_t free = free_bytes_();
  if (bytes > free - reserve_bytes) {
    throw DiskError(fmt::format("they take {} MB and only {} MB of the disk are free",
                                bytes / 1'000'000, free / 1'000'000));
  }
  const std::string name = file_name_of(title.identity);
  auto lock = FileLock::try_acquire(folder_, name + ".lock");
  if (!lock) return nullptr;
  auto file = std::make_unique<PreparedFileWriter>(folder_, name, title, bytes);
  return std::unique_ptr<Writing>(new Writing{*std::move(lock), std::move(file)});
}

std::optional<FileLock> PreparedCache::lock_of_draft(const std::string& draft) const {
  const std::string name = draft.substr(0, draft.size() - draft_suffix.size());
  return FileLock::try_acquire(folder_, fmt::format("{}{}.lock", name, weights_suffix));
}

std::vector<PreparedCache::Entry> PreparedCache::list() const {
  std::vector<Entry> entries;
  for (const std::string& name : folder_.list()) {
    const bool is_draft = name.ends_with(draft_suffix);
    if (!is_draft && !name.ends_with(weights_suffix)) continue;
    if (is_draft && !lock_of_draft(name)) continue;
    const auto status = folder_.status(name);
    if (!status) continue;
    entries.push_back(
        {name, is_draft ? std::nullopt : read_prepared_title(folder_, name), status->size_bytes});
  }
  return entries;
}

int64_t PreparedCache::remove_files(
    const std::function<bool(const std::string& name)>& wanted) const {
  int64_t freed_bytes = 0;
  for (const std::string& name : folder_.list()) {
    if (!wanted(name)) continue;
    const bool is_draft = name.ends_with(draft_suffix);
    const auto lock = is_draft ? lock_of_draft(name) : std::nullopt;
    if (is_draft && !lock) continue;
    const auto status = folder_.status(name);
    if (folder_.remove(name) && status) freed_bytes += status->size_bytes;
  }
  return freed_bytes;
}

int64_t PreparedCache::remove(const std::set<Digest>& models) const {
  return remove_files([&](const std::string& name) {
    if (!name.starts_with("sha256-")) return false;
    const auto digest = Digest::parse(std::string_view(name).substr(7, 64));
    return digest && models.contains(*digest) && !name.ends_with(".lock");
  });
}

int64_t PreparedCache::remove_titled(std::string_view title) const {
  return remove_files([&](const std::string& name) {
    if (!name.ends_with(weights_suffix)) return false;
    const auto found = read_prepared_title(folder_, name);
    return found && found->title == title;
  });
}

int64_t PreparedCache::remove_all() const {
  return remove_files([](const std::string& name) { return !name.ends_with(".lock"); });
}

void PreparedCache::discard(const PreparedIdentity& identity) const {
  folder_.remove(file_name_of(identity));
}

Digest PreparedCache::digest_of(const FileWatch& files,
                                const std::function<bool(int64_t, int64_t)>& on_progress) const {
  const Json looks = to_json(files);
  const std::string name =
      fmt::format("digest-{}.json", Digest::of(looks[0]["path"].get<std::string>()).to_string());
  if (const auto known = read_record(folder_, name, text_of(looks))) return *known;
  int64_t total_bytes = 0;
  for (const FileWatch::Look& look : files.looks()) total_bytes += look.size_bytes;
  int64_t before_bytes = 0;
  std::vector<Digest> parts;
  const bool settled = is_settled(files);
  for (const std::filesystem::path& path : files.files()) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) {
      throw Error(ErrorCode::io,
                  fmt::format("cannot read {}: {}", path.string(), std::strerror(errno)));
    }
    const int64_t size_bytes = status_of(file.get()).size_bytes;
    Hasher hasher;
    hash_file(file.get(), size_bytes, hasher, [&](int64_t done_bytes) {
      return !on_progress || on_progress(before_bytes + done_bytes, total_bytes);
    });
    before_bytes += size_bytes;
    parts.push_back(hasher.finish());
  }
  const Digest digest = model_digest(parts);
  // The caller looks again before it trusts the digest; here only what will be remembered matters.
  if (settled && files.unchanged()) {
    write_record(folder_, name, {{"sha256", digest.to_string()}, {"files", looks}});
  }
  return digest;
}

}  // namespace ridge::platform

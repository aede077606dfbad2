#include "platform/store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <set>
#include <thread>

#include "platform/manifest_file.h"

namespace ridge::platform {
namespace {

constexpr int64_t max_manifest_bytes = 1 << 20;

std::string blob_name(const Digest& digest) { return "sha256-" + digest.to_string(); }

bool is_same(const StoredFile& file, const FileStatus& status) {
  return file.size_bytes == status.size_bytes && file.mtime_ns == status.mtime_ns &&
         file.inode == status.inode;
}

Manifest read_manifest(const Folder& folder, const std::string& file_name) {
  const FileDescriptor file = folder.open(file_name, O_RDONLY);
  const std::string path = (folder.path() / file_name).string();
  if (!file) throw Error(ErrorCode::not_found, fmt::format("{} is gone", path));
  return manifest_from_json(read_all(file.get(), max_manifest_bytes, path), path);
}

}  // namespace

int64_t Manifest::size_bytes() const {
  int64_t sum = 0;
  for (const StoredFile& file : files) sum += file.size_bytes;
  return sum;
}

std::filesystem::path Store::default_root() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (const auto home = variable("RIDGE_HOME"); !home.empty()) return home;
  // The XDG base directory specification: a relative path is to be ignored.
  if (const auto data = variable("XDG_DATA_HOME"); data.is_absolute()) return data / "ridge";
  if (const auto home = variable("HOME"); !home.empty()) return home / ".local/share/ridge";
  if (const passwd* user = getpwuid(getuid()); user != nullptr && user->pw_dir != nullptr) {
    return std::filesystem::path(user->pw_dir) / ".local/share/ridge";
  }
  throw Error(ErrorCode::invalid_argument,
              "there is no home folder to keep models in; set RIDGE_HOME or give --home DIR");
}

Store::Store(const std::filesystem::path& root)
    : root_(Folder::open_path(root)),
      blobs_(root_.open_folder("blobs")),
      manifests_(root_.open_folder("manifests")),
      partial_(root_.open_folder("partial")),
      quarantine_(root_.open_folder("quarantine")),
      split_(root_.open_folder("split")) {}

std::vector<Manifest> Store::list() const {
  std::vector<Manifest> manifests;
  for (const std::string& file_name : manifests_.list()) {
    if (file_name.ends_with(".json")) manifests.push_back(read_manifest(manifests_, file_name));
  }
  return manifests;
}

std::optional<Manifest> Store::find(std::string_view name) const {
  const std::string file_name = manifest_file_name(name);
  if (!manifests_.status(file_name)) return std::nullopt;
  return read_manifest(manifests_, file_name);
}

Manifest Store::get(std::string_view name) const {
  if (auto manifest = find(name)) return *std::move(manifest);
  throw Error(ErrorCode::not_found,
              fmt::format("{} is not on this machine; fetch it with: ridge pull {}", name, name));
}

std::filesystem::path Store::open_checked(std::string_view name) const {
  const Manifest manifest = get(name);
  for (const StoredFile& file : manifest.files) {
    const auto status = blobs_.status(blob_name(file.digest));
    if (!status) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: its file {} is gone; fetch it again with: ridge pull {}", name,
                              file.file_name, name));
    }
    if (!is_same(file, *status)) {
      throw Error(
          ErrorCode::invalid_file,
          fmt::format("{}: its file {} was touched since its digest was checked; check it with: "
                      "ridge verify {}",
                      name, file.file_name, name));
    }
  }
  const StoredFile& first = manifest.files.front();
  if (manifest.files.size() == 1) return blobs_.path() / blob_name(first.digest);
  return split_.path() / first.digest.to_string() / first.file_name;
}

void Store::verify(std::string_view name,
                   const std::function<bool(int64_t, int64_t)>& on_progress) {
  Manifest manifest = get(name);
  const int64_t total_bytes = manifest.size_bytes();
  int64_t before_bytes = 0;
  std::string damage;
  for (StoredFile& file : manifest.files) {
    const auto status = check(
        file.digest, file.file_name,
        [&](int64_t done_bytes) {
          return !on_progress || on_progress(before_bytes + done_bytes, total_bytes);
        },
        damage);
    before_bytes += file.size_bytes;
    if (!status) continue;
    file.size_bytes = status->size_bytes;
    file.mtime_ns = status->mtime_ns;
    file.inode = status->inode;
  }
  if (!damage.empty()) {
    throw Error(
        ErrorCode::invalid_file,
        fmt::format("{} is damaged: {}fetch it again with: ridge pull {}", name, damage, name));
  }
  const FileLock held = lock();
  if (find(name)) write_manifest(manifest);
}

std::optional<FileStatus> Store::check(const Digest& digest, std::string_view file_name,
                                       const std::function<bool(int64_t)>& on_progress,
                                       std::string& damage) {
  const std::string blob = blob_name(digest);
  const FileDescriptor descriptor = blobs_.open(blob, O_RDONLY);
  if (!descriptor) {
    damage += fmt::format("{} is gone; ", file_name);
    return std::nullopt;
  }
  const FileStatus status = status_of(descriptor.get());
  Hasher hasher;
  hash_file(descriptor.get(), status.size_bytes, hasher, on_progress);
  const Digest found = hasher.finish();
  if (found == digest) return status;
  const std::string kept = fmt::format("{}-{}", blob, std::time(nullptr));
  blobs_.rename(blob, quarantine_, kept);
  blobs_.sync();
  damage +=
      fmt::format("{} has the digest {} instead of {} and was moved to {}; ", file_name,
                  found.to_string(), digest.to_string(), (quarantine_.path() / kept).string());
  return std::nullopt;
}

void Store::put(const Manifest& manifest) {
  RIDGE_ASSERT(!manifest.files.empty());
  const FileLock held = lock();
  for (const StoredFile& file : manifest.files) {
    if (!blob(file.digest)) {
      throw Error(ErrorCode::unavailable,
                  fmt::format("{}: its file {} was removed meanwhile; try again", manifest.name,
                              file.file_name));
    }
  }
  if (manifest.files.size() > 1) {
    const Folder links = split_.open_folder(manifest.files.front().digest.to_string());
    for (const StoredFile& file : manifest.files) {
      links.link_symbolic("../../blobs/" + blob_name(file.digest), file.file_name);
    }
    links.sync();
    split_.sync();
  }
  write_manifest(manifest);
}

void Store::write_manifest(const Manifest& manifest) {
  const std::string file_name = manifest_file_name(manifest.name);
  const std::string draft = file_name + ".new";
  const std::string text = manifest_to_json(manifest);
  {
    const FileDescriptor file = manifests_.open(draft, O_WRONLY | O_CREAT | O_TRUNC);
    write_all(file.get(), std::as_bytes(std::span(text)), draft);
    platform::sync(file.get(), draft);
  }
  manifests_.rename(draft, manifests_, file_name);
  manifests_.sync();
}

int64_t Store::remove(std::string_view name) {
  const FileLock held = lock();
  const Manifest manifest = get(name);
  manifests_.remove(manifest_file_name(name));
  manifests_.sync();
  std::set<Digest> still_used;
  std::set<Digest> still_first;
  for (const Manifest& other : list()) {
    if (other.files.size() > 1) still_first.insert(other.files.front().digest);
    for (const StoredFile& file : other.files) still_used.insert(file.digest);
  }
  const Digest& first = manifest.files.front().digest;
  if (manifest.files.size() > 1 && !still_first.contains(first)) {
    split_.remove_folder(first.to_string());
  }
  int64_t freed_bytes = 0;
  for (const StoredFile& file : manifest.files) {
    if (still_used.contains(file.digest)) continue;
    if (blobs_.remove(blob_name(file.digest))) freed_bytes += file.size_bytes;
  }
  blobs_.sync();
  return freed_bytes;
}

std::optional<FileStatus> Store::blob(const Digest& digest) const {
  return blobs_.status(blob_name(digest));
}

std::optional<FileStatus> Store::check_blob(const Digest& digest,
                                            const std::function<bool(int64_t)>& on_progress) {
  if (!blob(digest)) return std::nullopt;
  std::string damage;
  return check(digest, blob_name(digest), on_progress, damage);
}

void Store::adopt(const Folder& from, std::string_view file_name, const Digest& digest) {
  from.rename(file_name, blobs_, blob_name(digest));
  blobs_.sync();
  from.sync();
}

int64_t Store::free_bytes() const {
  struct statvfs status {};
  if (fstatvfs(root_.descriptor(), &status) != 0) {
    throw DiskError(fmt::format("cannot ask for the free space of {}", root().string()));
  }
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

FileLock Store::lock() const {
  while (true) {
    if (auto held = FileLock::try_acquire(root_, "lock")) return *std::move(held);
    // Held for a few file operations only.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace ridge::platform

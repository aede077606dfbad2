#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "platform/digest.h"
#include "platform/folder.h"

namespace ridge::platform {

// A file of a model, and how it looked on the disk when its digest was last checked.
struct StoredFile {
  std::string file_name;  // as its source calls it
  Digest digest;
  int64_t size_bytes;
  int64_t mtime_ns;
  uint64_t inode;
};

// What the store knows of a model.
struct Manifest {
  std::string name;  // "deepseek-r1:1.5b-q8_0", "hf:organisation/repository:Q4_K_M"
  std::string title;
  std::string quantization;
  std::string license;
  std::string license_note;
  std::string source;             // "Hugging Face unsloth/..."
  int64_t pulled_at_s = 0;        // since 1970
  std::vector<StoredFile> files;  // the parts of a split model in order; never empty

  int64_t size_bytes() const;
};

// The models of this machine, below one root folder:
//   blobs/sha256-DIGEST     files by content; there only when whole and checked
//   manifests/NAME.json     models by name
//   split/DIGEST/FILE       links that give the parts of a split model their own names
//   partial/                downloads under way (see download.h)
//   prepared/               weights as devices want them (see prepared_cache.h)
//   quarantine/             files that no longer have their digest
// Several processes may use one store at once. Throws DiskError where the disk fails.
class Store {
 public:
  // RIDGE_HOME, else XDG_DATA_HOME/ridge, else ~/.local/share/ridge. Throws invalid_argument where
  // none of them is set.
  static std::filesystem::path default_root();
  explicit Store(const std::filesystem::path& root);

  const std::filesystem::path& root() const { return root_.path(); }

  std::vector<Manifest> list() const;  // by name
  std::optional<Manifest> find(std::string_view name) const;
  // As find(), but throws not_found that says how to pull it.
  Manifest get(std::string_view name) const;

  // The file to open for the model: its one file, or the first part, beside which the others stand.
  // Looks at size, time and inode only. Throws not_found where the model is not here, and
  // invalid_file, naming the command that helps, where a file is gone or was touched since its
  // digest was checked.
  std::filesystem::path open_checked(std::string_view name) const;

  // Reads all files again. Records the new time and inode of those that are right, moves others to
  // the quarantine, and then throws invalid_file naming both digests. `on_progress` is told bytes
  // done and in total, and returns false to stop, which throws cancelled.
  void verify(std::string_view name,
              const std::function<bool(int64_t done_bytes, int64_t total_bytes)>& on_progress = {});

  // Names a model whose files are all in blobs/. Replaces a model of the same name.
  void put(const Manifest& manifest);
  // Forgets a model, and deletes those of its files that no other model has. Returns the bytes
  // freed; throws not_found.
  int64_t remove(std::string_view name);

  // For downloads: the state of a blob, and the move of a whole,
  // checked and synced file to its place.
  std::optional<FileStatus> blob(const Digest& digest) const;
  // As blob(), but reads it all, and moves one with another digest to the quarantine: nullopt then.
  std::optional<FileStatus> check_blob(const Digest& digest,
                                       const std::function<bool(int64_t done_bytes)>& on_progress);
  void adopt(const Folder& from, std::string_view file_name, const Digest& digest);
  const Folder& partial() const { return partial_; }
  // For prepared_cache.h; created where missing.
  Folder prepared() const { return root_.open_folder("prepared"); }
  // Bytes that this user may still write to the disk of the store.
  int64_t free_bytes() const;

 private:
  // Digests the blob; where it is wrong it is quarantined and `damage` says so.
  std::optional<FileStatus> check(const Digest& digest, std::string_view file_name,
                                  const std::function<bool(int64_t)>& on_progress,
                                  std::string& damage);
  void write_manifest(const Manifest& manifest);
  FileLock lock() const;  // of names and blobs; waits

  Folder root_;
  Folder blobs_;
  Folder manifests_;
  Folder partial_;
  Folder quarantine_;
  Folder split_;
};

}  // namespace ridge::platform

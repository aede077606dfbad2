#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "platform/prepared_file.h"
#include "platform/store.h"

namespace ridge::platform {

// The digest that stands for a model of one file or of several parts.
Digest model_digest(std::span<const Digest> parts);
Digest model_digest(const Manifest& manifest);

// A model's files as they looked at some time, to notice a later change.
class FileWatch {
 public:
  // Throws DiskError where one cannot be looked at.
  explicit FileWatch(std::vector<std::filesystem::path> files);
  bool unchanged() const;
  const std::vector<std::filesystem::path>& files() const { return files_; }

  struct Look {
    int64_t size_bytes;
    int64_t mtime_ns;
    int64_t ctime_ns;  // no program can set it back
    uint64_t inode;
    uint64_t device;
    bool operator==(const Look&) const = default;
  };
  const std::vector<Look>& looks() const { return looks_; }

 private:
  std::vector<std::filesystem::path> files_;
  std::vector<Look> looks_;
};

// The folder of prepared weights in a store:
//   sha256-MODEL-LAYOUT.weights         see prepared_file.h; LAYOUT is a digest of the layout's
//   name sha256-MODEL-LAYOUT.weights.draft   being written by the process that holds the .lock
//   digest-PATH.json                    digests of files outside the store, with how they looked
class PreparedCache {
 public:
  // A writer with the lock that makes it the only one.
  struct Writing {
    FileLock lock;
    std::unique_ptr<PreparedFileWriter> file;
  };
  struct Entry {
    std::string file_name;
    std::optional<PreparedTitle> title;  // nullopt: a draft that nobody writes, or damaged
    int64_t size_bytes;
  };

  // `free_bytes` may be empty: the disk is asked.
  explicit PreparedCache(Folder folder, std::function<int64_t()> free_bytes = {});
  PreparedCache(const PreparedCache&) = delete;
  PreparedCache& operator=(const PreparedCache&) = delete;

  const std::filesystem::path& path() const { return folder_.path(); }

  // As PreparedFile::open.
  std::optional<PreparedFile> open(const PreparedIdentity& identity, int threads) const;
  // nullptr where another process writes the same file. Throws DiskError where `bytes` and a
  // reserve do not fit on the disk, saying so.
  std::unique_ptr<Writing> create(const PreparedTitle& title, int64_t bytes) const;

  std::vector<Entry> list() const;  // without drafts that are being written
  // Removes all that belongs to the models, or everything. Returns the bytes freed.
  int64_t remove(const std::set<Digest>& models) const;
  int64_t remove_titled(std::string_view title) const;
  int64_t remove_all() const;
  void discard(const PreparedIdentity& identity) const;

  // The model's digest, read once and then remembered for as long as the files look the same.
  // `on_progress` as Store::verify. Throws io, cancelled.
  Digest digest_of(
      const FileWatch& files,
      const std::function<bool(int64_t done_bytes, int64_t total_bytes)>& on_progress) const;

 private:
  // nullopt while somebody writes the draft.
  std::optional<FileLock> lock_of_draft(const std::string& draft) const;
  int64_t remove_files(const std::function<bool(const std::string& name)>& wanted) const;

  const Folder folder_;
  std::function<int64_t()> free_bytes_;
};

}  // namespace ridge::platform

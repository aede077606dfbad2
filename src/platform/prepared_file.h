#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "platform/digest.h"
#include "platform/folder.h"

namespace ridge::platform {

// Which weights a file of prepared weights holds.
struct PreparedIdentity {
  Digest model;        // of the model's file; of a split one, of its parts' digests in a row
  std::string layout;  // what the bytes mean, as the device calls it
};

// A file of prepared weights:
//   0       header: magic, where the table stands, sums of both; 4096 bytes
//   4096    ranges of bytes, each from a multiple of 4096 on
//   then    table (JSON): identity, title, and of each range its key, place, and the XXH64 of each
//           4 MiB of it
// Damage by accident is always found. Against a person who may write here the sums are no defence,
// nor are they needed: any bytes are weights, and that person could write the model's file as well.
class PreparedFile {
 public:
  // Maps the file and reads every byte once, `threads` at a time. nullopt where there is none.
  // Throws invalid_file, saying what is wrong, where it is damaged or of another identity.
  static std::optional<PreparedFile> open(const Folder& folder, std::string_view name,
                                          const PreparedIdentity& identity, int threads);

  // From a multiple of 4096 on; valid while this lives. Empty where there is no such key.
  std::span<const std::byte> find(std::string_view key) const;
  int64_t size_bytes() const { return static_cast<int64_t>(mapping_.bytes().size()); }

 private:
  // Other processes that map the file share its pages.
  class Mapping {
   public:
    Mapping() = default;
    Mapping(int descriptor, size_t bytes);  // throws DiskError
    ~Mapping();
    Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
    Mapping& operator=(Mapping&& other) noexcept {
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    std::span<const std::byte> bytes() const { return bytes_; }

   private:
    std::span<const std::byte> bytes_;
  };

  PreparedFile() = default;
  void check_ranges(const std::map<std::string, std::vector<uint64_t>>& sums, int threads) const;

  Mapping mapping_;
  std::map<std::string, std::span<const std::byte>, std::less<>> ranges_;
};

// What a file says of itself, without a look at its ranges.
struct PreparedTitle {
  PreparedIdentity identity;
  std::string title;  // the model's name or path, for people
};
// nullopt where there is no such file or it says nothing that can be believed.
std::optional<PreparedTitle> read_prepared_title(const Folder& folder, std::string_view name);

// Writes such a file under a draft's name; only finish() gives it its own.
class PreparedFileWriter {
 public:
  // Claims the disk space for `bytes` of ranges, whose number is `ranges` at most. Throws
  // DiskError.
  PreparedFileWriter(const Folder& folder, std::string name, PreparedTitle title, int64_t bytes);
  ~PreparedFileWriter();  // removes an unfinished draft
  PreparedFileWriter(const PreparedFileWriter&) = delete;
  PreparedFileWriter& operator=(const PreparedFileWriter&) = delete;

  // Throws DiskError.
  void add(std::string_view key, std::span<const std::byte> bytes);
  // Writes all to the disk and names it. Returns the file's size. Throws DiskError.
  int64_t finish();

  static std::string draft_name(std::string_view name) { return std::string(name) + ".draft"; }

 private:
  struct Range {
    std::string key;
    uint64_t offset;
    uint64_t bytes;
    std::vector<uint64_t> sums;
  };
  void write(std::span<const std::byte> bytes);
  void pad();

  const Folder& folder_;
  const std::string name_;
  const PreparedTitle title_;
  FileDescriptor file_;
  uint64_t at_ = 0;
  std::vector<Range> ranges_;
  bool finished_ = false;
};

}  // namespace ridge::platform

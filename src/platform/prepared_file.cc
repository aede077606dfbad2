#include "platform/prepared_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/checksum.h"

namespace ridge::platform {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t page_bytes = 4096;
constexpr uint64_t sum_chunk_bytes = uint64_t{4} << 20;
constexpr uint64_t max_table_bytes = uint64_t{64} << 20;
constexpr int table_version = 1;

struct Header {
  std::array<char, 8> magic;
  uint64_t table_offset;
  uint64_t table_bytes;
  uint64_t table_sum;
  uint64_t file_bytes;
  uint64_t sum;  // of the above
};
constexpr std::array<char, 8> magic = {'R', 'I', 'D', 'G', 'E', 'P', 'W', '\n'};

uint64_t sum_of(const Header& header) {
  return xxh64(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, sum)));
}

[[noreturn]] void refuse(std::string_view what) {
  throw Error(ErrorCode::invalid_file, std::string(what));
}

std::vector<uint64_t> sums_of(std::span<const std::byte> bytes) {
  std::vector<uint64_t> sums;
  for (size_t at = 0; at < bytes.size(); at += sum_chunk_bytes) {
    sums.push_back(xxh64(bytes.subspan(at, std::min<size_t>(sum_chunk_bytes, bytes.size() - at))));
  }
  return sums;
}

// Fills all or throws invalid_file.
void read_at(int descriptor, uint64_t offset, std::span<std::byte> to) {
  while (!to.empty()) {
    const ssize_t got = pread(descriptor, to.data(), to.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) refuse(got == 0 ? "it is cut off" : std::strerror(errno));
    to = to.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
}

// The checked header of an open file.
Header read_header(int descriptor) {
  Header header;
  read_at(descriptor, 0, std::as_writable_bytes(std::span(&header, 1)));
  if (header.magic != magic) refuse("it is no file of prepared weights");
  if (header.sum != sum_of(header)) refuse("its header is damaged");
  const auto size = static_cast<uint64_t>(status_of(descriptor).size_bytes);
  if (size != header.file_bytes) {
    refuse(fmt::format("it has {} bytes instead of {}", size, header.file_bytes));
  }
  if (header.table_bytes > max_table_bytes || header.table_offset > size ||
      header.table_bytes != size - header.table_offset) {
    refuse("its table lies outside");
  }
  return header;
}

Json read_table(int descriptor, const Header& header) {
  std::string text(header.table_bytes, '\0');
  read_at(descriptor, header.table_offset, std::as_writable_bytes(std::span(text)));
  if (xxh64(std::as_bytes(std::span(text))) != header.table_sum) refuse("its table is damaged");
  Json table = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!table.is_object() || table.value("version", 0) != table_version) {
    refuse("its table is of another version");
  }
  return table;
}

PreparedTitle title_in(const Json& table) {
  return {{Digest::parse_or_throw(table.at("model_sha256").get<std::string>(), "prepared weights"),
           table.at("layout").get<std::string>()},
          table.at("title").get<std::string>()};
}

FileDescriptor open_file(const Folder& folder, std::string_view name) {
  // O_NONBLOCK: a pipe of this name must be refused, not waited for.
  FileDescriptor file = folder.open(name, O_RDONLY | O_NONBLOCK);
  struct stat status {};
  if (file && (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))) {
    refuse("it is no regular file");
  }
  return file;
}

}  // namespace

PreparedFile::Mapping::Mapping(int descriptor, size_t bytes) {
  void* const address = mmap(nullptr, bytes, PROT_READ, MAP_SHARED, descriptor, 0);
  if (address == MAP_FAILED) {
    throw DiskError(fmt::format("cannot map prepared weights: {}", std::strerror(errno)));
  }
  bytes_ = {static_cast<const std::byte*>(address), bytes};
  // Advice only, for file systems that hold large pages.
  madvise(address, bytes, MADV_HUGEPAGE);
}

PreparedFile::Mapping::~Mapping() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

std::optional<PreparedFile> PreparedFile::open(const Folder& folder, std::string_view name,
                                               const PreparedIdentity& identity, int threads) {
  const FileDescriptor descriptor = open_file(folder, name);
  if (!descriptor) return std::nullopt;
  const Header header = read_header(descriptor.get());
  PreparedFile file;
  std::map<std::string, std::vector<uint64_t>> sums;
  try {
    const Json table = read_table(descriptor.get(), header);
    const PreparedTitle title = title_in(table);
    if (title.identity.model != identity.model) refuse("it belongs to another model");
    if (title.identity.layout != identity.layout) refuse("it is in another layout");
    file.mapping_ = Mapping(descriptor.get(), header.file_bytes);
    for (const Json& range : table.at("ranges")) {
      const auto key = range.at("key").get<std::string>();
      const auto offset = range.at("offset").get<uint64_t>();
      const auto bytes = range.at("bytes").get<uint64_t>();
      if (offset % page_bytes != 0 || offset > header.table_offset ||
          bytes > header.table_offset - offset) {
        refuse(fmt::format("its range {} lies outside", key.substr(0, 80)));
      }
      file.ranges_[key] = file.mapping_.bytes().subspan(offset, bytes);
      sums[key] = range.at("xxh64").get<std::vector<uint64_t>>();
    }
  } catch (const Json::exception&) {
    refuse("its table lacks something");
  }
  file.check_ranges(sums, threads);
  return file;
}

void PreparedFile::check_ranges(const std::map<std::string, std::vector<uint64_t>>& sums,
                                int threads) const {
  struct Chunk {
    std::span<const std::byte> bytes;
    uint64_t sum;
  };
  std::vector<Chunk> chunks;
  for (const auto& [key, range] : ranges_) {
    const std::vector<uint64_t>& expected = sums.at(key);
    if (expected.size() != (range.size() + sum_chunk_bytes - 1) / sum_chunk_bytes) {
      refuse(fmt::format("the sums of {} are not complete", key.substr(0, 80)));
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      const size_t at = i * sum_chunk_bytes;
      chunks.push_back(
          {range.subspan(at, std::min<size_t>(sum_chunk_bytes, range.size() - at)), expected[i]});
    }
  }
  std::atomic<size_t> next{0};
  std::atomic<bool> damaged{false};
  const auto check = [&] {
    for (size_t i = next++; i < chunks.size() && !damaged; i = next++) {
      const std::span<const std::byte> bytes = chunks[i].bytes;
      // All pages in one call: faults one by one cost more than the sums. A disk that cannot read
      // fails here instead of raising SIGBUS; older kernels know no such call.
      const bool unreadable =
          madvise(const_cast<std::byte*>(bytes.data()), bytes.size(), MADV_POPULATE_READ) != 0 &&
          errno != EINVAL;
      if (unreadable || xxh64(bytes) != chunks[i].sum) damaged = true;
    }
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(check);
    check();
  }
  if (damaged) refuse("its bytes are damaged");
}

std::span<const std::byte> PreparedFile::find(std::string_view key) const {
  const auto range = ranges_.find(key);
  return range == ranges_.end() ? std::span<const std::byte>() : range->second;
}

std::optional<PreparedTitle> read_prepared_title(const Folder& folder, std::string_view name) {
  try {
    const FileDescriptor descriptor = open_file(folder, name);
    if (!descriptor) return std::nullopt;
    return title_in(read_table(descriptor.get(), read_header(descriptor.get())));
  } catch (const Error&) {
    return std::nullopt;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

PreparedFileWriter::PreparedFileWriter(const Folder& folder, std::string name, PreparedTitle title,
                                       int64_t bytes)
    : folder_(folder),
      name_(std::move(name)),
      title_(std::move(title)),
      file_(folder.open(draft_name(name_), O_WRONLY | O_CREAT | O_TRUNC)) {
  // Where the file system cannot, writing finds out by itself.
  if (fallocate(file_.get(), 0, 0, bytes) != 0 && errno != EOPNOTSUPP && errno != EINTR) {
    const int failure = errno;
    folder_.remove(draft_name(name_));
    throw DiskError(fmt::format("cannot claim {} bytes: {}", bytes, std::strerror(failure)));
  }
  pad();
}

PreparedFileWriter::~PreparedFileWriter() {
  if (finished_) return;
  try {
    folder_.remove(draft_name(name_));
  } catch (const Error&) {
    // The next writer of this name takes the draft over.
  }
}

void PreparedFileWriter::write(std::span<const std::byte> bytes) {
  write_all(file_.get(), bytes, draft_name(name_));
  at_ += bytes.size();
}

// At the start this leaves the header's page, which is written last.
void PreparedFileWriter::pad() {
  static constexpr std::array<std::byte, page_bytes> zeros{};
  const uint64_t rest = at_ == 0 ? page_bytes : (page_bytes - at_ % page_bytes) % page_bytes;
  write(std::span(zeros).first(rest));
}

void PreparedFileWriter::add(std::string_view key, std::span<const std::byte> bytes) {
  ranges_.push_back({std::string(key), at_, bytes.size(), sums_of(bytes)});
  write(bytes);
  pad();
}

int64_t PreparedFileWriter::finish() {
  Json ranges = Json::array();
  for (const Range& range : ranges_) {
    ranges.push_back({{"key", range.key},
                      {"offset", range.offset},
                      {"bytes", range.bytes},
                      {"xxh64", range.sums}});
  }
  const std::string table = Json({{"version", table_version},
                                  {"model_sha256", title_.identity.model.to_string()},
                                  {"layout", title_.identity.layout},
                                  {"title", title_.title},
                                  {"ranges", ranges}})
                                .dump(-1, ' ', false, Json::error_handler_t::replace);
  Header header = {.magic = magic,
                   .table_offset = at_,
                   .table_bytes = table.size(),
                   .table_sum = xxh64(std::as_bytes(std::span(table))),
                   .file_bytes = at_ + table.size(),
                   .sum = 0};
  header.sum = sum_of(header);
  write(std::as_bytes(std::span(table)));
  const std::string draft = draft_name(name_);
  if (ftruncate(file_.get(), static_cast<off_t>(header.file_bytes)) != 0 ||
      lseek(file_.get(), 0, SEEK_SET) != 0) {
    throw DiskError(fmt::format("cannot end {}: {}", draft, std::strerror(errno)));
  }
  write_all(file_.get(), std::as_bytes(std::span(&header, 1)), draft);
  sync(file_.get(), draft);
  folder_.rename(draft, folder_, name_);
  finished_ = true;
  folder_.sync();
  return static_cast<int64_t>(header.file_bytes);
}

}  // namespace ridge::platform

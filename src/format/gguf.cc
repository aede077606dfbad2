#include "format/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <numeric>
#include <optional>
#include <thread>

#include "base/checked.h"
#include "base/cpu_count.h"
#include "base/error.h"
#include "format/gguf_parser.h"
#include "format/gguf_types.h"

namespace ridge::format {

namespace {

constexpr uint32_t split_parts_max = 1'000;

struct Extent {
  uint64_t begin;
  uint64_t end;  // one past the last byte, from the data section's start
  std::string_view tensor;
};

[[noreturn]] void refuse(const std::string& source, std::string_view tensor,
                         const std::string& reason) {
  throw Error(ErrorCode::invalid_file,
              fmt::format("{}: tensor {}: {}", source, quoted_name(tensor), reason));
}

// Bytes of a tensor of a known type; checks that its rows are whole blocks.
uint64_t checked_tensor_bytes(const GgufTensorRecord& record, const GgufTensorType& type,
                              const std::string& source) {
  const auto columns = static_cast<uint64_t>(record.shape.columns());
  if (columns % type.block_elements != 0) {
    refuse(source, record.name,
           fmt::format("rows of {} elements are not whole blocks of {} ({} elements)", columns,
                       type.name, type.block_elements));
  }
  const uint64_t blocks = static_cast<uint64_t>(record.shape.elements()) / type.block_elements;
  const auto size = checked_mul<uint64_t>(blocks, type.block_bytes);
  if (!size) refuse(source, record.name, "its size in bytes does not fit 64 bits");
  return *size;
}

void check_no_overlap(std::vector<Extent>& extents, const std::string& source) {
  std::ranges::sort(extents, {}, &Extent::begin);
  for (size_t i = 1; i < extents.size(); ++i) {
    // Overlap would let a small file fill the memory with many tensors of its full size.
    if (extents[i].begin < extents[i - 1].end) {
      refuse(
          source, extents[i].tensor,
          fmt::format("its bytes overlap those of tensor {}", quoted_name(extents[i - 1].tensor)));
    }
  }
}

// "model-00002-of-00005.gguf" in the folder of `first`, if that is named
// "model-00001-of-00005.gguf".
std::optional<std::filesystem::path> part_path(const std::filesystem::path& any, uint32_t part,
                                               uint32_t parts) {
  const std::string file = any.filename().string();
  const std::string ending = fmt::format("-of-{:05}.gguf", parts);
  constexpr size_t number_bytes = 6;  // "-00001"
  if (!file.ends_with(ending) || file.size() <= ending.size() + number_bytes) return std::nullopt;
  const std::string stem = file.substr(0, file.size() - ending.size() - number_bytes);
  const std::string_view number = std::string_view(file).substr(stem.size(), number_bytes);
  if (number[0] != '-' || number.find_first_not_of("0123456789", 1) != std::string_view::npos) {
    return std::nullopt;
  }
  return any.parent_path() / fmt::format("{}-{:05}{}", stem, part, ending);
}

// What is made at once by one thread: less is not worth a thread, more would not share well.
constexpr uint64_t share_bytes_least = 1 << 20;

// Calls work(first, rows) for shares of [0, rows), by at most so many threads. The first exception
// of a share is thrown on.
template <typename Work>
void for_each_share(int64_t rows, uint64_t bytes, int most_threads, const Work& work) {
  const int64_t shares =
      std::clamp<int64_t>(static_cast<int64_t>(bytes / share_bytes_least), 1, rows);
  const int threads = static_cast<int>(std::min<int64_t>(shares, most_threads));
  if (threads == 1) return work(0, rows);
  std::atomic<int64_t> next = 0;
  std::exception_ptr failure;
  std::mutex guard;
  const auto run = [&] {
    try {
      for (int64_t share; (share = next.fetch_add(1)) < shares;) {
        const int64_t first = share * rows / shares;
        work(first, (share + 1) * rows / shares - first);
      }
    } catch (...) {
      next = shares;  // the others need not go on
      const std::lock_guard lock(guard);
      if (!failure) failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(run);
    run();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

GgufFile GgufFile::open(const std::filesystem::path& path) {
  GgufFile file;
  file.source_ = path.filename().string();
  file.parts_.push_back(MappedFile::open(path));
  file.metadata_ = file.add_part(file.parts_[0].bytes(), file.source_);
  file.open_other_parts(path);
  file.index_tensors();
  return file;
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string source) {
  GgufFile file;
  file.source_ = std::move(source);
  file.metadata_ = file.add_part(bytes, file.source_);
  file.index_tensors();
  return file;
}

GgufFile GgufFile::of_parts(GgufParts parts) {
  GgufFile file;
  file.source_ = std::move(parts.source);
  file.header_ = std::move(parts.header);
  GgufHeader header = parse_header(file.header_, file.source_);
  RIDGE_ASSERT(header.tensors.empty());
  file.version_ = header.version;
  file.metadata_ = std::move(header.metadata);
  file.file_bytes_ = parts.file_bytes;
  file.threads_ = parts.threads > 0 ? parts.threads : available_cpus();
  file.advise_ = std::move(parts.advise);
  for (GgufPart& part : parts.tensors) {
    const uint64_t size =
        static_cast<uint64_t>(part.shape.rows()) * row_bytes(part.dtype, part.shape.columns());
    file.parameters_ += static_cast<uint64_t>(part.shape.elements());
    file.tensor_bytes_ += size;
    TensorView view{part.dtype, part.shape, part.bytes};
    if (part.make) {
      ReservedMemory memory(size);
      view.bytes = memory.bytes();
      file.tensors_.push_back({part.name, view});
      file.made_.push_back({std::move(memory), std::move(part)});
    } else {
      RIDGE_ASSERT(part.bytes.size() == size);
      file.tensors_.push_back({std::move(part.name), view});
    }
  }
  std::ranges::sort(file.made_, {}, [](const Made& made) { return made.memory.bytes().data(); });
  file.index_tensors();
  return file;
}

void GgufFile::open_other_parts(const std::filesystem::path& first) {
  const uint32_t parts = metadata_.optional_uint32("split.count").value_or(1);
  if (parts <= 1) return;
  if (parts > split_parts_max) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: split.count is {}, but at most {} parts are read", source_, parts,
                            split_parts_max));
  }
  const uint32_t number = metadata_.uint32("split.no");
  const auto first_path = part_path(first, 1, parts);
  if (number != 0 && first_path) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: this is part {} of {}; open the first one, {}", source_,
                            number + uint64_t{1}, parts, first_path->filename().string()));
  }
  if (!first_path || first_path->filename() != first.filename()) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: the file is part {} of {}, but is not named "
                            "NAME-{:05}-of-{:05}.gguf, so that the other parts cannot be found",
                            source_, number + uint64_t{1}, parts, number + uint64_t{1}, parts));
  }
  for (uint32_t part = 1; part < parts; ++part) {
    const std::filesystem::path path = *part_path(first, part + 1, parts);
    const std::string source = path.filename().string();
    if (!std::filesystem::exists(path)) {
      throw Error(ErrorCode::not_found, fmt::format("{}: part {} of {} is missing: {}", source_,
                                                    part + 1, parts, source));
    }
    parts_.push_back(MappedFile::open(path));
    const GgufMetadata metadata = add_part(parts_.back().bytes(), source);
    if (metadata.uint32("split.no") != part || metadata.uint32("split.count") != parts) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("{}: it says it is part {} of {}, but its name says part {} of {}",
                              source, metadata.uint32("split.no") + uint64_t{1},
                              metadata.uint32("split.count"), part + 1, parts));
    }
  }
  const auto expected = metadata_.optional_uint64("split.tensors.count");
  const uint64_t found = tensors_.size() + unsupported_.size();
  if (expected && *expected != found) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: split.tensors.count is {}, but the parts hold {} tensors", source_,
                            *expected, found));
  }
}

GgufMetadata GgufFile::add_part(std::span<const std::byte> bytes, const std::string& source) {
  GgufHeader header = parse_header(bytes, source);
  if (version_ == 0) version_ = header.version;
  file_bytes_ += bytes.size();
  const uint64_t data_bytes =
      header.data_offset_bytes < bytes.size() ? bytes.size() - header.data_offset_bytes : 0;
  std::vector<Extent> extents;
  extents.reserve(header.tensors.size());
  for (const GgufTensorRecord& record : header.tensors) {
    const auto parameters =
        checked_add(parameters_, static_cast<uint64_t>(record.shape.elements()));
    if (!parameters) refuse(source, record.name, "the total element count does not fit 64 bits");
    parameters_ = *parameters;
    const GgufTensorType* type = find_tensor_type(record.type_number);
    if (type == nullptr) {
      unsupported_.push_back({std::string(record.name), fmt::format("type {}", record.type_number),
                              record.shape, /*bytes=*/0});
      continue;
    }
    const uint64_t size = checked_tensor_bytes(record, *type, source);
    const auto end = checked_add(record.offset_bytes, size);
    if (!end || *end > data_bytes) {
      refuse(source, record.name,
             fmt::format("its {} bytes at offset {} reach past the end of the {} bytes of tensor "
                         "data; the file is cut short or damaged",
                         size, record.offset_bytes, data_bytes));
    }
    extents.push_back({record.offset_bytes, *end, record.name});
    tensor_bytes_ += size;
    if (type->dtype) {
      const auto data = bytes.subspan(header.data_offset_bytes + record.offset_bytes, size);
      tensors_.push_back({std::string(record.name), TensorView{*type->dtype, record.shape, data}});
    } else {
      unsupported_.push_back(
          {std::string(record.name), std::string(type->name), record.shape, size});
    }
  }
  check_no_overlap(extents, source);
  return std::move(header.metadata);
}

std::string_view GgufFile::name_at(uint32_t index) const {
  if (index < tensors_.size()) return tensors_[index].name;
  return unsupported_[index - tensors_.size()].name;
}

void GgufFile::index_tensors() {
  by_name_.resize(tensors_.size() + unsupported_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  const auto name_of = [this](uint32_t index) { return name_at(index); };
  std::ranges::sort(by_name_, {}, name_of);
  const auto twin = std::ranges::adjacent_find(by_name_, {}, name_of);
  if (twin != by_name_.end()) refuse(source_, name_at(*twin), "two tensors have this name");
}

uint64_t GgufFile::expert_bytes() const {
  uint64_t bytes = 0;
  for (const GgufTensor& tensor : tensors_) {
    if (tensor.name.ends_with("_exps.weight")) bytes += tensor.view.bytes.size();
  }
  return bytes;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto name_of = [this](uint32_t index) { return name_at(index); };
  const auto at = std::ranges::lower_bound(by_name_, name, {}, name_of);
  if (at == by_name_.end() || name_at(*at) != name) return nullptr;
  if (*at < tensors_.size()) return &tensors_[*at];
  throw Error(ErrorCode::unsupported,
              fmt::format("{}: tensor {} is stored as {}, which is not supported", source_,
                          quoted_name(name), unsupported_[*at - tensors_.size()].type));
}

const GgufTensor& GgufFile::tensor(std::string_view name) const {
  const GgufTensor* tensor = find(name);
  if (tensor == nullptr) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: tensor {} is missing", source_, quoted_name(name)));
  }
  return *tensor;
}

const GgufFile::Made* GgufFile::find_made(const TensorView& view) const {
  const auto begin_of = [](const Made& made) -> const std::byte* {
    return made.memory.bytes().data();
  };
  const auto after = std::ranges::upper_bound(made_, view.bytes.data(), {}, begin_of);
  if (after == made_.begin()) return nullptr;
  const Made& made = *std::prev(after);
  const std::span<const std::byte> whole = made.memory.bytes();
  const bool is_inside = view.bytes.data() + view.bytes.size() <= whole.data() + whole.size();
  return is_inside ? &made : nullptr;
}

void GgufFile::ready(const TensorView& view) const {
  if (view.bytes.empty()) return;
  const Made* made = find_made(view);
  if (made == nullptr) return;
  const std::span<std::byte> whole = made->memory.bytes();
  const size_t bytes_of_row = row_bytes(made->part.dtype, made->part.shape.columns());
  const auto begin = static_cast<size_t>(view.bytes.data() - whole.data());
  const auto first = static_cast<int64_t>(begin / bytes_of_row);
  const auto end =
      static_cast<int64_t>((begin + view.bytes.size() + bytes_of_row - 1) / bytes_of_row);
  for_each_share(end - first, view.bytes.size(), threads_, [&](int64_t from, int64_t rows) {
    made->part.make(first + from, rows,
                    whole.subspan(static_cast<size_t>(first + from) * bytes_of_row,
                                  static_cast<size_t>(rows) * bytes_of_row));
  });
}

void GgufFile::advise(const TensorView& view, Access access) const {
  if (view.bytes.empty()) return;
  if (const Made* made = find_made(view)) {
    if (access != Access::done) return;
    const auto begin = static_cast<size_t>(view.bytes.data() - made->memory.bytes().data());
    made->memory.forget(begin, begin + view.bytes.size());
    if (made->part.release) made->part.release();
    return;
  }
  if (advise_) return advise_(view, access);
  for (const MappedFile& part : parts_) {
    const auto whole = part.bytes();
    if (view.bytes.data() >= whole.data() && view.bytes.data() < whole.data() + whole.size()) {
      return part.advise(view.bytes, access);
    }
  }
}

}  // namespace ridge::format

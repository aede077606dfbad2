#include "format/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>

#include "base/checked.h"
#include "base/error.h"
#include "format/gguf_types.h"
#include "format/safetensors_header.h"

namespace ridge::format {

namespace {

struct FileType {
  std::string_view name;
  uint64_t bits;
  std::optional<DType> dtype;  // of those that this build reads
};

// Source: `Dtype` in safetensors 0.6.
constexpr FileType file_types[] = {
    {"F32", 32, DType::f32}, {"F16", 16, DType::f16}, {"BF16", 16, DType::bf16}, {"F64", 64, {}},
    {"F8_E4M3", 8, {}},      {"F8_E5M2", 8, {}},      {"F8_E8M0", 8, {}},        {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},      {"F4", 4, {}},           {"BOOL", 8, {}},           {"U8", 8, {}},
    {"I8", 8, {}},           {"U16", 16, {}},         {"I16", 16, {}},           {"U32", 32, {}},
    {"I32", 32, {}},         {"U64", 64, {}},         {"I64", 64, {}},           {"C64", 64, {}},
};

const FileType* find_type(std::string_view name) {
  const auto found = std::ranges::find(file_types, name, &FileType::name);
  return found == std::end(file_types) ? nullptr : found;
}

[[noreturn]] void refuse_entry(const std::string& source, std::string_view tensor,
                               const std::string& reason) {
  throw Error(ErrorCode::invalid_file,
              fmt::format("{}: tensor {}: {}", source, quoted_name(tensor), reason));
}

// nullopt where that many do not fit an int64.
std::optional<uint64_t> elements_of(const std::vector<uint64_t>& extents) {
  // A zero anywhere makes the product zero, but no partial product may wrap before it.
  uint64_t elements = 1;
  for (uint64_t extent : extents) {
    if (extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    const auto product = checked_mul(elements, std::max<uint64_t>(extent, 1));
    if (!product || *product > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return std::nullopt;
    }
    elements = *product;
  }
  return std::ranges::find(extents, 0u) == extents.end() ? elements : 0;
}

void check_size(const SafetensorsRecord& record, const FileType& type, const std::string& source) {
  const auto elements = elements_of(record.extents);
  const auto bits = elements ? checked_mul<uint64_t>(*elements, type.bits) : std::nullopt;
  if (!bits)
    refuse_entry(source, record.name, "its shape has more elements than 64 bits can count");
  const uint64_t bytes = record.end - record.begin;
  if (*bits % 8 != 0 || *bits / 8 != bytes) {
    refuse_entry(source, record.name,
                 fmt::format("its data_offsets hold {} bytes, but its shape [{}] of {} takes {}",
                             bytes, fmt::join(record.extents, ", "), type.name, (*bits + 7) / 8));
  }
}

// The tensors must cover the data from its start to its end, each beginning where another ends.
void check_extents(const std::vector<SafetensorsRecord>& records, uint64_t data_bytes,
                   const std::string& source) {
  std::vector<const SafetensorsRecord*> in_order;
  for (const SafetensorsRecord& record : records) {
    if (record.begin > record.end) {
      refuse_entry(source, record.name,
                   fmt::format("its data_offsets end at {}, before they begin at {}", record.end,
                               record.begin));
    }
    if (record.end > data_bytes) {
      refuse_entry(
          source, record.name,
          fmt::format("its data_offsets end at {}, past the end of the {} bytes of data; the "
                      "file is cut short or damaged",
                      record.end, data_bytes));
    }
    in_order.push_back(&record);
  }
  std::ranges::sort(in_order, {}, [](const SafetensorsRecord* record) {
    return std::pair(record->begin, record->end);
  });
  uint64_t covered = 0;
  const SafetensorsRecord* before = nullptr;
  for (const SafetensorsRecord* record : in_order) {
    if (record->begin < covered) {
      refuse_entry(source, record->name,
                   fmt::format("its bytes overlap those of tensor {}", quoted_name(before->name)));
    }
    if (record->begin > covered) {
      refuse_entry(source, record->name,
                   fmt::format("it begins at {}, but the tensors before it end at {}",
                               record->begin, covered));
    }
    covered = record->end;
    before = record;
  }
  if (covered != data_bytes) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("{}: the tensors end at {}, but there are {} bytes of data", source,
                            covered, data_bytes));
  }
}

Shape shape_of(const std::vector<uint64_t>& extents) {
  Shape shape;
  for (uint64_t extent : extents) shape.append(static_cast<int64_t>(extent));
  return shape;
}

}  // namespace

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  SafetensorsFile file;
  file.source_ = path.filename().string();
  file.mapped_ = MappedFile::open(path);
  file.read(file.mapped_.bytes());
  return file;
}

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, std::string source) {
  SafetensorsFile file;
  file.source_ = std::move(source);
  file.read(bytes);
  return file;
}

void SafetensorsFile::read(std::span<const std::byte> bytes) {
  const auto refuse_file = [&](const std::string& reason) {
    throw Error(ErrorCode::invalid_file, fmt::format("{}: {}", source_, reason));
  };
  file_bytes_ = bytes.size();
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) {
    refuse_file(
        fmt::format("this is not a safetensors file: it has {} bytes, fewer than the eight "
                    "of the header's length",
                    bytes.size()));
  }
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const auto rest = bytes.subspan(sizeof(header_bytes));
  if (header_bytes > safetensors_header_bytes_max) {
    refuse_file(
        fmt::format("this is not a safetensors file, or a damaged one: its header would have "
                    "{} bytes, and at most {} are read",
                    header_bytes, safetensors_header_bytes_max));
  }
  if (header_bytes > rest.size()) {
    refuse_file(fmt::format("the file ends inside its header, which has {} bytes where {} are left",
                            header_bytes, rest.size()));
  }
  if (header_bytes == 0 || rest[0] != std::byte{'{'}) {
    refuse_file("this is not a safetensors file: its header does not begin with '{'");
  }
  SafetensorsHeader header =
      parse_safetensors_header({reinterpret_cast<const char*>(rest.data()), header_bytes}, source_);
  metadata_ = std::move(header.metadata);
  const auto data = rest.subspan(header_bytes);
  check_extents(header.tensors, data.size(), source_);
  std::ranges::sort(header.tensors, {}, &SafetensorsRecord::name);
  for (SafetensorsRecord& record : header.tensors) {
    const FileType* type = find_type(record.dtype);
    const uint64_t size = record.end - record.begin;
    if (type != nullptr) check_size(record, *type, source_);
    const auto bytes_of_tensor = data.subspan(record.begin, size);
    if (record.extents.size() > Shape::max_rank) {
      unsupported_.push_back({std::move(record.name),
                              fmt::format("{} of {} extents", record.dtype, record.extents.size()),
                              size, std::nullopt, bytes_of_tensor});
    } else if (type == nullptr || !type->dtype) {
      // Extents of an unknown type are not held against its bytes, and may be any number.
      const auto shape = type == nullptr ? std::nullopt : std::optional(shape_of(record.extents));
      unsupported_.push_back(
          {std::move(record.name), std::move(record.dtype), size, shape, bytes_of_tensor});
    } else {
      tensors_.push_back(
          {std::move(record.name), {*type->dtype, shape_of(record.extents), bytes_of_tensor}});
    }
  }
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(tensors_, name, {}, &SafetensorsTensor::name);
  return at == tensors_.end() || at->name != name ? nullptr : &*at;
}

bool SafetensorsFile::contains(const TensorView& view) const {
  const auto whole = mapped_.bytes();
  return !view.bytes.empty() && view.bytes.data() >= whole.data() &&
         view.bytes.data() + view.bytes.size() <= whole.data() + whole.size();
}

void SafetensorsFile::advise(const TensorView& view, Access access) const {
  if (!mapped_.bytes().empty()) mapped_.advise(view.bytes, access);
}

}  // namespace ridge::format

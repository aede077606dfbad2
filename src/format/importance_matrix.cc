#include "format/importance_matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <span>

#include "base/error.h"
#include "format/gguf.h"
#include "format/gguf_types.h"
#include "format/gguf_writer.h"

namespace ridge::format {

namespace {

constexpr std::string_view datasets_key = "imatrix.datasets";
constexpr std::string_view chunk_count_key = "imatrix.chunk_count";
constexpr std::string_view chunk_size_key = "imatrix.chunk_size";
constexpr std::string_view sums_suffix = ".in_sum2";
constexpr std::string_view counts_suffix = ".counts";

// Columns that a text hardly uses still have to be of some use with another. Relative to the mean.
constexpr float least_weight = 1e-4f;

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& reason) {
  throw Error(ErrorCode::invalid_file, fmt::format("{}: {}", path.string(), reason));
}

// The older form has no name of itself: it begins with a count of entries and the length of the
// first one's name.
void refuse_older_form(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 13> head{};
  if (!file.read(head.data(), head.size())) return;
  if (std::memcmp(head.data(), "GGUF", 4) == 0) return;
  int32_t entries = 0;
  int32_t name_bytes = 0;
  std::memcpy(&entries, head.data(), sizeof(entries));
  std::memcpy(&name_bytes, head.data() + 4, sizeof(name_bytes));
  const bool is_name = std::ranges::all_of(std::span(head).subspan(8), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_';
  });
  if (entries < 1 || name_bytes < 5 || name_bytes > 256 || !is_name) return;
  refuse(path,
         "this is an importance matrix in llama.cpp's older binary form (.dat), which is not read; "
         "write it as GGUF ('llama-imatrix --in-file OLD.dat -o NEW.gguf'), or gather one with "
         "'ridge imatrix'");
}

std::vector<float> floats_of(const std::filesystem::path& path, const GgufTensor& tensor) {
  if (tensor.view.dtype != DType::f32) {
    refuse(path, fmt::format("tensor {} is {}; an importance matrix holds F32", quoted_name(tensor.name),
                             name(tensor.view.dtype)));
  }
  std::vector<float> values(static_cast<size_t>(tensor.view.shape.elements()));
  std::memcpy(values.data(), tensor.view.bytes.data(), tensor.view.bytes.size());
  for (float value : values) {
    if (std::isfinite(value) && value >= 0) continue;
    refuse(path, fmt::format("tensor {} holds {}, which is no sum of squares and no count",
                             quoted_name(tensor.name), value));
  }
  return values;
}

std::vector<std::byte> bytes_of(std::span<const float> values) {
  const auto bytes = std::as_bytes(values);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

ImportanceMatrix ImportanceMatrix::read(const std::filesystem::path& path) {
  refuse_older_form(path);
  const GgufFile file = GgufFile::open(path);
  const GgufMetadata& metadata = file.metadata();
  const std::string_view type = metadata.optional_string("general.type").value_or("");
  if (type != "imatrix") {
    refuse(path, fmt::format("general.type is '{}'; that of an importance matrix is 'imatrix'",
                             type.substr(0, 40)));
  }
  ImportanceMatrix matrix;
  if (const auto datasets = metadata.optional_string_array(datasets_key)) {
    matrix.datasets.assign(datasets->begin(), datasets->end());
  }
  matrix.chunks = metadata.optional_uint32(chunk_count_key).value_or(0);
  matrix.chunk_tokens = metadata.optional_uint32(chunk_size_key).value_or(0);
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.ends_with(sums_suffix)) continue;
    const std::string name = tensor.name.substr(0, tensor.name.size() - sums_suffix.size());
    const GgufTensor* counts = file.find(name + std::string(counts_suffix));
    if (counts == nullptr) refuse(path, fmt::format("tensor {} has no {} beside it", quoted_name(tensor.name),
                              quoted_name(name + std::string(counts_suffix))));
    ImportanceEntry entry{floats_of(path, tensor), floats_of(path, *counts)};
    if (entry.counts.empty() || entry.square_sums.size() % entry.counts.size() != 0) {
      refuse(path, fmt::format("tensor {} has {} sums for {} counts; each count is of equally many",
                               quoted_name(tensor.name), entry.square_sums.size(), entry.counts.size()));
    }
    matrix.entries.emplace(name, std::move(entry));
  }
  if (matrix.entries.empty()) {
    refuse(path, "no tensor ends in .in_sum2, so the importance matrix says nothing");
  }
  return matrix;
}

void ImportanceMatrix::write(const std::filesystem::path& path) const {
  GgufWriter writer;
  writer.set_string("general.type", "imatrix");
  writer.set_string_array(datasets_key, datasets);
  writer.set_uint32(chunk_count_key, chunks);
  writer.set_uint32(chunk_size_key, chunk_tokens);
  for (const auto& [name, entry] : entries) {
    const auto matrices = static_cast<int64_t>(entry.counts.size());
    const auto columns = static_cast<int64_t>(entry.square_sums.size()) / matrices;
    writer.add_tensor(name + std::string(sums_suffix), DType::f32, Shape{matrices, columns},
                      [&entry] { return bytes_of(entry.square_sums); });
    writer.add_tensor(name + std::string(counts_suffix), DType::f32, Shape{matrices, 1},
                      [&entry] { return bytes_of(entry.counts); });
  }
  writer.write(path);
}

std::vector<float> ImportanceMatrix::column_weights(std::string_view tensor,
                                                    const Shape& shape) const {
  const auto found = entries.find(tensor);
  if (found == entries.end()) return {};
  const ImportanceEntry& entry = found->second;
  const size_t columns = static_cast<size_t>(shape.columns());
  const size_t matrices = shape.rank() > 2 ? static_cast<size_t>(shape[0]) : 1;
  const size_t counts = entry.counts.size();
  if (entry.square_sums.size() != matrices * columns || (counts != 1 && counts != matrices)) {
    throw Error(ErrorCode::invalid_file,
                fmt::format("the importance matrix has {} sums and {} counts for {}, whose shape {} "
                            "needs {} sums and {} counts; it is of another model",
                            entry.square_sums.size(), counts, quoted_name(tensor),
                            to_string(shape), matrices * columns, matrices));
  }
  std::vector<float> weights(matrices * columns, 1.0f);
  for (size_t m = 0; m < matrices; ++m) {
    const auto sums = std::span(entry.square_sums).subspan(m * columns, columns);
    double total = 0;
    for (float sum : sums) total += sum;
    if (entry.counts[counts == 1 ? 0 : m] == 0 || total == 0) continue;
    for (size_t i = 0; i < columns; ++i) {
      const auto relative = static_cast<float>(sums[i] / total * static_cast<double>(columns));
      weights[m * columns + i] = std::max(relative, least_weight);
    }
  }
  return weights;
}

}  // namespace ridge::format

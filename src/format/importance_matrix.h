#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/shape.h"

namespace ridge::format {

// How large the inputs of one tensor's columns were, summed over a text.
struct ImportanceEntry {
  std::vector<float> square_sums;  // [matrices · columns]: Σ x² of each column's inputs
  std::vector<float> counts;       // rows in these sums: one count for each matrix, or one for all

  bool operator==(const ImportanceEntry&) const = default;
};

// An importance matrix: what running a text through a model tells of how much each column of its
// weights matters. As a file it is llama.cpp's: GGUF with general.type = "imatrix",
// imatrix.datasets, imatrix.chunk_count and imatrix.chunk_size, and for each tensor NAME the tensors
// NAME.in_sum2, [matrices, columns], and NAME.counts, [matrices, 1], both F32 (source: llama.cpp's
// tools/imatrix). A tensor of several matrices is one of experts, each with its own count, or of
// heads, which count together: [1, heads · columns].
struct ImportanceMatrix {
  std::vector<std::string> datasets;  // names of the texts
  uint32_t chunks = 0;
  uint32_t chunk_tokens = 0;
  std::map<std::string, ImportanceEntry, std::less<>> entries;  // by the tensor's name

  // Throws invalid_file where it is no such file, one of the older binary form (.dat), cut short, or
  // has a number that is no sum of squares or count; not_found, io.
  static ImportanceMatrix read(const std::filesystem::path& path);
  // Appears under `path` only when whole. Throws io.
  void write(const std::filesystem::path& path) const;

  // What quantize_row takes: the columns' mean squares, scaled to have a mean of 1 in each matrix,
  // [matrices · columns]. Those of a matrix that saw no row are all 1. Empty where the tensor has no
  // entry. Throws invalid_file, naming the tensor, where the entry's size is not that of `shape`,
  // [rows, columns] or [matrices, rows, columns].
  std::vector<float> column_weights(std::string_view tensor, const Shape& shape) const;
};

}  // namespace ridge::format

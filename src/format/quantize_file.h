#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/importance_matrix.h"
#include "format/quantization_recipe.h"
#include "tensor/dtype.h"

namespace ridge::format {

// What says how much each column of the weights matters, and the file that it is from.
struct Importance {
  ImportanceMatrix matrix;
  std::string file;
};

struct QuantizeOptions {
  int threads = 1;                // 1 to 1024
  bool allow_requantize = false;  // take matrices that are quantised already
  bool overwrite = false;         // replace a file that is there
  // Weighs the errors of the types whose scales are searched; may be nullptr. Must outlive the work.
  const Importance* importance = nullptr;
  // Called now and then with the bytes of tensors read; false stops the work.
  std::function<bool(int64_t done_bytes, int64_t total_bytes)> progress;
};

// A tensor whose rows are no whole blocks of the type that its recipe asks for.
struct ReplacedType {
  std::string tensor;
  DType asked;
  DType used;
};

struct QuantizeReport {
  uint64_t parameters = 0;
  uint64_t input_bytes = 0;  // of all parts
  uint64_t output_bytes = 0;
  std::map<DType, uint64_t> tensors_by_type;  // of the new file
  std::vector<ReplacedType> replaced;
  // Of which the importance matrix that was given says nothing, though it would have counted.
  std::vector<std::string> unweighted;
};

// Writes the model in `input` (a GGUF file, the first part where it is split, or a model folder) to
// `output` as one GGUF file, its matrices in the types of `recipe`. Metadata are kept, but for
// general.file_type, general.quantization_version and what describes a split; vectors become F32.
// With an importance matrix its file, first text, entries and chunks are noted under
// quantize.imatrix.*, as llama.cpp does.
// Memory stays within a few megabytes beside the mapped input. `output` appears only when it is
// whole, and its bytes do not depend on the number of threads.
//
// Throws invalid_argument where `output` exists and may not be replaced, is the input, or a matrix
// is quantised already and that is not allowed; invalid_file where the input is damaged or holds a
// value that is not finite, or where the importance matrix is of another model; unsupported for a
// tensor type that cannot be read; io where the space does not suffice or writing fails; cancelled.
QuantizeReport quantize_file(const std::filesystem::path& input,
                             const std::filesystem::path& output, const QuantizationRecipe& recipe,
                             const QuantizeOptions& options);

// As quantize_file, but with each matrix in the type that it is read as: of a folder, the closest
// that GGUF has to what is stored there.
QuantizeReport copy_as_gguf(const std::filesystem::path& input, const std::filesystem::path& output,
                            const QuantizeOptions& options);

// Throws io where the file system of `path` has less than `needed_bytes` left.
void check_free_space(const std::filesystem::path& path, uint64_t needed_bytes);

}  // namespace ridge::format

#include "format/quantize_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "base/error.h"
#include "base/thread_team.h"
#include "format/gguf.h"
#include "format/gguf_types.h"
#include "format/gguf_writer.h"
#include "format/model_folder.h"
#include "format/tensor_quantizer.h"
#include "tensor/dequantize.h"
#include "tensor/quantize.h"

namespace ridge::format {

namespace {

constexpr std::string_view file_type_key = "general.file_type";
constexpr std::string_view quantization_version_key = "general.quantization_version";
constexpr std::string_view importance_prefix = "quantize.imatrix.";

void check_output(const std::filesystem::path& input, const std::filesystem::path& output,
                  bool overwrite) {
  std::error_code ignored;
  if (std::filesystem::equivalent(input, output, ignored)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is the model that is read; name another file", output.string()));
  }
  if (std::filesystem::is_directory(output, ignored)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} is a folder; name a file in it", output.string()));
  }
  if (!overwrite && std::filesystem::exists(output, ignored)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} exists; --force replaces it", output.string()));
  }
}

bool is_integer(DType dtype) { return dtype == DType::i8 || dtype == DType::i32; }

// One run: what is read, where it goes, and how far it is.
class FileQuantizer {
 public:
  // recipe: nullptr to keep each type.
  FileQuantizer(const GgufFile& file, const QuantizationRecipe* recipe,
                const QuantizeOptions& options)
      : file_(file),
        recipe_(recipe),
        options_(options),
        outline_(ModelOutline::of(file)),
        team_(options.threads),
        writer_(file.metadata()
                    .optional_uint32("general.alignment")
                    .value_or(default_alignment_bytes)) {}

  QuantizeReport run(const std::filesystem::path& output) {
    refuse_unreadable_tensors();
    copy_metadata();
    for (const GgufTensor& tensor : file_.tensors()) plan(tensor);
    refuse_importance_of_another_model();
    check_free_space(output, writer_.file_bytes());
    writer_.write(output);
    report_.parameters = file_.parameters();
    report_.input_bytes = file_.file_bytes();
    report_.output_bytes = writer_.file_bytes();
    return std::move(report_);
  }

 private:
  void refuse_unreadable_tensors() const {
    if (file_.unsupported_tensors().empty()) return;
    const GgufUnsupportedTensor& first = file_.unsupported_tensors().front();
    throw Error(ErrorCode::unsupported,
                fmt::format("{}: tensor {} is stored as {}, which is not supported",
                            file_.metadata().source(), quoted_name(first.name), first.type));
  }

  // Keys keep their order; the two that change keep their places.
  void copy_metadata() {
    const GgufMetadata& metadata = file_.metadata();
    for (const GgufEntry& entry : metadata.entries()) {
      if (entry.key.starts_with("split.")) continue;
      if (options_.importance != nullptr && entry.key.starts_with(importance_prefix)) continue;
      if (entry.key == file_type_key && recipe_ != nullptr) {
        writer_.set_uint32(file_type_key, recipe_->file_type);
      } else if (entry.key == quantization_version_key) {
        writer_.set_uint32(quantization_version_key, quantization_version);
      } else if (entry.key != "general.alignment" ||
                 metadata.uint32(entry.key) == default_alignment_bytes) {
        // Any other alignment is written by the writer itself.
        writer_.set_value(entry.key, entry.value);
      }
    }
    if (!metadata.contains(file_type_key) && recipe_ != nullptr) {
      writer_.set_uint32(file_type_key, recipe_->file_type);
    }
    if (!metadata.contains(quantization_version_key)) {
      writer_.set_uint32(quantization_version_key, quantization_version);
    }
    if (options_.importance != nullptr) note_importance();
  }

  void note_importance() {
    const ImportanceMatrix& matrix = options_.importance->matrix;
    const auto key = [](std::string_view name) { return std::string(importance_prefix) += name; };
    writer_.set_string(key("file"), options_.importance->file);
    if (!matrix.datasets.empty()) writer_.set_string(key("dataset"), matrix.datasets.front());
    writer_.set_uint32(key("entries_count"), static_cast<uint32_t>(matrix.entries.size()));
    writer_.set_uint32(key("chunks_count"), matrix.chunks);
  }

  // An entry may be of a tensor that stays as it is, but where none is of this model somebody took
  // the wrong file.
  void refuse_importance_of_another_model() const {
    if (options_.importance == nullptr) return;
    const auto& entries = options_.importance->matrix.entries;
    const bool is_of_this = std::ranges::any_of(
        entries, [&](const auto& entry) { return file_.find(entry.first) != nullptr; });
    if (is_of_this) return;
    throw Error(ErrorCode::invalid_file,
                fmt::format("none of the {} entries of {} ({}, …) is a tensor of {}; it is of another "
                            "model",
                            entries.size(), options_.importance->file,
                            quoted_name(entries.begin()->first), file_.metadata().source()));
  }

  // Empty where the type leaves nothing to weigh or nothing is known.
  std::vector<float> column_weights(const GgufTensor& tensor, DType dtype) const {
    if (options_.importance == nullptr || !searches_scales(dtype)) return {};
    return options_.importance->matrix.column_weights(tensor.name, tensor.view.shape);
  }

  DType type_for(const GgufTensor& tensor) {
    const DType from = tensor.view.dtype;
    if (recipe_ == nullptr) return from;
    const auto choice = choose_type(*recipe_, outline_, tensor.name, tensor.view.shape);
    if (is_integer(from) || (!choice && tensor.view.shape.rank() > 1)) return from;
    if (!choice) return DType::f32;
    if (choice->dtype == from) return from;
    if (is_quantized(from) && !options_.allow_requantize) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("{}: tensor {} is {} already, and quantising it again loses more than "
                      "quantising the original; take an F32, F16 or BF16 file, or allow it "
                      "with 'ridge quantize --allow-requantize'",
                      file_.metadata().source(), quoted_name(tensor.name), name(from)));
    }
    if (choice->replaced) {
      report_.replaced.push_back({tensor.name, *choice->replaced, choice->dtype});
    }
    return choice->dtype;
  }

  void plan(const GgufTensor& tensor) {
    const DType dtype = type_for(tensor);
    ++report_.tensors_by_type[dtype];
    const bool is_kept = dtype == tensor.view.dtype && is_kept_whole(dtype);
    // Sizes are checked before anything is written.
    if (!is_kept && options_.importance != nullptr && searches_scales(dtype) &&
        column_weights(tensor, dtype).empty()) {
      report_.unweighted.push_back(tensor.name);
    }
    writer_.add_streamed_tensor(tensor.name, dtype, tensor.view.shape,
                                [this, &tensor, dtype, is_kept](const GgufWriter::Sink& sink) {
                                  file_.advise(tensor.view, Access::sequential);
                                  if (is_kept) {
                                    copy(tensor, sink);
                                  } else {
                                    convert(tensor, dtype, sink);
                                  }
                                  file_.advise(tensor.view, Access::done);
                                });
  }

  // Floats pass through the check for values that are not finite.
  static bool is_kept_whole(DType dtype) { return is_quantized(dtype) || is_integer(dtype); }

  // Some megabytes at a time, since a tensor may have to be made.
  void copy(const GgufTensor& tensor, const GgufWriter::Sink& sink) {
    constexpr int64_t bytes_at_once = 16 << 20;
    const TensorView& view = tensor.view;
    const auto bytes_of_row = static_cast<int64_t>(row_bytes(view.dtype, view.shape.columns()));
    const int64_t at_once = std::max<int64_t>(1, bytes_at_once / bytes_of_row);
    for (int64_t first = 0; first < view.shape.rows(); first += at_once) {
      const TensorView slab = rows_of(view, first, std::min(at_once, view.shape.rows() - first));
      file_.ready(slab);
      sink(slab.bytes);
      file_.advise(slab, Access::done);
      count(static_cast<int64_t>(slab.bytes.size()));
    }
  }

  static TensorView rows_of(const TensorView& view, int64_t first, int64_t rows) {
    const size_t size = row_bytes(view.dtype, view.shape.columns());
    return {
        view.dtype, Shape{rows, view.shape.columns()},
        view.bytes.subspan(static_cast<size_t>(first) * size, static_cast<size_t>(rows) * size)};
  }

  void convert(const GgufTensor& tensor, DType dtype, const GgufWriter::Sink& sink) {
    const TensorView& view = tensor.view;
    const auto bytes_of_row = static_cast<int64_t>(row_bytes(view.dtype, view.shape.columns()));
    TensorQuantizer(team_).write(
        fmt::format("{}: tensor {}", file_.metadata().source(), quoted_name(tensor.name)), dtype,
        view.shape,
        [&view](int64_t row, std::span<float> out) {
          dequantize_row(view.dtype, view.row(row), out);
        },
        sink, [&](int64_t elements) { count(elements / view.shape.columns() * bytes_of_row); },
        {.before = [&](int64_t first, int64_t rows) { file_.ready(rows_of(view, first, rows)); },
         .after = [&](int64_t first,
                      int64_t rows) { file_.advise(rows_of(view, first, rows), Access::done); }},
        column_weights(tensor, dtype));
  }

  void count(int64_t bytes) {
    done_bytes_ += bytes;
    if (!options_.progress) return;
    if (!options_.progress(done_bytes_, static_cast<int64_t>(file_.tensor_bytes()))) {
      throw Error(ErrorCode::cancelled, "stopped; the new file was not written");
    }
  }

  const GgufFile& file_;
  const QuantizationRecipe* recipe_;
  const QuantizeOptions& options_;
  const ModelOutline outline_;
  ThreadTeam team_;
  GgufWriter writer_;
  QuantizeReport report_;
  int64_t done_bytes_ = 0;
};

}  // namespace

void check_free_space(const std::filesystem::path& path, uint64_t needed_bytes) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code failure;
  const std::filesystem::space_info space = std::filesystem::space(folder, failure);
  if (failure) {
    throw Error(ErrorCode::io, fmt::format("{}: {}", folder.string(), failure.message()));
  }
  if (space.available < needed_bytes) {
    throw Error(ErrorCode::io, fmt::format("{} will have {:.2f} GB, but only {:.2f} GB are free",
                                           path.string(), static_cast<double>(needed_bytes) / 1e9,
                                           static_cast<double>(space.available) / 1e9));
  }
}

QuantizeReport quantize_file(const std::filesystem::path& input,
                             const std::filesystem::path& output, const QuantizationRecipe& recipe,
                             const QuantizeOptions& options) {
  const GgufFile file = open_model(input, options.threads);
  check_output(input, output, options.overwrite);
  return FileQuantizer(file, &recipe, options).run(output);
}

QuantizeReport copy_as_gguf(const std::filesystem::path& input, const std::filesystem::path& output,
                            const QuantizeOptions& options) {
  const GgufFile file = open_model(input, options.threads);
  check_output(input, output, options.overwrite);
  return FileQuantizer(file, /*recipe=*/nullptr, options).run(output);
}

}  // namespace ridge::format

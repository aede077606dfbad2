#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/gguf_metadata.h"
#include "format/mapped_file.h"
#include "format/reserved_memory.h"
#include "tensor/view.h"

namespace ridge::format {

struct GgufTensor {
  std::string name;
  TensorView view;  // outermost extent first: a linear weight is [outputs, inputs]
};

// A tensor whose type this build cannot read, kept so that such a file can still be shown.
struct GgufUnsupportedTensor {
  std::string name;
  std::string type;  // "IQ2_XXS", or "type 99" for a number that is not known
  Shape shape;       // outermost extent first
  uint64_t bytes;    // 0 where the type, and so its block size, is not known
};

// A tensor of a model that is no GGUF file: its bytes are there, or they are made of others when
// they are wanted.
struct GgufPart {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  std::span<const std::byte> bytes;  // of the whole tensor where `make` is empty
  // Fills `out` with rows [first, first + rows) of the tensor seen as [rows, columns]. Several
  // threads call it at the same time. Throws invalid_file.
  std::function<void(int64_t first, int64_t rows, std::span<std::byte> out)> make;
  // What the tensor is made of will not be read again soon.
  std::function<void()> release;
};

// A model that is no GGUF file, in GGUF's terms.
struct GgufParts {
  std::string source;             // names it in messages
  std::vector<std::byte> header;  // a GGUF file of metadata alone
  std::vector<GgufPart> tensors;  // functions keep alive what they read
  uint64_t file_bytes = 0;        // of all its files
  int threads = 0;                // that ready() may use; 0: as many as this process may
  // Of the tensors that are not made; keeps alive what their bytes lie in.
  std::function<void(const TensorView& view, Access access)> advise;
};

// A GGUF file, version 2 or 3, little-endian (source: the GGUF specification in ggml's
// docs/gguf.md). It is checked whole before anything is handed out: lengths with checked
// arithmetic, tensors inside the file, aligned and without overlap, names and keys unique. What
// breaks the format throws Error(invalid_file), what is understood but not read here (big-endian,
// version 1) Error(unsupported). Memory stays within a small multiple of the file's own size.
//
// A model in another format is read as the GGUF file that it would be (model_folder.h). Some of its
// tensors are then made when they are wanted: whoever reads a tensor's bytes calls ready() before,
// and advise(…, done) when they may go.
class GgufFile {
 public:
  // Maps the file. For a split model (NAME-00001-of-0000N.gguf) the first part opens all; a missing
  // part, or a path to another part, is an error that names the right file.
  static GgufFile open(const std::filesystem::path& path);
  // Reads one file that the caller holds in memory and keeps there; `source` names it in messages.
  // A part of a split model is read alone.
  static GgufFile parse(std::span<const std::byte> bytes, std::string source = "GGUF data");

  // Throws invalid_file where two tensors have one name, out_of_memory.
  static GgufFile of_parts(GgufParts parts);

  GgufFile(GgufFile&&) = default;
  GgufFile& operator=(GgufFile&&) = default;
  GgufFile(const GgufFile&) = delete;
  GgufFile& operator=(const GgufFile&) = delete;

  uint32_t version() const { return version_; }
  // `general.architecture`, such as "llama"; throws invalid_file where missing.
  std::string_view architecture() const { return metadata_.string("general.architecture"); }
  // Of the first part, which carries the model's.
  const GgufMetadata& metadata() const { return metadata_; }

  // All tensors that this build can read, in file order, of all parts.
  std::span<const GgufTensor> tensors() const { return tensors_; }
  std::span<const GgufUnsupportedTensor> unsupported_tensors() const { return unsupported_; }
  // nullptr where there is none. Throws unsupported for a tensor whose type cannot be read.
  const GgufTensor* find(std::string_view name) const;
  // Throws invalid_file, naming the tensor, where there is none.
  const GgufTensor& tensor(std::string_view name) const;

  // Elements of all tensors, unsupported ones included.
  uint64_t parameters() const { return parameters_; }
  // Bytes of all tensors, without headers and padding; of those that are made, what they will have.
  uint64_t tensor_bytes() const { return tensor_bytes_; }
  // Of these, the weights of experts, of which a token reads a few.
  uint64_t expert_bytes() const;
  // Bytes of all parts.
  uint64_t file_bytes() const { return file_bytes_; }

  // Makes the rows of `view`, which may be some of a tensor's, where they are not in a file as they
  // are; else does nothing. One caller at a time. Throws invalid_file, naming what cannot be read.
  void ready(const TensorView& view) const;

  // Says how a tensor's bytes will be used, such as `done` once a back end has taken its own copy;
  // that also ends what ready() has made. Without effect on parse()d memory.
  void advise(const TensorView& view, Access access) const;

 private:
  struct Made {
    ReservedMemory memory;
    GgufPart part;
  };

  GgufFile() = default;
  const Made* find_made(const TensorView& view) const;
  // Adds the part's tensors; returns its header's metadata.
  GgufMetadata add_part(std::span<const std::byte> bytes, const std::string& source);
  void open_other_parts(const std::filesystem::path& first);
  void index_tensors();
  std::string_view name_at(uint32_t index) const;

  uint32_t version_ = 0;
  std::string source_;
  std::vector<MappedFile> parts_;
  // Of a model that is no GGUF file:
  std::vector<std::byte> header_;
  std::vector<Made> made_;  // in the order of their addresses
  int threads_ = 1;
  std::function<void(const TensorView& view, Access access)> advise_;
  GgufMetadata metadata_;
  std::vector<GgufTensor> tensors_;
  std::vector<GgufUnsupportedTensor> unsupported_;
  std::vector<uint32_t> by_name_;  // sorted; an index below tensors_.size(), else into unsupported_
  uint64_t parameters_ = 0;
  uint64_t tensor_bytes_ = 0;
  uint64_t file_bytes_ = 0;
};

}  // namespace ridge::format

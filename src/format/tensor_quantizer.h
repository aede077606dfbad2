#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/thread_team.h"
#include "format/gguf_writer.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace ridge::format {

// Writes the values of a tensor, row by row, in another type, with all members of a team and
// without ever holding more than a few megabytes of it. The bytes do not depend on the team's size.
class TensorQuantizer {
 public:
  // Fills out[columns] with row `row` of the tensor seen as [rows, columns]. Members call it at the
  // same time; it must not throw.
  using RowSource = std::function<void(int64_t row, std::span<float> out)>;
  // Called on the caller's thread before rows [first, first + rows) are asked for, and after; both
  // may be empty, and may throw.
  struct Slabs {
    std::function<void(int64_t first, int64_t rows)> before;
    std::function<void(int64_t first, int64_t rows)> after;
  };
  // Called on the caller's thread with the elements written since the last call; it may throw.
  using Progress = std::function<void(int64_t elements)>;

  explicit TensorQuantizer(ThreadTeam& team) : team_(team) {}

  // `label` names the tensor in messages. Throws invalid_file for a value that is not finite, or
  // that is above quantizable_max where `dtype` keeps F16 numbers.
  //   column_weights: as quantize_row, [matrices · columns] where the rows are those of so many
  //   matrices; or empty.
  void write(const std::string& label, DType dtype, const Shape& shape, const RowSource& source,
             const GgufWriter::Sink& sink, const Progress& progress, const Slabs& slabs = {},
             std::span<const float> column_weights = {}) const;

 private:
  ThreadTeam& team_;
};

}  // namespace ridge::format

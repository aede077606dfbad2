#pragma once

#include <span>
#include <vector>

#include "backend/weight.h"

namespace ridge::backend::reference {

// A weight whose rows are dequantised each time they are read, straight from the source's bytes.
// A shard takes its part of every segment, so that a merged QKV keeps whole heads of each; its axis
// is the file's, before a transposition. Vectors and transposed weights are held as float32.
class ReferenceWeight : public Weight {
 public:
  // Throws invalid_file for shapes that cannot be stacked, invalid_argument for a shard that would
  // cut unequal parts or split a quantised block.
  explicit ReferenceWeight(const WeightSource& source);

  // Row `row` of [0, rows()) of an expert, dequantised into out[columns()].
  void read_row(int64_t expert, int64_t row, std::span<float> out) const;
  // The whole of a vector, [columns()].
  std::span<const float> vector() const;

 private:
  // The part of one source tensor that this rank holds.
  struct Segment {
    TensorView view;
    int64_t file_rows;     // of one expert in the file
    int64_t first_row;     // of them, the first of ours
    int64_t rows;          // ours
    int64_t first_column;  // of the file's row, the first of ours
  };

  void cut_segments(const WeightSource& source, int64_t experts);
  void join_vector(const WeightSource& source);
  void transpose();
  void read_source_row(int64_t expert, int64_t row, std::span<float> out) const;

  std::vector<Segment> segments_;
  std::vector<float> values_;  // [experts, rows, columns] where it is held as float32, else empty
  bool is_vector_ = false;
};

// The weight as the device that prepared it knows it.
const ReferenceWeight& as_reference(const Weight& weight);

}  // namespace ridge::backend::reference

#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "backend/ascend/device/hardware.h"
#include "backend/ascend/kernels/tiling_data.h"
#include "backend/reference/weight.h"
#include "backend/weight.h"

namespace ridge::backend::ascend {

// Rows of a weight that one launch of a linear multiplies; of each expert or head, one after the other.
struct WeightPart {
  std::optional<QuantizedFormat> format;  // of pack_quantized; else of pack_nz
  uint32_t first_row;
  uint32_t rows;  // of an expert
  std::unique_ptr<acl::DeviceMemory> codes;
  // With a format; without one a float32 for each row of codes of int8, else there are none and the codes
  // are halves.
  std::unique_ptr<acl::DeviceMemory> scales;
  float factor = 1;                           // what the stored values have to be multiplied by
  int64_t experts = 1;

  // Bytes from one expert to the next.
  uint64_t codes_of_expert() const { return codes->span().bytes / static_cast<uint64_t>(experts); }
  uint64_t scales_of_expert() const { return scales->span().bytes / static_cast<uint64_t>(experts); }
};

// What was kept otherwise than in the file, to be told once.
struct WeightNotes {
  std::string dequantised_types;        // "Q4_K, Q6_K": of shards or transposed, kept as halves
  uint64_t dequantised_file_bytes = 0;  // what those (their shards) have in the file
  uint64_t dequantised_bytes = 0;       // and here
};

// A weight on the device. Tables of which ranks have a part, and those of several segments, stay on the
// host: embed then reads the file.
class AscendWeight : public Weight {
 public:
  // Throws as ReferenceWeight, and out_of_memory.
  AscendWeight(std::shared_ptr<Hardware> hardware, const WeightSource& source, WeightNotes& notes);

  // What linears multiply by.
  std::span<const WeightPart> parts() const { return parts_; }
  // Whether all parts are codes of int8 with a scale for each row, to be multiplied with rows of int8.
  bool takes_int8() const { return takes_int8_; }
  // A vector's values, float32.
  acl::DeviceSpan vector() const;
  // A table's rows as they are in the file, or as ridge_embed_quantized reads them, and their type in the
  // file; nullptr where they are on the host.
  const acl::DeviceMemory* table() const { return table_.get(); }
  DType table_dtype() const { return source_.segments.front().dtype; }
  // The weight as the reference reads it: of vectors, and of tables on the host.
  const reference::ReferenceWeight& host() const;

 private:
  void pack_table();
  void pack();
  void note_dequantised();
  WeightPart pack_halves(int64_t first_row, int64_t rows) const;
  // Where the weight was made for activations of int8, and each of its rows has one scale.
  bool fits_int8() const;
  WeightPart pack_int8(int64_t first_row, int64_t rows) const;
  // Of rows of one type.
  WeightPart pack_codes(DType dtype, int64_t first_row, int64_t rows) const;
  std::vector<std::byte> blocks_of(int64_t expert, int64_t first_row, int64_t rows) const;
  void store_of_expert(std::unique_ptr<acl::DeviceMemory>& all, int64_t expert,
                       std::span<const std::byte> bytes) const;
  std::unique_ptr<acl::DeviceMemory> store(std::span<const std::byte> bytes) const;
  std::unique_ptr<acl::DeviceMemory> reserve(uint64_t bytes) const;
  // Whether the file's blocks can be taken as they lie: none was cut out or turned.
  bool is_whole() const;

  std::shared_ptr<Hardware> hardware_;
  WeightSource source_;  // of no use once nothing is kept of it
  WeightNotes& notes_;
  std::unique_ptr<reference::ReferenceWeight> host_;
  std::unique_ptr<acl::DeviceMemory> vector_, table_;
  std::vector<WeightPart> parts_;
  bool takes_int8_ = false;
};

const AscendWeight& as_ascend(const Weight& weight);

}  // namespace ridge::backend::ascend

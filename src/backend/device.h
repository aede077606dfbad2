#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/device_options.h"
#include "backend/kv_cache.h"
#include "backend/machine_limits.h"
#include "backend/prepared_store.h"
#include "backend/program.h"
#include "backend/weight.h"
#include "tensor/dtype.h"

namespace ridge::backend {

struct Recording;

// Device memory; freed with the object. Its address never changes.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual size_t size_bytes() const = 0;
  // The same bytes as the host sees them, or nullptr where the device has memory of its own.
  virtual std::byte* host_data() = 0;
  virtual const std::byte* host_data() const = 0;
};

// A point in a stream's work.
class Event {
 public:
  virtual ~Event() = default;
  virtual bool reached() const = 0;
  virtual void wait() = 0;
};

// Work of one device in order. Calls return once the work is queued; spans given to `upload` may be
// reused when the call returns, those given to `download` after `synchronize` or an event.
class Stream {
 public:
  virtual ~Stream() = default;
  virtual void upload(Buffer& to, size_t offset_bytes, std::span<const std::byte> from) = 0;
  virtual void download(const Buffer& from, size_t offset_bytes, std::span<std::byte> to) = 0;
  // Replays the program for the rows that `shape` says; its inputs were uploaded before.
  virtual void run(Program& program, const StepShape& shape) = 0;
  virtual std::unique_ptr<Event> record_event() = 0;
  virtual void synchronize() = 0;
};

struct DeviceInfo {
  std::string name;         // "cpu:avx512_vnni"
  std::string description;  // for people: the processor's own name
  uint64_t memory_bytes = 0;
  int threads = 1;
  bool threads_pinned = false;
  bool huge_pages = false;       // asked for, and given where there are some
  std::vector<DType> kv_dtypes;  // that create_kv_cache takes
  // Of those, what to keep keys and values in where nobody asks for another and activations may round to bfloat16 (mixed
  // precision): the fastest that rounds no more. Elsewhere: float16.
  DType mixed_kv_dtype = DType::f16;
};

// What the machine itself can do, measured on the device's own threads; 0 where it is not known.
struct DeviceLimits {
  double read_bytes_per_second = 0;  // streaming reads of memory far larger than the caches
  double flops_per_second = 0;       // of the fastest instruction in use, a multiply-add being two
};

// What paging experts has done so far, over all weights of a device.
struct ExpertCounters {
  uint64_t held_bytes = 0;  // of memory for experts
  uint64_t hits = 0;        // experts of a weight that a step found in memory
  uint64_t misses = 0;      // and those that it read from the file,
  uint64_t read_bytes = 0;  // of so many bytes there
};

class Device {
 public:
  virtual ~Device() = default;

  virtual const DeviceInfo& info() const = 0;
  // Takes up to a few seconds; nothing else may run on the device meanwhile.
  virtual DeviceLimits measure_limits() { return {}; }
  // Likewise, each level of memory and each instruction by itself; empty where nobody measures them.
  virtual MachineLimits measure_machine() { return {}; }
  // The dtype of every activation value but ids and codes.
  virtual DType activation_dtype() const = 0;

  // Throws out_of_memory.
  virtual std::unique_ptr<Buffer> allocate(size_t bytes) = 0;
  virtual std::unique_ptr<Stream> create_stream() = 0;
  // Stores the weight as this device's kernels want it; `source` may be unmapped afterwards unless
  // Weight::keeps_source(). Codes and scales stay exact. Throws invalid_file, out_of_memory.
  std::unique_ptr<Weight> prepare_weight(const WeightSource& source) {
    return prepare_weight(source, /*store=*/nullptr);
  }
  // As above, but takes from the store, where there is one, what it has of the weight, and keeps
  // there what it lacks. The store must outlive the weight.
  virtual std::unique_ptr<Weight> prepare_weight(const WeightSource& source,
                                                 PreparedStore* store) = 0;
  // Names the layout of what prepare_weight keeps in a store. It changes whenever the same bytes
  // would mean something else. Empty: this device keeps nothing.
  virtual std::string prepared_layout() const { return {}; }
  // Bytes that prepare_weight keeps of this weight; throws as it does.
  virtual uint64_t prepared_bytes(const WeightSource&) const { return 0; }
  // Whether it takes WeightSource::paging. Results are the same to the bit. prepared_bytes are then
  // those of a weight that is held whole.
  virtual bool pages_experts() const { return false; }
  // Bytes of `rows`, some of an expert's that are in memory, that it lays out in a second, as it
  // does with what it reads of experts that it does not hold. 0: not known. Nothing else may run on
  // the device meanwhile.
  virtual double measure_paging(std::span<const TensorView>) { return 0; }
  // May be called by any thread.
  virtual ExpertCounters expert_counters() const { return {}; }
  virtual std::unique_ptr<KvCache> create_kv_cache(const KvCacheLayout& layout) = 0;
  // Throws unsupported, naming the op that this back end lacks. The recording's weights, caches and
  // buffers must outlive the program.
  virtual std::unique_ptr<Program> compile(const Recording& recording) = 0;
};

}  // namespace ridge::backend

#include <unistd.h>

#include <fmt/format.h>

#include <new>

#include "backend/reference/buffer.h"
#include "backend/reference/kv_cache.h"
#include "backend/reference/open.h"
#include "backend/reference/program.h"
#include "backend/reference/weight.h"
#include "base/error.h"

namespace ridge::backend::reference {

namespace {

// Everything is done when a call returns, so an event has always been reached.
class PastEvent : public Event {
 public:
  bool reached() const override { return true; }
  void wait() override {}
};

class ReferenceStream : public Stream {
 public:
  void upload(Buffer& to, size_t offset_bytes, std::span<const std::byte> from) override {
    RIDGE_ASSERT(offset_bytes + from.size() <= to.size_bytes());
    if (!from.empty()) std::memcpy(to.host_data() + offset_bytes, from.data(), from.size());
  }
  void download(const Buffer& from, size_t offset_bytes, std::span<std::byte> to) override {
    RIDGE_ASSERT(offset_bytes + to.size() <= from.size_bytes());
    const std::byte* data = static_cast<const HostBuffer&>(from).data();
    if (!to.empty()) std::memcpy(to.data(), data + offset_bytes, to.size());
  }
  void run(Program& program, const StepShape& shape) override {
    static_cast<ReferenceProgram&>(program).run(shape);
  }
  std::unique_ptr<Event> record_event() override { return std::make_unique<PastEvent>(); }
  void synchronize() override {}
};

uint64_t physical_memory_bytes() {
  return static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

class ReferenceDevice : public Device {
 public:
  explicit ReferenceDevice(Communicator* communicator)
      : communicator_(communicator),
        info_{.name = "reference",
              .description = "the plain scalar meaning of each op, for tests",
              .memory_bytes = physical_memory_bytes(),
              .threads = 1,
              .kv_dtypes = {DType::f16, DType::bf16, DType::f32, DType::i8}} {}

  const DeviceInfo& info() const override { return info_; }
  DType activation_dtype() const override { return DType::f32; }
  std::unique_ptr<Buffer> allocate(size_t bytes) override {
    try {
      return std::make_unique<HostBuffer>(bytes);
    } catch (const std::exception&) {
      throw Error(ErrorCode::out_of_memory,
                  fmt::format("a buffer of {} bytes does not fit in memory", bytes));
    }
  }
  std::unique_ptr<Stream> create_stream() override { return std::make_unique<ReferenceStream>(); }
  std::unique_ptr<Weight> prepare_weight(const WeightSource& source, PreparedStore*) override {
    return std::make_unique<ReferenceWeight>(source);
  }
  std::unique_ptr<KvCache> create_kv_cache(const KvCacheLayout& layout) override {
    return std::make_unique<ReferenceKvCache>(layout);
  }
  std::unique_ptr<Program> compile(const Recording& recording) override {
    return std::make_unique<ReferenceProgram>(recording, communicator_);
  }

 private:
  Communicator* const communicator_;
  DeviceInfo info_;
};

}  // namespace

std::unique_ptr<Device> open(const DeviceOptions&, Communicator* communicator) {
  return std::make_unique<ReferenceDevice>(communicator);
}

}  // namespace ridge::backend::reference

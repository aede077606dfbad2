#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>

#include "backend/cpu/buffer.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/kv_cache.h"
#include "backend/cpu/machine_probe.h"
#include "backend/cpu/open.h"
#include "backend/cpu/placement.h"
#include "backend/cpu/program.h"
#include "backend/cpu/weight.h"
#include "base/cpu_count.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

// Work is done when the call returns, so every event is already reached.
class CpuEvent final : public Event {
 public:
  bool reached() const override { return true; }
  void wait() override {}
};

void check_range(size_t size, size_t offset, size_t bytes) {
  RIDGE_ASSERT(offset <= size && bytes <= size - offset);
}

class CpuStream final : public Stream {
 public:
  void upload(Buffer& to, size_t offset, std::span<const std::byte> from) override {
    check_range(to.size_bytes(), offset, from.size());
    // A span of nothing may have no address, which memcpy does not take.
    if (!from.empty()) std::memcpy(to.host_data() + offset, from.data(), from.size());
  }
  void download(const Buffer& from, size_t offset, std::span<std::byte> to) override {
    check_range(from.size_bytes(), offset, to.size());
    if (to.empty()) return;
    std::memcpy(to.data(), static_cast<const CpuBuffer&>(from).data() + offset, to.size());
  }
  void run(Program& program, const StepShape& shape) override {
    static_cast<CpuProgram&>(program).run(shape);
  }
  std::unique_ptr<Event> record_event() override { return std::make_unique<CpuEvent>(); }
  void synchronize() override {}
};

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

HugePages choose_pages(Toggle choice) {
  if (choice == Toggle::on && !huge_pages_available()) {
    throw Error(ErrorCode::unsupported,
                "this system gives no huge pages: /sys/kernel/mm/transparent_hugepage/enabled "
                "must be 'madvise' or 'always'",
                "huge-pages");
  }
  return choice == Toggle::off ? HugePages::refused : HugePages::asked;
}

class CpuDevice final : public Device {
 public:
  CpuDevice(const DeviceOptions& options, LatentForm latent_form, Communicator* communicator)
      : isa_(select_isa(options.isa, options.allow_emulation)),
        team_(options.threads > 0 ? options.threads : available_cpus(), options.threads_spin),
        pages_(choose_pages(options.huge_pages)),
        threads_in_turns_(options.threads_in_turns),
        latent_form_(latent_form),
        communicator_(communicator) {
    info_.threads_pinned = pin(options.pin_threads);
    info_.huge_pages = pages_ == HugePages::asked && huge_pages_available();
    info_.name = fmt::format("cpu:{}", isa_.name);
    info_.description = processor_name();
    info_.memory_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    info_.threads = team_.size();
    info_.kv_dtypes.assign(kv_dtypes.begin(), kv_dtypes.end());
    info_.mixed_kv_dtype = isa_.kernels->mixed_kv_dtype;
  }

  const DeviceInfo& info() const override { return info_; }
  DeviceLimits measure_limits() override { return probe_device(team_, *isa_.kernels); }
  MachineLimits measure_machine() override { return probe_machine(team_, *isa_.kernels); }
  DType activation_dtype() const override { return DType::f32; }
  std::unique_ptr<Buffer> allocate(size_t bytes) override {
    return std::make_unique<CpuBuffer>(bytes);
  }
  std::unique_ptr<Stream> create_stream() override { return std::make_unique<CpuStream>(); }
  std::unique_ptr<Weight> prepare_weight(const WeightSource& source,
                                         PreparedStore* store) override {
    return std::make_unique<CpuWeight>(source, team_, store, weight_memory_, pager_);
  }
  // The same for every instruction set: strips have 16 rows in all of them.
  std::string prepared_layout() const override { return tile_layout; }
  uint64_t prepared_bytes(const WeightSource& source) const override {
    return CpuWeight::prepared_bytes(source);
  }
  bool pages_experts() const override { return true; }
  double measure_paging(std::span<const TensorView> rows) override {
    return measure_packing(rows, team_);
  }
  ExpertCounters expert_counters() const override { return pager_.counters(); }
  std::unique_ptr<KvCache> create_kv_cache(const KvCacheLayout& layout) override {
    return std::make_unique<CpuKvCache>(layout, pages_);
  }
  std::unique_ptr<Program> compile(const Recording& recording) override {
    return std::make_unique<CpuProgram>(recording, team_, *isa_.kernels, latent_form_,
                                        communicator_, threads_in_turns_);
  }

 private:
  bool pin(Toggle choice) {
    const std::vector<int> processors = choose_processors(team_.size(), choice);
    if (processors.empty()) return false;
    if (team_.pin(processors)) return true;
    if (choice == Toggle::automatic) return false;
    throw Error(ErrorCode::unsupported, "the system does not let this process pin its threads",
                "pin-threads");
  }

  Isa isa_;
  ThreadTeam team_;
  HugePages pages_;
  const bool threads_in_turns_;
  const LatentForm latent_form_;
  Communicator* const communicator_;
  MemoryPool weight_memory_{pages_};
  ExpertPager pager_;
  DeviceInfo info_;
};

std::unique_ptr<Device> open_checked(const DeviceOptions& options, LatentForm latent_form,
                                     Communicator* communicator) {
  if (options.threads < 0 || options.threads > 1024) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("{} threads; it must be 0 (all) to 1024", options.threads), "threads");
  }
  return std::make_unique<CpuDevice>(options, latent_form, communicator);
}

}  // namespace

std::unique_ptr<Device> open(const DeviceOptions& options, Communicator* communicator) {
  return open_checked(options, LatentForm::automatic, communicator);
}

std::unique_ptr<Device> open(const DeviceOptions& options, LatentForm latent_form) {
  return open_checked(options, latent_form, nullptr);
}

}  // namespace ridge::backend::cpu

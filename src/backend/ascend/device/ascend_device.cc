#include "backend/ascend/device/open.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "backend/ascend/device/launch_log.h"
#include "backend/ascend/device/program.h"
#include "backend/ascend/twin/acl/control.h"
#include "backend/device.h"
#include "backend/own_memory.h"
#include "base/error.h"
#include "base/log.h"
#include "base/machine_memory.h"

namespace ridge::backend::ascend {

namespace {

class AscendEvent : public Event {
 public:
  AscendEvent(const std::shared_ptr<acl::Context>& context, acl::Stream& stream)
      : event_(context) {
    stream.record(event_);
  }
  bool reached() const override { return event_.reached(); }
  void wait() override { event_.wait(); }

 private:
  acl::Event event_;
};

class AscendStream : public Stream {
 public:
  explicit AscendStream(const std::shared_ptr<Hardware>& hardware)
      : hardware_(hardware), stream_(hardware->context()) {}

  void upload(Buffer& to, size_t offset_bytes, std::span<const std::byte> from) override {
    auto& buffer = static_cast<InputBuffer&>(to);
    // The copy before may still read the mirror.
    if (buffer.copied_in_epoch == epoch_) settle();
    const std::span<std::byte> mirror =
        buffer.mirror().span().subspan(offset_bytes, from.size());
    std::ranges::copy(from, mirror.begin());
    stream_.upload(buffer.span().part(offset_bytes, from.size()), mirror);
    buffer.copied_in_epoch = epoch_;
  }
  void download(const Buffer& from, size_t offset_bytes, std::span<std::byte> to) override {
    settle();
    const acl::DeviceSpan span = static_cast<const DeviceBuffer&>(from).span();
    acl::download(*hardware_->context(), to, span.part(offset_bytes, to.size()));
  }
  void run(Program& program, const StepShape& shape) override {
    // A step before this one may still read what this one fills.
    if (has_run_) settle();
    has_run_ = true;
    static_cast<AscendProgram&>(program).run(stream_, shape);
  }
  std::unique_ptr<backend::Event> record_event() override {
    return std::make_unique<AscendEvent>(hardware_->context(), stream_);
  }
  void synchronize() override { settle(); }

 private:
  void settle() {
    stream_.synchronize();
    ++epoch_;
    has_run_ = false;
  }

  std::shared_ptr<Hardware> hardware_;
  acl::Stream stream_;
  uint64_t epoch_ = 1;    // of synchronisations
  bool has_run_ = false;  // since the last of them
};

class AscendDevice : public Device, public OwnMemory {
 public:
  AscendDevice(std::shared_ptr<Hardware> hardware, DeviceInfo info, bool is_twin)
      : hardware_(std::move(hardware)), info_(std::move(info)), is_twin_(is_twin) {
  }

  const DeviceInfo& info() const override { return info_; }
  DType activation_dtype() const override { return DType::f32; }
  uint64_t free_memory_bytes() const override {
    const uint64_t free_bytes = hardware_->context()->memory().free_bytes;
    if (!is_twin_ || hardware_->only_counts) return free_bytes;
    // The twin's memory is the machine's, of which it takes two bytes for each.
    return std::min(free_bytes, available_memory_bytes() / 4);
  }

  std::unique_ptr<Buffer> allocate(size_t bytes) override {
    return std::make_unique<InputBuffer>(hardware_->context(), std::max<size_t>(bytes, 4));
  }
  std::unique_ptr<Stream> create_stream() override {
    return std::make_unique<AscendStream>(hardware_);
  }
  std::unique_ptr<Weight> prepare_weight(const WeightSource& source, PreparedStore*) override {
    return std::make_unique<AscendWeight>(hardware_, source, notes_);
  }
  std::unique_ptr<KvCache> create_kv_cache(const KvCacheLayout& layout) override {
    auto cache = std::make_unique<AscendKvCache>(hardware_, layout);
    if (!cache->is_on_device()) {
      log::warning("{}: keys and values are in the machine's own memory and attention is computed "
                   "by the processor, slowly: the kernels take F16 and BF16, heads of up to 576 "
                   "numbers in keys and 512 in values", info_.name);
    }
    return cache;
  }
  std::unique_ptr<Program> compile(const Recording& recording) override {
    auto program = std::make_unique<AscendProgram>(hardware_, recording);
    tell_once(program->host_ops());
    return program;
  }

 protected:
  const Hardware& hardware() const { return *hardware_; }
  const std::set<std::string>& host_ops() const { return told_ops_; }

 private:
  void tell_once(const std::set<std::string>& host_ops) {
    if (notes_.dequantised_bytes > told_bytes_) {
      told_bytes_ = notes_.dequantised_bytes;
      log::info("{}: cut or transposed weights of {} are kept as F16, {:.0f} MB where the file has "
                "{:.0f}", info_.name, notes_.dequantised_types,
                static_cast<double>(notes_.dequantised_bytes) / 1e6,
                static_cast<double>(notes_.dequantised_file_bytes) / 1e6);
    }
    std::vector<std::string> news;
    std::ranges::set_difference(host_ops, told_ops_, std::back_inserter(news));
    if (news.empty()) return;
    told_ops_.insert(news.begin(), news.end());
    if (hardware_->only_counts) return;  // CountingTwin tells them
    log::info("{}: computed by the processor, for want of a kernel: {}", info_.name,
              fmt::join(news, ", "));
  }

  std::shared_ptr<Hardware> hardware_;
  DeviceInfo info_;
  bool is_twin_;
  WeightNotes notes_;
  uint64_t told_bytes_ = 0;
  std::set<std::string> told_ops_;
};

class CountingTwin : public AscendDevice, public StepCounter {
 public:
  CountingTwin(std::shared_ptr<Hardware> hardware, DeviceInfo info,
               std::unique_ptr<LaunchLog> log)
      : AscendDevice(std::move(hardware), std::move(info), /*is_twin=*/true),
        log_(std::move(log)) {}

  StepProfile take_profile() override {
    StepProfile profile = log_->take();
    profile.host_ops.assign(host_ops().begin(), host_ops().end());
    return profile;
  }

 private:
  std::unique_ptr<LaunchLog> log_;
};

std::unique_ptr<Device> make_device(const std::shared_ptr<acl::Runtime>& runtime, int index,
                                    const std::string& kernels_path, std::string name,
                                    bool is_twin, std::unique_ptr<LaunchLog> log = nullptr) {
  auto device = std::make_shared<acl::Device>(runtime, index);
  const std::string chip = device->soc();
  const Soc& soc = soc_of_chip(chip);
  auto context = std::make_shared<acl::Context>(std::move(device));
  // Where steps are only counted, the twin has more than the chip.
  const uint64_t memory_bytes = log != nullptr ? soc.memory_bytes : context->memory().total_bytes;
  auto hardware = std::make_shared<Hardware>(std::move(context), soc, kernels_path);
  hardware->only_counts = log != nullptr;
  DeviceInfo info = {.name = std::move(name),
                     .description = is_twin ? chip + ", a model of the chip" : chip,
                     .memory_bytes = memory_bytes,
                     .kv_dtypes = {DType::f16, DType::bf16, DType::f32, DType::i8}};
  if (log != nullptr) {
    return std::make_unique<CountingTwin>(std::move(hardware), std::move(info), std::move(log));
  }
  return std::make_unique<AscendDevice>(std::move(hardware), std::move(info), is_twin);
}

// Compiled kernels: of the setting, else beside the program, where the build leaves them, or in
// ../lib/ridge, where `make install` does.
struct KernelsFile {
  std::string path;
  std::string missing;  // where there are none: what was looked for
};
KernelsFile find_kernels_file() {
  const char* chosen = std::getenv(kernels_setting);
  std::error_code ignored;
  if (chosen != nullptr && *chosen != '\0') {
    // The runtime takes absolute paths only.
    if (std::filesystem::exists(chosen, ignored)) {
      return {std::filesystem::absolute(chosen, ignored).string(), {}};
    }
    return {{}, fmt::format("{} names {}, which is not there", kernels_setting, chosen)};
  }
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  for (const std::filesystem::path& folder :
       {program.parent_path(), program.parent_path().parent_path() / "lib" / "ridge"}) {
    const std::filesystem::path path = folder / kernels_file;
    if (std::filesystem::exists(path, ignored)) return {path.string(), {}};
  }
  return {{}, fmt::format("there are no kernels for Ascend beside {}", program.string())};
}

int device_index(std::string_view variant) {
  if (variant.empty()) return 0;
  int index = 0;
  const auto [end, error] =
      std::from_chars(variant.data(), variant.data() + variant.size(), index);
  if (error != std::errc() || end != variant.data() + variant.size() || index < 0) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("device ascend:{}: behind the colon stands a device's number, as in "
                            "ascend:0",
                            variant));
  }
  return index;
}

// The twin as its runtime knows it. A process has one runtime, and so one chip at a time.
std::shared_ptr<acl::Runtime> twin_runtime(const std::string& chip) {
  static std::mutex mutex;
  static std::weak_ptr<acl::Runtime> alive;
  static std::string alive_chip;
  const std::lock_guard lock(mutex);
  if (auto runtime = alive.lock()) {
    if (chip == alive_chip) return runtime;
    throw Error(ErrorCode::unsupported,
                fmt::format("ascend-twin:{}: this process already has a twin of {}; it can have one "
                            "chip at a time",
                            chip, alive_chip));
  }
  ridge_ascend_twin_set("soc", chip.c_str());
  auto runtime = std::make_shared<acl::Runtime>(
      acl::Library::linked("the twin's libascendcl", &twin_acl::find_entry_point));
  alive = runtime;
  alive_chip = chip;
  return runtime;
}

}  // namespace

std::unique_ptr<Device> open(std::string_view variant, const DeviceOptions&) {
  const int index = device_index(variant);
  const std::shared_ptr<acl::Runtime> runtime = acl::Runtime::open();
  const KernelsFile kernels = find_kernels_file();
  if (!kernels.missing.empty()) {
    throw Error(ErrorCode::not_found, fmt::format("{}: {}", kernels.missing, kernels_advice));
  }
  return make_device(runtime, index, kernels.path, fmt::format("ascend:{}", index),
                     /*is_twin=*/false);
}

DeviceFinding examine(const acl::ExaminedPlaces& places) {
  DeviceFinding finding = acl::examine(places);
  if (finding.state != DeviceState::ready) return finding;
  const KernelsFile kernels = find_kernels_file();
  if (kernels.missing.empty()) return finding;
  finding.state = DeviceState::lacking;
  finding.found += ", but " + kernels.missing;
  finding.advice = kernels_advice;
  return finding;
}

namespace {
std::unique_ptr<Device> make_twin(std::string_view variant, bool only_counts) {
  const char* chosen = std::getenv("RIDGE_ASCEND_TWIN_SOC");
  if (variant.empty()) variant = chosen != nullptr && *chosen != '\0' ? chosen : "910B2";
  const Soc& soc = find_soc(variant);
  const std::string chip(soc.short_name);
  if (!only_counts) {
    log::warning("ascend-twin:{} is a model of the chip that this machine's processor executes one "
                 "instruction after the other: exact, and some thousand times slower than the chip",
                 chip);
  }
  // Before the device is set up, whose memory hangs on it.
  auto log = only_counts ? std::make_unique<LaunchLog>(soc) : nullptr;
  return make_device(twin_runtime(chip), /*index=*/0, twin_acl::kernels_path,
                     fmt::format("ascend-twin:{}", chip), /*is_twin=*/true, std::move(log));
}
}  // namespace

std::unique_ptr<Device> open_twin(std::string_view variant, const DeviceOptions&) {
  return make_twin(variant, /*only_counts=*/false);
}

std::unique_ptr<Device> open_counting_twin(std::string_view variant) {
  return make_twin(variant, /*only_counts=*/true);
}

}  // namespace ridge::backend::ascend

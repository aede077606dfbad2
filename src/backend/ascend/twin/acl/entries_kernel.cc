// Entry points of kernels, and the table of all entry points.
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "backend/ascend/twin/acl/enqueue.h"
#include "backend/ascend/twin/acl/entry_points.h"
#include "backend/ascend/twin/acl/world.h"

namespace ridge::backend::ascend::twin_acl {
namespace {

twin::KernelImage find_image(const World& all, const char* name, const char* call) {
  const auto added = all.kernels.find(std::string_view(name));
  if (added != all.kernels.end()) return added->second;
  if (const twin::KernelImage* image = twin::find_kernel(name)) return *image;
  throw Failure{status::invalid_parameter,
                fmt::format("{}: none of the twin's {} kernels is called '{}'", call,
                            all.kernels.size() + twin::kernels().size(), name)};
}

void check_shape(const FunctionState& function, const Soc& soc, uint32_t blocks,
                 const abi::LaunchConfig* config, const char* call) {
  if (blocks == 0) {
    throw Failure{status::runtime_invalid_parameter,
                  fmt::format("{}: {} on 0 blocks; 1 or more would be right", call,
                              function.image.name)};
  }
  for (size_t i = 0; config != nullptr && i < config->count; ++i) {
    const abi::LaunchAttribute& attribute = config->attributes[i];
    if (attribute.id != 1) {
      throw Failure{status::runtime_feature_unsupported,
                    fmt::format("{}: the twin does not know attribute {}", call, attribute.id)};
    }
    const uint32_t cores = twin::cores_of(soc, function.image.core_type);
    if (attribute.value.schedule_mode == 1 && blocks > cores) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("{}: {} is to start {} blocks together, and {} has {} cores for it",
                                call, function.image.name, blocks, soc.name, cores)};
    }
  }
}

twin::LaunchOptions launch_options(const Chip& chip) {
  twin::LaunchOptions options;
  options.soc = chip.soc;
  options.memory = chip.memory.get();
  if (setting("schedule") == "delayed") options.schedule = twin::Schedule::delayed;
  options.seed = std::strtoull(setting("seed").c_str(), nullptr, 10);
  options.count_only = setting("count_only") == "1";
  options.timeline = options.count_only;
  return options;
}

double run_kernel(Chip& chip, const twin::KernelImage& image, uint32_t blocks,
                  const std::vector<std::byte>& arguments, const char* call) {
  std::shared_ptr<const twin::LaunchReport> report;
  try {
    const std::shared_lock use(chip.use);
    const twin::LaunchOptions options = launch_options(chip);
    const auto run = [&] {
      return std::make_shared<const twin::LaunchReport>(
          twin::launch(image, blocks, arguments, options));
    };
    report = options.count_only ? counted_launches().find(image, blocks, arguments, run) : run();
  } catch (const Error& error) {
    throw Failure{status::runtime_invalid_parameter,
                  fmt::format("{}: kernel {}: {}", call, image.name, error.message())};
  }
  if (const LaunchObserver observer = launch_observer()) observer(image, blocks, report);
  if (!report->ok()) {
    throw Failure{status::core_exception,
                  fmt::format("{}: kernel {}: {}", call, image.name, report->text())};
  }
  return report->microseconds;
}

void launch_on(World& all, const FunctionState& function, uint32_t blocks,
               abi::StreamHandle stream_handle, const abi::LaunchConfig* config,
               std::vector<std::byte> arguments, const char* call) {
  const auto stream = all.stream(stream_handle, call);
  Chip& chip = all.chip(stream->device, call);
  check_shape(function, *chip.soc, blocks, config, call);
  const size_t wanted = twin::argument_bytes * static_cast<size_t>(function.image.arguments);
  if (arguments.size() != wanted) {
    throw Failure{status::runtime_invalid_parameter,
                  fmt::format("{}: {} takes {} arguments of 8 bytes, and was given {} bytes", call,
                              function.image.name, function.image.arguments, arguments.size())};
  }
  enqueue(*stream, [&chip, image = function.image, blocks, arguments = std::move(arguments), call] {
    return run_kernel(chip, image, blocks, arguments, call);
  });
}

}  // namespace

CountedLaunches::Report CountedLaunches::find(const twin::KernelImage& image, uint32_t blocks,
                                              std::span<const std::byte> arguments,
                                              const std::function<Report()>& count) {
  constexpr uint64_t line_bytes = 512;
  std::vector<uint64_t> key(arguments.size() / twin::argument_bytes);
  std::memcpy(key.data(), arguments.data(), key.size() * twin::argument_bytes);
  for (size_t i = 0; i + 1 < key.size(); ++i) key[i] %= line_bytes;
  const std::lock_guard lock(mutex_);
  key.push_back(blocks);
  key.push_back(kernels_.try_emplace(image.name, kernels_.size()).first->second);
  Report& report = reports_[key];
  if (report == nullptr) report = count();
  return report;
}

void CountedLaunches::forget() {
  const std::lock_guard lock(mutex_);
  reports_.clear();
}

CountedLaunches& counted_launches() {
  static auto* all = new CountedLaunches;
  return *all;
}

extern "C" {

abi::Status aclrtBinaryLoadFromFile(const char* path, abi::BinaryLoadOptions*,
                                    abi::BinaryHandle* binary) {
  constexpr const char* call = "aclrtBinaryLoadFromFile";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto [handle, context] = all.context(call);
    if (std::strcmp(path, kernels_path) != 0) {
      if (!std::filesystem::path(path).is_absolute()) {
        throw Failure{status::invalid_parameter,
                      fmt::format("{}: {} is no absolute path", call, path)};
      }
      std::error_code ignored;
      const bool is_there = std::filesystem::exists(path, ignored);
      throw Failure{is_there ? status::invalid_file : status::file_not_opened,
                    fmt::format("{}: {} {}; the twin runs the kernels that were compiled against it, "
                                "as '{}'",
                                call, path,
                                is_there ? "is not for the twin" : "is not there", kernels_path)};
    }
    auto state = std::make_shared<BinaryState>();
    state->device = context->device;
    *binary = all.binaries.add(std::move(state));
  });
}

abi::Status aclrtBinaryUnLoad(abi::BinaryHandle binary) {
  return releasing_entry("aclrtBinaryUnLoad", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    all.binaries.take(binary, "aclrtBinaryUnLoad");
    std::erase_if(all.functions.all(),
                  [&](const auto& item) { return item.second->binary == binary; });
  });
}

abi::Status aclrtBinaryGetFunction(abi::BinaryHandle binary, const char* name,
                                   abi::FunctionHandle* function) {
  constexpr const char* call = "aclrtBinaryGetFunction";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    all.binaries.find(binary, call);
    auto state = std::make_shared<FunctionState>();
    state->binary = binary;
    state->image = find_image(all, name, call);
    *function = all.functions.add(std::move(state));
  });
}

abi::Status aclrtKernelArgsInit(abi::FunctionHandle function, abi::ArgumentsHandle* arguments) {
  return entry("aclrtKernelArgsInit", [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    all.functions.find(function, "aclrtKernelArgsInit");
    auto state = std::make_shared<ArgumentsState>();
    state->function = function;
    *arguments = all.arguments.add(std::move(state));
  });
}

abi::Status aclrtKernelArgsAppend(abi::ArgumentsHandle arguments, void* value, size_t bytes,
                                  abi::ParameterHandle* parameter) {
  constexpr const char* call = "aclrtKernelArgsAppend";
  return entry(call, [&] {
    const std::lock_guard lock(world().mutex);
    const auto list = world().arguments.find(arguments, call);
    if (list->is_final || bytes != twin::argument_bytes) {
      throw Failure{status::runtime_invalid_parameter,
                    list->is_final
                        ? fmt::format("{}: the list is final already", call)
                        : fmt::format("{}: of {} bytes; the twin takes 8 for each", call, bytes)};
    }
    const auto* from = static_cast<const std::byte*>(value);
    list->bytes.insert(list->bytes.end(), from, from + bytes);
    *parameter = reinterpret_cast<abi::ParameterHandle>(list->bytes.size() / bytes);
  });
}

abi::Status aclrtKernelArgsFinalize(abi::ArgumentsHandle arguments) {
  return entry("aclrtKernelArgsFinalize", [&] {
    const std::lock_guard lock(world().mutex);
    world().arguments.find(arguments, "aclrtKernelArgsFinalize")->is_final = true;
  });
}

abi::Status aclrtLaunchKernelWithConfig(abi::FunctionHandle function, uint32_t blocks,
                                        abi::StreamHandle stream, abi::LaunchConfig* config,
                                        abi::ArgumentsHandle arguments, void*) {
  constexpr const char* call = "aclrtLaunchKernelWithConfig";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto of = all.functions.find(function, call);
    // ACL owns the list and gives no way to end it; one is for one launch.
    const auto list = all.arguments.take(arguments, call);
    if (list->function != function || !list->is_final) {
      throw Failure{status::runtime_invalid_parameter,
                    fmt::format("{}: the arguments are {}", call,
                                list->is_final ? "another kernel's"
                                               : "not final; aclrtKernelArgsFinalize comes first")};
    }
    launch_on(all, *of, blocks, stream, config, std::move(list->bytes), call);
  });
}

abi::Status aclrtLaunchKernelWithHostArgs(abi::FunctionHandle function, uint32_t blocks,
                                          abi::StreamHandle stream, abi::LaunchConfig* config,
                                          void* arguments, size_t bytes, abi::PlaceHolder*,
                                          size_t place_count) {
  constexpr const char* call = "aclrtLaunchKernelWithHostArgs";
  return entry(call, [&] {
    World& all = world();
    const std::lock_guard lock(all.mutex);
    const auto of = all.functions.find(function, call);
    if (place_count != 0) {
      throw Failure{status::runtime_feature_unsupported,
                    fmt::format("{}: the twin takes no place holders", call)};
    }
    const auto* from = static_cast<const std::byte*>(arguments);
    launch_on(all, *of, blocks, stream, config, {from, from + bytes}, call);
  });
}

}  // extern "C"

void* find_entry_point(const char* name) {
#define RIDGE_ACL_FIND(result, function, parameters) \
  if (std::strcmp(name, #function) == 0) return reinterpret_cast<void*>(&abi::function);
  RIDGE_ACL_FUNCTIONS(RIDGE_ACL_FIND)
  RIDGE_ACL_OPTIONAL_FUNCTIONS(RIDGE_ACL_FIND)
#undef RIDGE_ACL_FIND
  return nullptr;
}

}  // namespace ridge::backend::ascend::twin_acl

#include "cli/device_options.h"

#include "cli/config.h"
#include "cli/prepared_weights.h"
#include "cli/progress.h"
#include "platform/resolve.h"

namespace ridge::cli {

std::optional<bool> mixed_precision(const std::string& name) {
  if (name == "auto") return std::nullopt;
  return name == "mixed";
}

void add_expert_memory_setting(CLI::App& command, int64_t& mib) {
  add_setting(command, "expert-memory-mib", mib,
              "Memory for experts; the others stay in the file and are read when they are used. -1: "
              "all are held where the model fits in memory")
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40));
}

std::optional<uint64_t> expert_bytes(int64_t mib) {
  if (mib < 0) return std::nullopt;
  return static_cast<uint64_t>(mib) << 20;
}

void add_device_options(CLI::App& command, DeviceChoice& choice) {
  command.add_option("--device", choice.device, device_description)
      ->capture_default_str();
  command
      .add_option("-t,--threads", choice.threads, "Threads; 0 for as many as this process may use")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command.add_option("--cpu-isa", choice.isa,
                     "An instruction set below the machine's best, such as avx2");
  command.add_option("--precision", choice.precision, precision_description)
      ->check(CLI::IsMember(precision_names))
      ->capture_default_str();
  add_setting(command, "prepared-cache", choice.prepared_cache, prepared_cache_description);
  add_expert_memory_setting(command, choice.expert_memory_mib);
  add_placement_settings(command, choice.pin_threads, choice.huge_pages);
}

namespace {

void add_toggle(CLI::App& command, const std::string& flag, backend::Toggle& toggle,
                const std::string& description) {
  const auto set = [&toggle](const std::string& word) {
    toggle = word == "on"    ? backend::Toggle::on
             : word == "off" ? backend::Toggle::off
                             : backend::Toggle::automatic;
  };
  command.add_option_function<std::string>("--" + flag, set, description)
      ->check(CLI::IsMember({"auto", "on", "off"}))
      ->default_str("auto")
      ->envname(environment_name(flag));
}

}  // namespace

void add_placement_settings(CLI::App& command, backend::Toggle& pin_threads,
                            backend::Toggle& huge_pages) {
  add_toggle(command, "pin-threads", pin_threads,
             "Keep each thread on one processor: auto, on or off. auto pins where the threads take "
             "all processors and these have several last-level caches");
  add_toggle(command, "huge-pages", huge_pages,
             "Huge pages for weights and the KV cache: auto asks the system, on fails where it "
             "gives none, off refuses them");
}

void add_kv_dtype_setting(CLI::App& command, std::optional<DType>& dtype) {
  command
      .add_option_function<std::string>(
          "--kv-dtype", [&dtype](const std::string& name) { dtype = dtype_from_name(name); },
          "How keys and values are kept: f16, bf16, f32, i8 in about half the memory, or auto: f16, but bf16 in mixed "
          "precision where AMX is much faster with it")
      ->check(CLI::IsMember({"auto", "f16", "bf16", "f32", "i8"}, CLI::ignore_case))
      ->default_str("auto")
      ->envname(environment_name("kv-dtype"));
}

backend::DeviceOptions to_device_options(const DeviceChoice& choice) {
  return {.threads = choice.threads,
          .isa = choice.isa,
          .pin_threads = choice.pin_threads,
          .huge_pages = choice.huge_pages};
}

void add_lora_option(CLI::App& command, std::string& lora) {
  command
      .add_option("--lora", lora,
                  "A LoRA adapter, GGUF or PEFT folder, that changes the model: PATH[,scale=S]")
      ->type_name("PATH");
}

std::unique_ptr<engine::LoadedModel> load_model(
    Context& context, const std::string& name, const DeviceChoice& choice,
    const std::vector<engine::AdapterSource>& adapters) {
  const auto reference = platform::ModelReference::parse(name);
  const platform::ResolvedModel model =
      platform::resolve(reference, context.catalog(), context.store());
  engine::LoadOptions options;
  options.prepared =
      prepared_store(context, model, choice.prepared_cache, choice.threads, NoteKept::at_the_end);
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  options.adapters = adapters;
  options.device = choice.device;
  options.device_options = to_device_options(choice);
  options.mixed_precision = mixed_precision(choice.precision);
  options.expert_bytes = expert_bytes(choice.expert_memory_mib);
  options.progress = [&](int64_t done_bytes, int64_t total_bytes) {
    progress.update("loading " + model.name, done_bytes, total_bytes);
  };
  return engine::LoadedModel::load(model.path, options);
}

}  // namespace ridge::cli

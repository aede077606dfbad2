#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "backend/registry.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/config.h"
#include "cli/machine.h"
#include "cli/rank_processes.h"
#include "cli/set_up_checks.h"
#include "communicator/mpi.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct DoctorOptions {
  int threads = 0;
  std::string isa;
  bool skip_measuring = false;
  SetUp set_up;
  std::string config;
};

Json look_at_device(const std::string& device_name, const DoctorOptions& options, bool measures) {
  Json body = {{"device", device_name}};
  try {
    const auto device =
        backend::open_device(device_name, {.threads = options.threads, .isa = options.isa});
    const backend::DeviceInfo& info = device->info();
    body["name"] = info.name;
    body["description"] = info.description;
    body["threads"] = info.threads;
    body["threads_pinned"] = info.threads_pinned;
    body["huge_pages"] = info.huge_pages;
    body["memory_bytes"] = info.memory_bytes;
    for (const DType dtype : info.kv_dtypes) body["kv_dtypes"].push_back(name(dtype));
    if (measures) {
      const backend::DeviceLimits limits = device->measure_limits();
      if (limits.read_bytes_per_second > 0)
        body["read_bytes_per_second"] = limits.read_bytes_per_second;
      if (limits.flops_per_second > 0) body["flops_per_second"] = limits.flops_per_second;
    }
  } catch (const Error& error) {
    body["error"] = error.message();
  }
  return body;
}

// Beside the processor, which look_at_devices opens.
std::vector<Check> check_devices() {
  std::vector<Check> checks;
  for (const backend::DeviceFinding& finding : backend::examine_devices()) {
    const bool is_lacking = finding.state == backend::DeviceState::lacking;
    checks.push_back({finding.subject, is_lacking ? Verdict::look_at : Verdict::ok, finding.found,
                      finding.advice});
  }
  return checks;
}

// What ranks need, and nothing else.
Check check_mpi() {
  const bool has_library = communicator::has_mpi();
  const bool has_starter = has_mpirun();
  if (has_library && has_starter) return {"MPI", Verdict::ok, "Open MPI, for 'ridge serve --ranks'", {}};
  if (!has_library && !has_starter) {
    return {"MPI", Verdict::ok, "none; only 'ridge serve --ranks' needs it (openmpi-bin)", {}};
  }
  return {"MPI", Verdict::look_at,
          fmt::format("{} is there without {}", has_library ? "libmpi.so.40" : "mpirun",
                      has_library ? "mpirun" : "libmpi.so.40"),
          communicator::mpi_advice};
}

Json look_at_devices(const DoctorOptions& options) {
  Json devices = Json::array();
  for (const std::string& name : backend::device_names()) {
    // Only what a model would run on; the reference is there to be right, not fast.
    const bool measures = devices.empty() && !options.skip_measuring;
    devices.push_back(look_at_device(name, options, measures));
  }
  return devices;
}

// Each token reads every weight once, so that the speed of memory bounds the speed of one answer.
Json look_at_models(Context& context, const Machine& machine, double read_bytes_per_second) {
  Json models = Json::array();
  const platform::MachineRoom room = room_of(context, machine);
  for (const platform::CatalogModel& model : context.catalog().models()) {
    for (const platform::CatalogQuantization& quantization : model.quantizations) {
      const platform::CatalogChoice choice{&model, &quantization};
      const bool is_here = context.store().find(choice.name()).has_value();
      const platform::ModelFit fit = platform::fit_of(quantization.size_bytes, is_here, room);
      Json body = {{"name", choice.name()},
                   {"quantization", quantization.name},
                   {"size_bytes", quantization.size_bytes},
                   {"is_default", quantization.name == model.default_quantization},
                   {"is_here", is_here},
                   {"fits_memory", fit.fits_memory_now},
                   {"fits_disk", fit.fits_disk},
                   {"fits", platform::name(fit.fit)},
                   {"needs_bytes", fit.needs_bytes},
                   {"why", fit.why}};
      if (read_bytes_per_second > 0) {
        body["expected_tokens_per_second"] =
            read_bytes_per_second / static_cast<double>(quantization.size_bytes);
      }
      models.push_back(std::move(body));
    }
  }
  return models;
}

Json what_is_lacking(const Machine& machine, const Json& devices, const Json& models,
                     int64_t free_bytes) {
  Json lacking = Json::array();
  for (const Json& device : devices) {
    if (device.contains("error")) {
      lacking.push_back(fmt::format("device {} cannot be used: {}",
                                    device["device"].get<std::string>(),
                                    device["error"].get<std::string>()));
    }
  }
  if (devices.empty() || devices[0]["device"] == "reference") {
    lacking.push_back("no fast back end: only the reference, which is slow, can compute here");
  }
  if (machine.cpus < machine.cpus_of_machine) {
    lacking.push_back(fmt::format("this process may use {} of the machine's {} processors",
                                  machine.cpus, machine.cpus_of_machine));
  }
  const auto fits = [](const Json& model) { return model["fits_memory"].get<bool>(); };
  if (std::none_of(models.begin(), models.end(), fits)) {
    lacking.push_back(
        fmt::format("memory: {} are free, less than the smallest model of the catalog needs",
                    format_bytes(machine.memory_available_bytes)));
  }
  const auto is_reachable = [](const Json& model) { return model["fits_disk"].get<bool>(); };
  if (std::none_of(models.begin(), models.end(), is_reachable)) {
    lacking.push_back(fmt::format("disk: {} are free in the store, too few for any model",
                                  format_bytes(free_bytes)));
  }
  return lacking;
}

std::string speed_text(const Json& model) {
  if (!model.contains("expected_tokens_per_second")) return "";
  const double speed = model["expected_tokens_per_second"];
  return speed >= 10 ? fmt::format("{:.0f} tokens/s", speed)
                     : fmt::format("{:.1f} tokens/s", speed);
}

std::string machine_text(const Json& report) {
  const Json& machine = report["machine"];
  std::string text = fmt::format(
      "Processor   {}\n"
      "Cores       {} usable of {}\n"
      "Memory      {} free of {}\n"
      "System      {}\n"
      "Store       {}, {} free\n",
      printable(machine["processor"].get<std::string>()), machine["cpus"].get<int>(),
      machine["cpus_of_machine"].get<int>(), format_bytes(machine["memory_available_bytes"]),
      format_bytes(machine["memory_bytes"]), printable(machine["system"].get<std::string>()),
      printable(report["store"]["path"].get<std::string>()),
      format_bytes(report["store"]["free_bytes"]));
  for (const Json& device : report["devices"]) {
    // An opened device names itself more exactly: "cpu:avx512_vnni".
    text +=
        fmt::format("Device      {}", device.value("name", device["device"].get<std::string>()));
    if (device.contains("threads")) {
      const int threads = device["threads"];
      text += fmt::format(", {} {}", threads, threads == 1 ? "thread" : "threads");
    }
    if (device.contains("read_bytes_per_second")) {
      text +=
          fmt::format(", reads {:.1f} GB/s", device["read_bytes_per_second"].get<double>() / 1e9);
    }
    if (device.contains("flops_per_second")) {
      text += fmt::format(", {:.0f} GFLOP/s", device["flops_per_second"].get<double>() / 1e9);
    }
    text += '\n';
  }
  // Of the device that a model would run on.
  if (report["devices"].empty()) return text;
  const Json& device = report["devices"].front();
  if (device.contains("threads_pinned")) {
    text += fmt::format("Placement   threads {} (--pin-threads), huge pages {} (--huge-pages)\n",
                        device["threads_pinned"].get<bool>() ? "pinned" : "not pinned",
                        device["huge_pages"].get<bool>() ? "asked for" : "not to be had");
  }
  if (device.contains("kv_dtypes")) {
    const auto dtypes = device["kv_dtypes"].get<std::vector<std::string>>();
    text += fmt::format("KV cache    {} (--kv-dtype)\n", fmt::join(dtypes, ", "));
  }
  return text;
}

std::string models_text(const Context& context, const Json& models) {
  Table table(
      {{"MODEL"}, {"SIZE", Alignment::right}, {"HERE"}, {"FITS"}, {"AT MOST", Alignment::right}});
  for (const Json& model : models) {
    if (!model["is_default"].get<bool>() && !model["is_here"].get<bool>()) continue;
    const bool fits_memory = model["fits_memory"];
    const bool fits_disk = model["fits_disk"];
    table.add_row({model["name"], format_bytes(model["size_bytes"]),
                   model["is_here"].get<bool>() ? "yes" : "",
                   fits_memory && fits_disk ? "yes"
                   : !fits_memory           ? "no: memory"
                                            : "no: disk",
                   fits_memory ? speed_text(model) : ""});
  }
  return table.to_string(context.terminal(), Stream::output);
}

// Before the data folder is opened, as they say where it is.
std::vector<Check> read_settings(CLI::App& app, CLI::App& command, DoctorOptions& options) {
  std::vector<Check> checks;
  if (options.config.empty()) return checks;
  const std::string subject = "configuration";
  try {
    apply_config_file(command, options.config, UnknownKeys::skip);
    // Each key and value, as the server would take it.
    apply_config_file(*app.get_subcommand("serve"), options.config);
    checks.push_back({subject, Verdict::ok, options.config, {}});
  } catch (const Error& error) {
    checks.push_back({subject, Verdict::wrong, std::string(error.message()),
                      "the server would not start; see 'ridge serve --help'"});
  }
  return checks;
}

Json json_of(const std::vector<Check>& checks) {
  Json all = Json::array();
  for (const Check& check : checks) {
    all.push_back({{"subject", check.subject},
                   {"verdict", name(check.verdict)},
                   {"found", check.found},
                   {"advice", check.advice.empty() ? Json(nullptr) : Json(check.advice)}});
  }
  return all;
}

std::string checks_text(const Context& context, const std::vector<Check>& checks) {
  const auto style_of = [](Verdict verdict) {
    return verdict == Verdict::ok        ? Style::green
           : verdict == Verdict::look_at ? Style::yellow
                                         : Style::red;
  };
  std::string text = "\n";
  for (const Check& check : checks) {
    text += context.terminal().styled(Stream::output, style_of(check.verdict),
                                      fmt::format("{:<8}", name(check.verdict)));
    text += fmt::format(" {:<14} {}\n", check.subject, printable(check.found));
    if (!check.advice.empty()) text += fmt::format("{:24}-> {}\n", "", printable(check.advice));
  }
  return text;
}

void examine(Context& context, const DoctorOptions& options, std::vector<Check> checks) {
  std::ranges::move(check_set_up(context, options.set_up), std::back_inserter(checks));
  std::ranges::move(check_devices(), std::back_inserter(checks));
  checks.push_back(check_mpi());
  const auto is_wrong = [](const Check& check) { return check.verdict == Verdict::wrong; };
  if (std::ranges::any_of(checks, is_wrong)) context.exit_code = ExitCode::failure;
  const Machine machine = look_at_machine();
  if (!options.skip_measuring) context.note("measuring ...");
  const Json devices = look_at_devices(options);
  double read_bytes_per_second = 0;
  if (!devices.empty()) read_bytes_per_second = devices[0].value("read_bytes_per_second", 0.0);
  const int64_t free_bytes = context.store().free_bytes();
  const Json models = look_at_models(context, machine, read_bytes_per_second);
  const Json report = {
      {"machine",
       {{"processor", machine.processor},
        {"cpus", machine.cpus},
        {"cpus_of_machine", machine.cpus_of_machine},
        {"memory_bytes", machine.memory_bytes},
        {"memory_available_bytes", machine.memory_available_bytes},
        {"system", machine.system}}},
      {"devices", devices},
      {"store", {{"path", context.store().root().string()}, {"free_bytes", free_bytes}}},
      {"models", models},
      {"checks", json_of(checks)},
      {"lacking", what_is_lacking(machine, devices, models, free_bytes)}};
  if (context.json) {
    context.print(report.dump(2, ' ', false, Json::error_handler_t::replace));
    return;
  }
  std::string text = machine_text(report) + "\n" + models_text(context, models);
  text += checks_text(context, checks);
  if (report["lacking"].empty()) {
    text += "\nNothing is lacking.";
  } else {
    text += "\nLacking:";
    for (const Json& line : report["lacking"]) text += "\n  " + printable(line.get<std::string>());
  }
  context.print(text);
}

}  // namespace

void add_doctor_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("doctor", "Look at this machine and at a server's set-up");
  command->group(other_group);
  command->footer(
      "The speed of a model is the most that memory allows for one answer: measured bandwidth "
      "divided by the\n"
      "model's size. What fits is judged by the memory and the disk that are free now.\n"
      "\n"
      "Of the set-up, each line is ok, to look at, or wrong, with what to do. Run it as the user of "
      "the server\n"
      "and with its settings: ridge doctor --config /etc/ridge/ridge.toml. The exit code is 1 where "
      "something is wrong.");
  auto options = std::make_shared<DoctorOptions>();
  command->add_option("-t,--threads", options->threads, "Threads to measure with; 0 for all")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  command->add_option("--cpu-isa", options->isa,
                      "A lower instruction set than the best of this machine");
  command->add_flag("--no-measure", options->skip_measuring,
                    "Leave the measurement of a few seconds out");
  SetUp& set_up = options->set_up;
  add_database_options(*command, set_up.database);
  add_setting(*command, "host", set_up.host, "The server's address");
  CLI::Option* port = add_setting(*command, "port", set_up.port, "The server's port");
  add_setting(*command, "tls-cert", set_up.tls_certificate, "Its certificate chain")
      ->type_name("FILE");
  add_setting(*command, "tls-key", set_up.tls_key, "The certificate's key")->type_name("FILE");
  add_setting(*command, "max-connections", set_up.max_connections, "Connections at once")
      ->check(CLI::Range(1, 1 << 20));
  command->add_option("--config", options->config, "The server's settings, a TOML file")
      ->envname("RIDGE_CONFIG")
      ->type_name("FILE");
  command->callback([&app, &context, command, options, port] {
    std::vector<Check> checks = read_settings(app, *command, *options);
    options->set_up.is_port_chosen = port->count() > 0;
    examine(context, *options, std::move(checks));
  });
}

}  // namespace ridge::cli

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/config.h"
#include "cli/device_options.h"
#include "cli/identity_access.h"
#include "cli/model_loading.h"
#include "cli/oidc_options.h"
#include "cli/prepared_weights.h"
#include "cli/rank_processes.h"
#include "cli/rank_start.h"
#include "cli/server_record.h"
#include "engine/residency.h"
#include "platform/batch/batches.h"
#include "platform/batch/files.h"
#include "platform/identity/authenticator.h"
#include "platform/identity/sessions.h"
#include "platform/kept/request_keeper.h"
#include "platform/metering/meter.h"
#include "platform/metering/retention.h"
#include "platform/metering/server_slot.h"
#include "server/console_files.h"
#include "server/server.h"
#include "text/tool_style.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

struct ServeOptions : ModelLoading {
  std::vector<std::string> models;
  std::string precision = "auto";
  std::string config;
  DatabaseChoice database;
  OidcChoice oidc;
  std::string log_level = "info";
  int64_t kv_cache_mib = 0;
  int64_t expert_memory_mib = -1;  // as expert_bytes
  std::string draft_model;
  std::vector<std::string> lora;
  int64_t kv_spill_mib = 0;
  std::string kv_spill_folder;
  bool no_prefix_cache = false;
  bool no_speculation = false;
  bool no_mtp = false;
  RankChoice rank_choice;
  server::ServerOptions server;
  int max_body_mib = 8;
  std::string files_dir;
  int max_file_mib = 200;
  int max_project_files_mib = 10 * 1024;
  int drain_s = 30;
  int stall_s = 120;
  int usage_retention_days = 0;
  int max_project_kept_mib = 1024;
};

// For each thread of the server that asks the database, one, or some wait while others wait for its
// lock: those that check keys (what has changed, keys that are known, strangers), sessions,
// passwords and providers; two of handlers; two of the meter; the directory of endpoints; batches;
// the sweeper of files; the watch for what is revoked; retention; two of what is kept.
const platform::DatabaseOptions database_options{.connections = 17,
                                                     .most = std::chrono::seconds(15)};

// What knows who asks, and counts what is used.
struct KeyCheck {
  KeyCheck(Context& context, IdentityAccess& access, const Clock& clock,
           const ServeOptions& options)
      : authenticator(access.identity, clock),
        slot(context.store().root() / "metering"),
        meter(platform::Ledger(access.database, slot.server_id()), {.spool = slot.spool_path()}),
        keeper(
            platform::KeptRequests(access.database, int64_t{options.max_project_kept_mib} << 20)) {
    for (const auto& dead :
         platform::ServerSlot::left_behind(context.store().root() / "metering")) {
      // Its beginning ends what was left, and there is nothing else to do.
      platform::Meter(platform::Ledger(access.database, dead.server_id()),
                      {.spool = dead.spool_path()});
    }
    if (options.usage_retention_days > 0) {
      retention.emplace(access.database, options.usage_retention_days);
    }
  }

  platform::Authenticator authenticator;
  platform::ServerSlot slot;
  platform::Meter meter;
  platform::RequestKeeper keeper;
  std::optional<platform::UsageRetention> retention;
};

struct ServedEndpoints {
  explicit ServedEndpoints(const std::shared_ptr<IdentityAccess>& given)
      : access(given), endpoints(given->database), directory(endpoints) {}

  std::shared_ptr<IdentityAccess> access;  // outlives the others
  platform::Endpoints endpoints;
  platform::EndpointDirectory directory;
};

// Null where keys are not asked for and there is no database, which then is no more than missed.
std::shared_ptr<IdentityAccess> open_database(Context& context, const ServeOptions& options) {
  if (!options.server.no_auth) {
    return std::make_shared<IdentityAccess>(context, options.database, database_options);
  }
  context.note("no key is asked for (--no-auth): whoever can use this machine may use the models");
  try {
    return std::make_shared<IdentityAccess>(context, options.database, database_options);
  } catch (const Error& error) {
    log::warning("serving without a database, so that nothing can be kept in it: {}",
                 error.message());
    return nullptr;
  }
}

std::shared_ptr<platform::Files> open_files(Context& context, const ServeOptions& options,
                                            std::shared_ptr<IdentityAccess> access) {
  const std::filesystem::path folder = files_folder(context, options.files_dir);
  const platform::FileLimits limits{
      .most_file_bytes = int64_t{options.max_file_mib} << 20,
      .most_project_bytes = int64_t{options.max_project_files_mib} << 20};
  auto files = std::make_unique<platform::Files>(access->database, folder, limits);
  // The database outlives them.
  return {files.release(), [access](const platform::Files* gone) { delete gone; }};
}

void warn_without_keys(IdentityAccess& access) {
  const auto keys = access.identity.keys();
  if (std::ranges::all_of(
          keys, [](const platform::ApiKey& key) { return key.revoked_at_ms.has_value(); })) {
    log::warning(
        "there are no keys yet, and every request needs one; make one with 'ridge key create "
        "NAME', "
        "or serve this machine alone with --no-auth");
  }
}

void say_how_to_talk(const Context& context, const std::string& url, bool asks_for_keys,
                     const std::vector<std::string>& models,
                     const std::optional<std::string>& set_up_token) {
  if (context.json) {
    Json greeting = {{"url", url}, {"base_url", url + "/v1"}, {"models", models}};
    if (set_up_token) greeting["set_up_token"] = *set_up_token;
    context.print(greeting.dump());
    return;
  }
  const bool has_console = !server::console_files().empty();
  if (set_up_token && has_console) {
    context.print(fmt::format(
        "Nobody can sign in yet. Whoever opens this link first, within a day, becomes the owner:\n\n"
        "  {}/#/set-up?token={}\n\n"
        "So does, on this machine, 'ridge user create NAME --role owner' with 'ridge user password "
        "NAME'.\n",
        url, *set_up_token));
  } else if (set_up_token) {
    context.print(fmt::format(
        "Nobody can sign in yet. 'ridge user create NAME --role owner' and 'ridge user password "
        "NAME'\nmake an owner; so does who sends, once and within a day, to {}/api/v1/set-up\n"
        "  {{\"token\": \"{}\", \"name\": ..., \"password\": ...}}\n",
        url, *set_up_token));
  }
  std::string names;
  for (const std::string& model : models) names += (names.empty() ? "" : ", ") + printable(model);
  context.print(
      fmt::format("Serving {0} on {1}\n\n"
                  "  curl {1}/v1/chat/completions -H 'Content-Type: application/json' \\\n{3}"
                  "    -d '{{\"model\": \"{2}\", \"messages\": [{{\"role\": \"user\", \"content\": "
                  "\"Hello!\"}}]}}'\n\n"
                  "OpenAI clients: base_url {1}/v1, {4}, model {0}\n{5}"
                  "Stop it with Ctrl-C.",
                  names, url, printable(models.front()),
                  asks_for_keys ? "    -H \"Authorization: Bearer $RIDGE_API_KEY\" \\\n" : "",
                  asks_for_keys ? "your api_key (ridge key create NAME)" : "any api_key",
                  has_console ? fmt::format("In a browser: {}/\n", url) : ""));
}

server::ServerOptions server_options(const ServeOptions& options) {
  server::ServerOptions server = options.server;
  server.max_body_bytes = static_cast<std::size_t>(options.max_body_mib) << 20;
  server.drain_timeout = std::chrono::seconds(options.drain_s);
  server.stall_timeout = std::chrono::seconds(options.stall_s);
  server.handle_signals = true;
  return server;
}

void serve(Context& context, ServeOptions& options) {
  if (!options.database.data_dir.empty()) context.home = options.database.data_dir;
  log::set_level(log::level_from_name(options.log_level));
  signal(SIGPIPE, SIG_IGN);  // a reader of ours that goes away must not end the server
  options.engine.kv_cache_bytes = static_cast<uint64_t>(options.kv_cache_mib) << 20;
  options.engine.expert_bytes = expert_bytes(options.expert_memory_mib);
  options.engine.kv_spill_bytes = static_cast<uint64_t>(options.kv_spill_mib) << 20;
  options.engine.kv_spill_folder = options.kv_spill_folder;
  options.engine.prefix_cache = !options.no_prefix_cache;
  options.engine.speculation = !options.no_speculation;
  options.engine.mtp = !options.no_mtp;
  options.engine.mixed_precision = mixed_precision(options.precision);
  const server::ServerOptions server_choice = server_options(options);
  std::vector<Choice> choices = find_models(context, options.models);
  add_adapters(choices, options.lora);
  if (!options.draft_model.empty()) {
    if (choices.size() != 1) {
      throw Error(ErrorCode::invalid_argument, "--draft-model goes with one model");
    }
    options.engine.draft_model = find_models(context, {options.draft_model}).front().model.path;
  }
  const SteadyClock clock;
  const std::shared_ptr<IdentityAccess> access = open_database(context, options);
  server::PlatformAccess platform;
  platform.oidc = oidc_provider(options.oidc);
  if (access) {
    platform.database = {access, &access->database};
    platform.identity = {access, &access->identity};
    const auto endpoints = std::make_shared<ServedEndpoints>(access);
    platform.endpoint_directory = {endpoints, &endpoints->directory};
    platform.sessions = std::make_shared<platform::Sessions>(
        access->database, platform::SessionOptions{.has_provider = platform.oidc != nullptr});
    platform.files = open_files(context, options, access);
    platform.batches = std::make_shared<platform::Batches>(access->database, *platform.files);
  }
  std::shared_ptr<platform::Authenticator> authenticator;
  std::shared_ptr<platform::Meter> meter;
  if (!options.server.no_auth) {
    const auto check = std::make_shared<KeyCheck>(context, *access, clock, options);
    warn_without_keys(*access);
    authenticator = {check, &check->authenticator};
    meter = {check, &check->meter};
    platform.keeper = {check, &check->keeper};
  }
  // An address that cannot be had is said before minutes of loading, not after.
  { const server::Server probe(server_choice, {}, authenticator); }

  std::shared_ptr<RankProcesses> ranks;
  if (options.rank_choice.ranks > 0) {
    ranks = start_ranks(context, choices, options, options.rank_choice, options.precision,
                        options.log_level);
    options.ranks = ranks;
  }

  std::vector<api::ServedModel> loaded;
  if (!options.is_on_demand()) loaded = load_now(context, choices, options);
  engine::Residency residency({.budget_bytes = residency_bytes(options),
                               .sleep_after = std::chrono::seconds(options.sleep_after_s)},
                              clock);
  std::vector<api::ServedModel> models = std::move(loaded);
  if (options.is_on_demand()) models = load_on_demand(context, choices, options, residency);
  for (api::ServedModel& model : load_pulled(context, options, models, residency)) {
    models.push_back(std::move(model));
  }
  platform.supply = model_supply(context, options, residency);
  std::vector<std::string> names;
  for (const api::ServedModel& model : models) names.push_back(model.name);
  platform::Sessions* const sessions = authenticator ? platform.sessions.get() : nullptr;
  server::Server server(server_choice, std::move(models), authenticator, meter,
                        std::move(platform));
  // Whoever has it becomes the first owner; null where there is one.
  const auto set_up_token = sessions == nullptr ? std::nullopt : sessions->new_set_up_link();
  const ServerRecordFile record(context.store().root() / "run", server.url(), names);
  if (server_choice.insecure_http) {
    log::warning("keys that other machines send to {} travel in the clear", server.url());
  }
  say_how_to_talk(context, server.url(), authenticator != nullptr, names, set_up_token);
  std::fflush(stdout);
  if (ranks) ranks->on_failure([&server](const Error&) { server.stop(); });
  // The ranks outlive the server, and may fail while it goes.
  const auto take_back = [](RankProcesses* told) { told->on_failure([](const Error&) {}); };
  const std::unique_ptr<RankProcesses, decltype(take_back)> until_here(ranks.get(), take_back);
  server.run();
  if (ranks && ranks->failure()) throw Error(*ranks->failure());
  context.note("stopped");
}

void add_engine_settings(CLI::App& command, ServeOptions& options) {
  engine::EngineOptions& engine = options.engine;
  add_setting(command, "device", engine.device, device_description);
  add_setting(command, "threads", engine.threads,
              "Threads that compute; 0 for all this process may use")
      ->check(CLI::Range(0, 1024));
  add_setting(command, "cpu-isa", engine.isa,
              "A lower instruction set than the best of this machine");
  add_setting(command, "precision", options.precision, precision_description)
      ->check(CLI::IsMember(precision_names));
  add_setting(command, "prepared-cache", options.prepared_cache, prepared_cache_description);
  add_setting(command, "ranks", options.rank_choice.ranks,
              "Share one model among so many processes, which Open MPI joins; 0: this one computes "
              "it. --threads are then those of each, by default its part of the processors")
      ->check(CLI::Range(0, most_ranks));
  add_setting(command, "hosts", options.rank_choice.hosts,
              "Machines for --ranks, this one first, as mpirun reaches them")
      ->delimiter(',')
      ->allow_extra_args(false);
  add_setting(command, "context", engine.context_tokens,
              "Tokens of prompt and answer together; 0 for the model's own, at most 32768")
      ->check(CLI::NonNegativeNumber);
  add_setting(command, "max-sequences", engine.max_sequences, "Answers that are made at once")
      ->check(CLI::Range(1, 1024));
  add_setting(command, "max-queued", engine.max_queued,
              "Requests that may wait; more are answered 429")
      ->check(CLI::Range(1, 1 << 20));
  add_setting(command, "step-tokens", engine.step_tokens, "Tokens that one step may read")
      ->check(CLI::Range(1, 1 << 16));
  add_placement_settings(command, engine.pin_threads, engine.huge_pages);
  add_kv_dtype_setting(command, engine.kv_dtype);
  add_expert_memory_setting(command, options.expert_memory_mib);
  add_setting(command, "kv-cache-mib", options.kv_cache_mib,
              "Memory for the KV cache; 0 to choose it")
      ->check(CLI::NonNegativeNumber);
  add_setting(command, "itl-target-ms", engine.itl_target_ms,
              "Between two tokens of an answer, while other prompts are read; 0 for the fastest "
              "prompts")
      ->check(CLI::Range(0.0, 60000.0));
  add_setting(command, "no-prefix-cache", options.no_prefix_cache,
              "Read every prompt whole, also where it begins like an earlier one");
  add_setting(command, "kv-spill-mib", options.kv_spill_mib,
              "Keep prefixes that the KV cache has no room for, in so much memory or disk")
      ->check(CLI::NonNegativeNumber);
  add_setting(command, "kv-spill-folder", options.kv_spill_folder,
              "A folder for them; without it they are kept in memory");
  add_setting(
      command, "batch-invariant", engine.batch_invariant,
      "The same request gets the same answer to the last bit, alone or among others; slower "
      "over long contexts");
  add_setting(
      command, "draft-model", options.draft_model,
      "A small model of the same vocabulary that guesses answers, for the one that is served");
  // A path may have commas, so that one value names one adapter.
  add_setting(command, "lora", options.lora,
              "A LoRA adapter, GGUF or PEFT folder, that requests name as their model: "
              "NAME=PATH[,scale=S][,base=MODEL]; once for each")
      ->allow_extra_args(false)
      ->type_name("NAME=PATH");
  add_setting(command, "no-speculation", options.no_speculation,
              "Do not guess how an answer goes on (guesses change its speed alone)");
  add_setting(command, "no-mtp", options.no_mtp,
              "Do not load a model's layer for multi-token prediction, which guesses, and takes "
              "memory");
}

// Given once for each value, or with commas; a model's name behind it is not taken for one more.
void add_list_setting(CLI::App& command, const std::string& flag, std::vector<std::string>& list,
                      const std::string& description) {
  add_setting(command, flag, list, description)->delimiter(',')->allow_extra_args(false);
}

void add_text_settings(CLI::App& command, ServeOptions& options) {
  add_setting(command, "tool-style", options.tool_style,
              "How the model writes calls of tools; auto to see it in its chat template")
      ->check(CLI::IsMember({"auto", "hermes", "llama3", "deepseek", "qwen3_coder"}));
}

void add_server_settings(CLI::App& command, ServeOptions& options) {
  server::ServerOptions& server = options.server;
  add_setting(command, "host", server.host, "Address to listen on");
  add_setting(command, "port", server.port, "Port to listen on; 0 for any free one");
  add_list_setting(command, "cors-origin", server.cors_origins,
                   "A web origin whose pages may call; '*' for all");
  add_list_setting(command, "allow-host", server.allowed_hosts,
                   "A further name under which this server is reached; '*' for all");
  add_setting(command, "no-auth", server.no_auth,
              "Ask for no key; only on an address of this machine alone");
  add_list_setting(command, "trusted-proxy", server.trusted_proxies,
                   "An address or range of what stands in front with TLS, as 10.1.0.0/16: it alone "
                   "may pass requests on, and is believed for whom (X-Forwarded-For)");
  add_setting(command, "tls-cert", server.tls_certificate,
              "Speak TLS with this certificate chain (PEM); SIGHUP reads it anew")
      ->type_name("FILE");
  add_setting(command, "tls-key", server.tls_key, "The certificate's private key (PEM)")
      ->type_name("FILE");
  add_setting(command, "insecure-http", server.insecure_http,
              "Listen where other machines can reach it, though keys then travel in the clear");
  add_setting(command, "otlp-traces", server.otlp_traces,
              "Send a trace of each request to this OpenTelemetry collector, over OTLP/HTTP: "
              "http://127.0.0.1:4318");
  add_setting(command, "max-connections", server.max_connections, "Connections at once")
      ->check(CLI::Range(1, 1 << 20));
  add_setting(command, "text-threads", server.text_threads,
              "Threads that read requests and encode prompts; one group never holds all of several")
      ->check(CLI::Range(1, 64));
  add_setting(command, "max-body-mib", options.max_body_mib, "Largest request")
      ->check(CLI::Range(1, 1024));
  add_setting(command, "files-dir", options.files_dir,
              "Where clients' files are kept, for batches; else files in --data-dir. Servers that "
              "share a database share it")
      ->type_name("DIR");
  add_setting(command, "max-file-mib", options.max_file_mib, "Largest file of a client")
      ->check(CLI::Range(1, 1 << 20));
  add_setting(command, "max-project-files-mib", options.max_project_files_mib,
              "What a project's files may have together")
      ->check(CLI::Range(1, 1 << 30));
  add_setting(command, "batch-lines", server.batch_lines,
              "Requests of batches that are answered at once, while there are no others; 0: this "
              "server runs no batches")
      ->check(CLI::Range(0, 1024));
  add_setting(
      command, "model-memory-mib", options.model_memory_mib,
      "Load models when they are asked for, and keep so much of them, weights and KV cache; 0 "
      "loads all at the start")
      ->check(CLI::NonNegativeNumber);
  add_setting(command, "sleep-after-s", options.sleep_after_s,
              "Load models when they are asked for, and unload those unused for so long; 0 never")
      ->check(CLI::NonNegativeNumber);
  add_list_setting(command, "pin", options.pinned,
                   "A model that is loaded at the start and stays, where others come and go");
  add_setting(command, "usage-retention-days", options.usage_retention_days,
              "Remove the ledger's records that are older; 0 keeps them. Limits do not change")
      ->check(CLI::Range(0, 36500));
  add_setting(
      command, "max-project-kept-mib", options.max_project_kept_mib,
      "What a project that keeps prompts and answers may keep together; the oldest go first")
      ->check(CLI::Range(1, 1 << 30));
  add_setting(command, "drain-s", options.drain_s,
              "Seconds for running requests once asked to stop")
      ->check(CLI::Range(0, 86400));
  add_setting(command, "stall-s", options.stall_s,
              "Seconds without a step while there is work, after which /v1/health/live is 503; more "
              "for models whose steps last longer")
      ->check(CLI::Range(1, 86400));
}

}  // namespace

void add_serve_command(CLI::App& app, Context& context) {
  CLI::App* command = app.add_subcommand("serve", "Serve models over an OpenAI-compatible API");
  command->group(use_group);
  command->footer(
      "Each option is also a key of the TOML file that --config names ('_' for '-'; models = "
      "[...]), and an\n"
      "environment variable (--max-queued is RIDGE_MAX_QUEUED). The command line goes before the "
      "environment,\n"
      "the environment before the file.\n"
      "\n"
      "Where a request says nothing, DeepSeek-R1 and its distills sample with temperature 0.6 and "
      "top_p 0.95,\n"
      "as their makers advise, other models with 1 and 1. SIGINT and SIGTERM let running requests "
      "end.");
  auto options = std::make_shared<ServeOptions>();
  command->add_option("MODEL", options->models, "Catalog names, hf:... or paths to GGUF files")
      ->envname("RIDGE_MODELS");
  add_server_settings(*command, *options);
  add_engine_settings(*command, *options);
  add_text_settings(*command, *options);
  add_database_options(*command, options->database);
  add_oidc_settings(*command, options->oidc);
  add_setting(*command, "log-level", options->log_level, "debug, info, warning or error");
  command->add_option("--config", options->config, "Settings from a TOML file")
      ->envname("RIDGE_CONFIG")
      ->type_name("FILE");
  command->callback([&context, command, options] {
    if (!options->config.empty()) apply_config_file(*command, options->config);
    serve(context, *options);
  });
}

}  // namespace ridge::cli

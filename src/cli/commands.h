#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "cli/context.h"

namespace ridge::cli {

// Headings of `ridge --help`, in its order.
inline constexpr const char* use_group = "Use a model";
inline constexpr const char* team_group = "Keys and users";
inline constexpr const char* operations_group = "Operations";
inline constexpr const char* model_group = "Models on this machine";
inline constexpr const char* measure_group = "Measure and check";
inline constexpr const char* other_group = "Other";

// What this program starts itself with to try clients' grammars; no command for people.
inline constexpr const char* grammar_checker_command = "check-grammars";

// What mpirun starts as each rank of `ridge serve --ranks`; likewise. Returns the exit code.
inline constexpr const char* rank_command = "rank-worker";
int run_as_rank(int argc, char** argv);

// Each adds one subcommand, whose callback does the work and throws ridge::Error where it cannot.
void add_run_command(CLI::App& app, Context& context);
void add_serve_command(CLI::App& app, Context& context);
void add_ps_command(CLI::App& app, Context& context);
void add_key_command(CLI::App& app, Context& context);
void add_project_command(CLI::App& app, Context& context);
void add_user_command(CLI::App& app, Context& context);
void add_endpoint_command(CLI::App& app, Context& context);
void add_limit_command(CLI::App& app, Context& context);
void add_price_command(CLI::App& app, Context& context);
void add_usage_command(CLI::App& app, Context& context);
void add_audit_command(CLI::App& app, Context& context);
void add_backup_command(CLI::App& app, Context& context);
void add_restore_command(CLI::App& app, Context& context);
void add_doctor_command(CLI::App& app, Context& context);
void add_pull_command(CLI::App& app, Context& context);
void add_list_command(CLI::App& app, Context& context);
void add_show_command(CLI::App& app, Context& context);
void add_convert_command(CLI::App& app, Context& context);
void add_imatrix_command(CLI::App& app, Context& context);
void add_quantize_command(CLI::App& app, Context& context);
void add_rm_command(CLI::App& app, Context& context);
void add_verify_command(CLI::App& app, Context& context);
void add_bench_command(CLI::App& app, Context& context);
void add_plan_command(CLI::App& app, Context& context);
void add_profile_command(CLI::App& app, Context& context);
void add_logits_command(CLI::App& app, Context& context);
void add_tokenize_command(CLI::App& app, Context& context);
void add_completion_command(CLI::App& app, Context& context);

}  // namespace ridge::cli

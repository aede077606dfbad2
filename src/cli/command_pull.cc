#include "cli/commands.h"
namespace ridge::cli {
void add_pull_command(CLI::App&, Context&) {}
}

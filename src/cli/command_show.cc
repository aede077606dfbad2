#include "cli/commands.h"
namespace ridge::cli {
void add_show_command(CLI::App&, Context&) {}
}
